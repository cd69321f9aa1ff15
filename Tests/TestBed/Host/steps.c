/* Loaded into an agent (LD_PRELOAD): counts the steps that it makes to the outside, and ends it at one of them as kill -9 does.
 *
 * A step is a QMP command ("qmp NAME"), a netlink message ("netlink"), a durable file ("file NAME"), a process ("spawn NAME") or a
 * write to a TCP connection ("net"). ROMULUS_STEPS names a file that the test has mapped as well: it says which process is looked
 * at, and at which step that one ends, before the step or once it is done (of a QMP command: when QEMU's answer has come, before
 * the agent has seen it).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { steps_max = 8000, name_size = 56 };

struct steps {
    _Atomic int pid;      /* who is looked at; 0: nobody */
    int occurrence;       /* which step of that name ends it; 0: none */
    int is_after;         /* once the step is done */
    _Atomic int count;    /* steps made */
    char name[name_size]; /* of the step that ends it */
    char made[steps_max][name_size];
};

static struct steps *steps;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* The QMP command whose answer ends this process: its connection and its id. */
static _Atomic int awaited_socket = -1;
static char awaited_id[32];

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("ROMULUS_STEPS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, sizeof *steps, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED) steps = found;
}

static int is_watched(void) { return steps && atomic_load(&steps->pid) == getpid(); }

static void end(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Notes a step; 1 when it is the one that ends this process. */
static int is_last(const char *kind, const char *name, size_t length) {
    char step[name_size] = {0};
    snprintf(step, sizeof step, "%s%s%.*s", kind, length ? " " : "", (int)length, name);
    pthread_mutex_lock(&lock);
    int count = atomic_load(&steps->count), occurrence = 1;
    for (int index = 0; index < count; index++) occurrence += !strcmp(steps->made[index], step);
    if (count < steps_max) {
        memcpy(steps->made[count], step, sizeof step);
        atomic_store(&steps->count, count + 1);
    }
    int found = !strcmp(steps->name, step) && steps->occurrence == occurrence;
    pthread_mutex_unlock(&lock);
    return found;
}

/* A step that is over when its call returns: 1 when the process ends after it. */
static int enter(const char *kind, const char *path) {
    if (!is_watched()) return 0;
    const char *slash = path ? strrchr(path, '/') : NULL;
    const char *name = slash ? slash + 1 : path ? path : "";
    if (!is_last(kind, name, strlen(name))) return 0;
    if (!steps->is_after) end();
    return 1;
}

static int family(int socket) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    return getsockname(socket, (struct sockaddr *)&address, &size) == 0 ? address.ss_family : AF_UNSPEC;
}

/* Of the QMP commands in these bytes, where the one begins before which the process ends; -1 where there is none. */
static ssize_t look(int socket, const char *bytes, size_t size) {
    static const char key[] = "{\"execute\":\"";
    const char *at = bytes, *limit = bytes + size;
    while (at < limit && (at = memmem(at, limit - at, key, sizeof key - 1))) {
        const char *name = at + sizeof key - 1;
        const char *quote = memchr(name, '"', limit - name);
        if (!quote) return -1;
        if (is_last("qmp", name, quote - name)) {
            if (!steps->is_after) return at - bytes;
            const char *line = memchr(at, '\n', limit - at);
            const char *id = line ? line : limit;
            while (id > at && (id[-1] == '}' || id[-1] == ' ')) id--;
            const char *digits = id;
            while (digits > at && digits[-1] >= '0' && digits[-1] <= '9') digits--;
            snprintf(awaited_id, sizeof awaited_id, "\"id\": %.*s", (int)(id - digits), digits);
            atomic_store(&awaited_socket, socket);
        }
        at = quote;
    }
    return -1;
}

ssize_t send(int socket, const void *bytes, size_t size, int flags) {
    static ssize_t (*real)(int, const void *, size_t, int);
    if (!real) real = dlsym(RTLD_NEXT, "send");
    if (!is_watched()) return real(socket, bytes, size, flags);
    int isNetlink = family(socket) == AF_NETLINK, ends = isNetlink && enter("netlink", NULL);
    ssize_t last = isNetlink ? -1 : look(socket, bytes, size);
    if (last == 0) end();
    ssize_t sent = real(socket, bytes, last > 0 ? (size_t)last : size, flags);
    if (last > 0 || ends) end();
    return sent;
}

ssize_t sendto(
    int socket, const void *bytes, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    static ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    if (!real) real = dlsym(RTLD_NEXT, "sendto");
    int ends = is_watched() && family(socket) == AF_NETLINK && enter("netlink", NULL);
    ssize_t sent = real(socket, bytes, size, flags, address, length);
    if (ends) end();
    return sent;
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags) {
    static ssize_t (*real)(int, const struct msghdr *, int);
    if (!real) real = dlsym(RTLD_NEXT, "sendmsg");
    if (!is_watched()) return real(socket, message, flags);
    int kind = family(socket), ends = 0;
    if (kind == AF_NETLINK) ends = enter("netlink", NULL);
    if (kind == AF_INET || kind == AF_INET6) ends = enter("net", NULL);
    ssize_t last = -1;
    if (kind == AF_UNIX && message->msg_iovlen == 1)
        last = look(socket, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len);
    if (last == 0) end();
    if (last > 0) {
        struct iovec part = {message->msg_iov[0].iov_base, (size_t)last};
        struct msghdr shorter = *message;
        shorter.msg_iov = &part;
        real(socket, &shorter, flags);
        end();
    }
    ssize_t sent = real(socket, message, flags);
    if (ends) end();
    return sent;
}

ssize_t recv(int socket, void *bytes, size_t size, int flags) {
    static ssize_t (*real)(int, void *, size_t, int);
    if (!real) real = dlsym(RTLD_NEXT, "recv");
    ssize_t count = real(socket, bytes, size, flags);
    if (count > 0 && socket == atomic_load(&awaited_socket)) {
        size_t length = strlen(awaited_id);
        const char *found = memmem(bytes, count, awaited_id, length);
        if (found && (found + length == (char *)bytes + count || found[length] < '0' || found[length] > '9')) end();
    }
    return count;
}

static int is_net(int file) {
    if (!is_watched()) return 0;
    int kind = family(file);
    return kind == AF_INET || kind == AF_INET6;
}

ssize_t write(int file, const void *bytes, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    int ends = is_net(file) && enter("net", NULL);
    ssize_t count = real(file, bytes, size);
    if (ends) end();
    return count;
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real) real = dlsym(RTLD_NEXT, "writev");
    int ends = is_net(file) && enter("net", NULL);
    ssize_t written = real(file, parts, count);
    if (ends) end();
    return written;
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "rename");
    int ends = enter("file", to);
    int result = real(from, to);
    if (ends) end();
    return result;
}

int posix_spawnp(
    pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
    char *const words[], char *const variables[]) {
    static int (*real)(
        pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
        char *const[]);
    if (!real) real = dlsym(RTLD_NEXT, "posix_spawnp");
    int ends = enter("spawn", file);
    int result = real(pid, file, actions, attributes, words, variables);
    if (ends) end();
    return result;
}
