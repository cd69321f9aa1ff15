/* A stream in bulk: one line in, then as many bytes as the connection takes, in one direction.
 *
 *   send       -> zeros, until the client hangs up
 *   receive    -> takes what comes, until the client hangs up */
#include "guest.h"

enum { chunk = 256 << 10 };
static char bytes[chunk];

static void session(int fd) {
    char line[64];
    if (read_line(fd, line, sizeof line) < 0) return;
    if (strcmp(line, "send") == 0)
        while (write_all(fd, bytes, sizeof bytes) == 0) {}
    else if (strcmp(line, "receive") == 0)
        for (ssize_t got = 1; got > 0 || (got < 0 && errno == EINTR);) got = read(fd, bytes, sizeof bytes);
    else
        reply(fd, "error: send or receive\n");
}

int main(int count, char **arguments) {
    serve((uint16_t)(count > 1 ? atoi(arguments[1]) : 11), session);
}
