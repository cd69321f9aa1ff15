#define _GNU_SOURCE
#include "sockets.h"
#include <string.h>

ssize_t rml_send(int socket, const void *bytes, size_t count, const int *descriptors, int descriptor_count) {
    if (descriptor_count < 0 || descriptor_count > RML_DESCRIPTORS_MAX) return -EINVAL;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * RML_DESCRIPTORS_MAX)];
    struct iovec part = {(void *)bytes, count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor_count > 0) {
        size_t length = sizeof(int) * (size_t)descriptor_count;
        memset(control, 0, sizeof control);
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(length);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(length);
        memcpy(CMSG_DATA(header), descriptors, length);
    }
    return rml_result(sendmsg(socket, &message, MSG_NOSIGNAL));
}

ssize_t rml_send_both(
    int socket, const void *first, size_t first_count, const void *second, size_t second_count, bool waits) {
    struct iovec parts[2] = {{(void *)first, first_count}, {(void *)second, second_count}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    return rml_result(sendmsg(socket, &message, MSG_NOSIGNAL | (waits ? 0 : MSG_DONTWAIT)));
}

ssize_t rml_receive(int socket, void *bytes, size_t count, int *descriptors, int descriptor_max, int *descriptor_count) {
    *descriptor_count = 0;
    if (descriptor_max < 0 || descriptor_max > RML_DESCRIPTORS_MAX) return -EINVAL;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * RML_DESCRIPTORS_MAX)];
    struct iovec part = {bytes, count};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t received = rml_result(recvmsg(socket, &message, MSG_CMSG_CLOEXEC));
    if (received < 0) return received;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t total = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < total; i++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
            if (*descriptor_count < descriptor_max) {
                descriptors[(*descriptor_count)++] = descriptor;
            } else {
                close(descriptor);
            }
        }
    }
    return received;
}

static int unix_socket(const char *path, struct sockaddr_un *address) {
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof address->sun_path) return -ENAMETOOLONG;
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, length);
    return (int)rml_result(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

int rml_unix_connect(const char *path) {
    struct sockaddr_un address;
    int descriptor = unix_socket(path, &address);
    if (descriptor < 0) return descriptor;
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) < 0) {
        int failure = -errno;
        close(descriptor);
        return failure;
    }
    return descriptor;
}

int rml_unix_listen(const char *path, int backlog) {
    struct sockaddr_un address;
    int descriptor = unix_socket(path, &address);
    if (descriptor < 0) return descriptor;
    if (bind(descriptor, (struct sockaddr *)&address, sizeof address) < 0 || listen(descriptor, backlog) < 0) {
        int failure = -errno;
        close(descriptor);
        return failure;
    }
    return descriptor;
}

int rml_accept(int socket) { return (int)rml_result(accept4(socket, NULL, NULL, SOCK_CLOEXEC)); }

int rml_socket_pair(int descriptors[2]) {
    return (int)rml_result(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, descriptors));
}

int rml_peer(int socket, pid_t *pid, uid_t *user, gid_t *group) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return -errno;
    *pid = peer.pid;
    *user = peer.uid;
    *group = peer.gid;
    return 0;
}

int rml_netlink(int protocol) {
    return (int)rml_result(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
}
