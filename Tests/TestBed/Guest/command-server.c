/* Runs shell commands for the tests: one line in, "<exit code> <length>\n" and the output (both streams) back.
 *
 * Any number of lines on one connection. Output is cut at 1 MiB. */
#include "guest.h"

enum { output_max = 1 << 20 };
static char output[output_max];

static void session(int fd) {
    char line[4096];
    while (read_line(fd, line, sizeof line) >= 0) {
        int pipes[2];
        if (pipe2(pipes, O_CLOEXEC) < 0) fail("pipe2");
        pid_t child = fork();
        if (child == 0) {
            int nothing = open("/dev/null", O_RDONLY);
            dup2(nothing, 0);
            dup2(pipes[1], 1);
            dup2(pipes[1], 2);
            execl("/bin/sh", "sh", "-c", line, (char *)NULL);
            _exit(127);
        }
        close(pipes[1]);
        size_t length = 0;
        for (;;) {
            char spill[4096];
            int is_full = length == output_max;
            ssize_t got = read(pipes[0], is_full ? spill : output + length, is_full ? sizeof spill : output_max - length);
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) break;
            if (!is_full) length += (size_t)got;
        }
        close(pipes[0]);
        int status = 0;
        waitpid(child, &status, 0);
        int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (reply(fd, "%d %zu\n", code, length) < 0 || write_all(fd, output, length) < 0) return;
    }
}

int main(int count, char **arguments) {
    serve((uint16_t)(count > 1 ? atoi(arguments[1]) : 10), session);
}
