#pragma once
// Unix sockets: descriptors passed along with bytes, and who is at the other end; and the opening of netlink sockets.
//
// Why it exists: control messages are laid out by macros (CMSG_FIRSTHDR, CMSG_DATA), which Swift does not import; and
// errno must be folded (result.h).

#include "result.h"
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { RML_DESCRIPTORS_MAX = 16 };

// Sends bytes with up to RML_DESCRIPTORS_MAX descriptors attached to the first byte; never raises SIGPIPE.
ssize_t rml_send(int socket, const void *bytes, size_t count, const int *descriptors, int descriptor_count);

// Sends two pieces of bytes, one behind the other, as far as that goes now: -EAGAIN when the socket takes nothing, or, with
// `waits`, once it takes something. Never raises SIGPIPE.
ssize_t rml_send_both(
    int socket, const void *first, size_t first_count, const void *second, size_t second_count, bool waits);

// Receives bytes and up to `descriptor_max` descriptors (close-on-exec); `*descriptor_count` says how many came.
ssize_t rml_receive(int socket, void *bytes, size_t count, int *descriptors, int descriptor_max, int *descriptor_count);

// A connected stream socket; the path must be shorter than 108 bytes.
int rml_unix_connect(const char *path);
// A listening stream socket at a path that must not exist yet.
int rml_unix_listen(const char *path, int backlog);
int rml_accept(int socket);
int rml_socket_pair(int descriptors[2]);

// Process, user and group at the other end when the connection was made (SO_PEERCRED).
int rml_peer(int socket, pid_t *pid, uid_t *user, gid_t *group);

// A non-blocking netlink socket; without a bind the kernel numbers it when it first sends.
int rml_netlink(int protocol);
