/* What the guest's tools share: sockets, numbers and the record format of the disk ledger.
 *
 * The tools are linked statically and run from an initramfs, so they use nothing but libc. Every one of them
 * serves TCP clients on the guest LAN; none reads files of the host. Numbers on the wire are little-endian. */
#ifndef ROMULUS_GUEST_H
#define ROMULUS_GUEST_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline int listen_on(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (fd < 0) fail("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    if (listen(fd, 512) < 0) fail("listen");
    return fd;
}

static inline int accept_one(int listener) {
    int fd, one = 1;
    do fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd < 0) fail("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* Returns 0, or -1 when the other side is gone. */
static inline int write_all(int fd, const void *bytes, size_t count) {
    const char *at = bytes;
    while (count > 0) {
        ssize_t done = write(fd, at, count);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return -1;
        at += done;
        count -= (size_t)done;
    }
    return 0;
}

static inline int reply(int fd, const char *format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length < 0 || length >= (int)sizeof line) return -1;
    return write_all(fd, line, (size_t)length);
}

/* Reads up to and without '\n'. Returns the length, or -1 at the end of the stream or when the line is too long. */
static inline int read_line(int fd, char *line, int capacity) {
    int length = 0;
    for (;;) {
        char byte;
        ssize_t got = read(fd, &byte, 1);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return -1;
        if (byte == '\n') {
            line[length] = 0;
            return length;
        }
        if (length + 1 >= capacity) return -1;
        line[length++] = byte;
    }
}

/* The value of `name=` in a line of words, or the given default. */
static inline long long number_in(const char *line, const char *name, long long otherwise) {
    size_t length = strlen(name);
    for (const char *at = line; (at = strstr(at, name)) != NULL; at += length)
        if ((at == line || at[-1] == ' ') && at[length] == '=') return strtoll(at + length + 1, NULL, 0);
    return otherwise;
}

static inline int word_in(const char *line, const char *name, char *word, size_t capacity) {
    size_t length = strlen(name);
    for (const char *at = line; (at = strstr(at, name)) != NULL; at += length)
        if ((at == line || at[-1] == ' ') && at[length] == '=') {
            size_t size = strcspn(at + length + 1, " ");
            if (size >= capacity) return -1;
            memcpy(word, at + length + 1, size);
            word[size] = 0;
            return (int)size;
        }
    return -1;
}

static inline uint64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void sleep_until_ns(uint64_t when) {
    struct timespec target = {.tv_sec = (time_t)(when / 1000000000u), .tv_nsec = (long)(when % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &target, NULL) == EINTR) {}
}

/* SplitMix64: a full-period mixer, so that content follows from (position, generation) and need not be kept. */
static inline uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* CRC-32C, reflected polynomial 0x82f63b78, as in iSCSI; the verifier on the host computes the same. */
static inline uint32_t crc32c(const void *bytes, size_t count) {
    static uint32_t table[256];
    if (table[1] == 0)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++) value = (value >> 1) ^ ((value & 1) ? 0x82f63b78u : 0);
            table[i] = value;
        }
    uint32_t crc = ~0u;
    const uint8_t *at = bytes;
    while (count--) crc = (crc >> 8) ^ table[(crc ^ *at++) & 0xff];
    return ~crc;
}

/* Serves every client in a process of its own. */
static inline void serve(uint16_t port, void (*session)(int)) {
    int listener = listen_on(port);
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int fd = accept_one(listener);
        pid_t child = fork();
        if (child == 0) {
            close(listener);
            signal(SIGCHLD, SIG_DFL);
            session(fd);
            exit(0);
        }
        close(fd);
    }
}

#endif
