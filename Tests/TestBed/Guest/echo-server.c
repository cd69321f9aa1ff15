/* Sends back every byte it gets, to any number of clients, in one thread (epoll).
 *
 * A client that does not read is not read from either, so that memory stays bounded. */
#include "guest.h"
#include <sys/epoll.h>

enum { pending_max = 65536, events_max = 64 };

struct connection {
    int fd;
    uint32_t first, end;
    char pending[pending_max];
};

static int poller;

static void watch(struct connection *connection, uint32_t what) {
    struct epoll_event event = {.events = what, .data.ptr = connection};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event) < 0) fail("epoll_ctl");
}

static void forget(struct connection *connection) {
    close(connection->fd);
    free(connection);
}

/* Returns -1 when the connection is over. */
static int send_pending(struct connection *connection) {
    while (connection->first < connection->end) {
        ssize_t sent = send(connection->fd, connection->pending + connection->first,
                            connection->end - connection->first, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno == EAGAIN) return 0;
        if (sent <= 0) return -1;
        connection->first += (uint32_t)sent;
    }
    return 0;
}

static int receive(struct connection *connection) {
    ssize_t got = recv(connection->fd, connection->pending, pending_max, 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return 0;
    if (got <= 0) return -1;
    connection->first = 0;
    connection->end = (uint32_t)got;
    return send_pending(connection);
}

static void step(struct connection *connection) {
    int was_blocked = connection->first < connection->end;
    if ((was_blocked ? send_pending(connection) : receive(connection)) < 0) {
        forget(connection);
        return;
    }
    int is_blocked = connection->first < connection->end;
    if (is_blocked != was_blocked) watch(connection, is_blocked ? EPOLLOUT : EPOLLIN);
}

int main(int count, char **arguments) {
    uint16_t port = (uint16_t)(count > 1 ? atoi(arguments[1]) : 7);
    int listener = listen_on(port);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0) fail("epoll");
    for (;;) {
        struct epoll_event events[events_max];
        int ready = epoll_wait(poller, events, events_max, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr != NULL) {
                step(events[i].data.ptr);
                continue;
            }
            struct connection *connection = calloc(1, sizeof *connection);
            if (connection == NULL) fail("calloc");
            connection->fd = accept_one(listener);
            fcntl(connection->fd, F_SETFL, O_NONBLOCK);
            event = (struct epoll_event){.events = EPOLLIN, .data.ptr = connection};
            if (epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event) < 0) fail("epoll_ctl");
        }
    }
}
