/// The program that most tests attach to: it waits in ppoll for commands on its input and answers each with one line.
/// It is compiled by gcc when the tests run, so that it shares nothing with the process that watches it.
let toyProgram = #"""
    #define _GNU_SOURCE
    #include <errno.h>
    #include <fcntl.h>
    #include <linux/filter.h>
    #include <linux/seccomp.h>
    #include <poll.h>
    #include <pthread.h>
    #include <signal.h>
    #include <stddef.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/prctl.h>
    #include <sys/rseq.h>
    #include <sys/ptrace.h>
    #include <sys/syscall.h>
    #include <sys/time.h>
    #include <sys/wait.h>
    #include <time.h>
    #include <unistd.h>

    static volatile long alarms;
    static void on_alarm(int signal) { (void)signal; alarms++; }

    static void *spinner(void *unused) {
        (void)unused;
        for (volatile unsigned long i = 0;; i++) {}
        return NULL;
    }

    // Keeps integer and vector registers busy; the result depends on every round.
    static uint64_t compute(long rounds) {
        uint64_t a = 1, b = 2, c = 3, d = 5;
        double x = 1.0, y = 0.5;
        for (long i = 0; i < rounds; i++) {
            a = a * 6364136223846793005u + 1442695040888963407u;
            b ^= a >> 7; c += b * 31; d = (d << 13 | d >> 51) ^ c;
            x = x * 0.999999 + (double)(d & 15); y += x * 1e-9;
        }
        uint64_t bits;
        memcpy(&bits, &y, 8);
        return a ^ b ^ c ^ d ^ bits;
    }

    // A restartable sequence that lasts `rounds` turns of a loop. Returns 1 when it ran through, 0 when the kernel restarted
    // it, as it may; -1 when the kernel took the thread out of the sequence and yet let it run through.
    static int sequence(long rounds) {
        struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
        static struct rseq_cs descriptor;
        extern char sequence_begin[], sequence_end[], sequence_abort[];
        descriptor.start_ip = (uintptr_t)sequence_begin;
        descriptor.post_commit_offset = (uint64_t)(sequence_end - sequence_begin);
        descriptor.abort_ip = (uintptr_t)sequence_abort;
        int done = 0;
        uint64_t left = 0;
        *(volatile uint64_t *)&area->rseq_cs = (uintptr_t)&descriptor;
        __asm__ volatile(
            ".globl sequence_begin, sequence_end, sequence_abort\n"
            "sequence_begin: 1: dec %[rounds]; jnz 1b\n"
            "mov %[field], %[left]\n"
            "mov $1, %[done]\n"
            "sequence_end: jmp 2f\n"
            ".byte 0x0f, 0xb9, 0x3d\n.long 0x53053053\n"
            "sequence_abort: 2:\n"
            : [rounds] "+r"(rounds), [done] "+r"(done), [left] "+r"(left)
            : [field] "m"(area->rseq_cs)
            : "memory", "cc");
        *(volatile uint64_t *)&area->rseq_cs = 0;
        return done && left != (uintptr_t)&descriptor ? -1 : done;
    }

    static int forbid_userfaultfd(unsigned action) {
        struct sock_filter code[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, action),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {sizeof code / sizeof *code, code};
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    }

    int main(int count, char **arguments) {
        const char *kind = arguments[1];
        size_t length = (size_t)atol(arguments[2]) << 20;
        (void)count;
        char *memory;
        int file = -1;
        if (!strcmp(kind, "file") || !strcmp(kind, "sealed")) {
            file = memfd_create("toy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
            if (ftruncate(file, (off_t)length) < 0) return 1;
            if (!strcmp(kind, "sealed") && fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) return 1;
            memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        } else if (!strcmp(kind, "hugetlb")) {
            file = memfd_create("toy", MFD_CLOEXEC | MFD_HUGETLB);
            if (ftruncate(file, (off_t)length) < 0) return 1;
            memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        } else if (!strcmp(kind, "shared")) {
            memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        } else {
            // A gap on both sides keeps the mapping from growing together with a neighbour.
            size_t huge = 2 << 20;
            char *space = mmap(NULL, length + 3 * huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            memory = (char *)(((uintptr_t)space + 2 * huge - 1) & ~(huge - 1));
            mprotect(memory, length, PROT_READ | PROT_WRITE);
            madvise(memory, length, strcmp(kind, "huge") ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
        }
        if (memory == MAP_FAILED) return 1;
        setvbuf(stdout, NULL, _IOLBF, 0);
        printf("%lx %zu\n", (unsigned long)memory, length);

        static char line[65536];
        size_t have = 0;
        for (;;) {
            char *end;
            while (!(end = memchr(line, '\n', have))) {
                struct pollfd input = {0, POLLIN, 0};
                struct timespec limit = {3600, 0};
                if (ppoll(&input, 1, &limit, NULL) < 0) {
                    if (errno == EINTR) continue;
                    return 2;
                }
                ssize_t got = read(0, line + have, sizeof line - have);
                if (got <= 0) return 0;
                have += (size_t)got;
            }
            *end = 0;
            char *next = line;
            char *verb = strsep(&next, " ");
            long argument[2] = {0, 0};
            if (next && strcmp(verb, "write")) sscanf(next, "%ld %ld", &argument[0], &argument[1]);

            if (!strcmp(verb, "fill")) {
                for (size_t i = 0; i < length; i += 4096) memset(memory + i, 1 + (int)(i >> 12) % 251, 4096);
                puts("done");
            } else if (!strcmp(verb, "write")) {
                // write VALUE PAGE...
                int value = atoi(strsep(&next, " "));
                for (char *page; (page = strsep(&next, " "));) memset(memory + 4096 * atol(page), value, 4096);
                puts("done");
            } else if (!strcmp(verb, "look")) {
                volatile char *byte = memory + 4096 * argument[0];
                printf("%d\n", *byte);
            } else if (!strcmp(verb, "receive")) {
                // receive PAGE COUNT: the kernel writes, not this program.
                int zero = open("/dev/zero", O_RDONLY);
                ssize_t got = read(zero, memory + 4096 * argument[0], (size_t)(4096 * argument[1]));
                close(zero);
                printf("%zd\n", got);
            } else if (!strcmp(verb, "discard")) {
                printf("%d\n", madvise(memory + 4096 * argument[0], (size_t)(4096 * argument[1]), MADV_DONTNEED));
            } else if (!strcmp(verb, "punch")) {
                int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
                printf("%d\n", fallocate(file, mode, 4096 * argument[0], 4096 * argument[1]));
            } else if (!strcmp(verb, "unmap")) {
                printf("%d\n", munmap(memory, length));
            } else if (!strcmp(verb, "compute")) {
                puts("started");
                printf("%lx\n", (unsigned long)compute(argument[0]));
            } else if (!strcmp(verb, "sequences")) {
                // sequences COUNT ROUNDS: how many ran through, how many were torn.
                long through = 0, torn = 0;
                puts("started");
                for (long i = 0; i < argument[0]; i++) {
                    int result = sequence(argument[1]);
                    through += result == 1;
                    torn += result == -1;
                }
                printf("%ld %ld\n", through, torn);
            } else if (!strcmp(verb, "sleep")) {
                struct timespec limit = {argument[0] / 1000, argument[0] % 1000 * 1000000}, from, to;
                puts("started");
                clock_gettime(CLOCK_MONOTONIC, &from);
                int result = ppoll(NULL, 0, &limit, NULL);
                int error = result < 0 ? errno : 0;
                clock_gettime(CLOCK_MONOTONIC, &to);
                printf("%d %d %ld\n", result, error,
                    (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000);
            } else if (!strcmp(verb, "alarms")) {
                struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
                sigaction(SIGALRM, &action, NULL);
                struct itimerval often = {{0, argument[0]}, {0, argument[0]}};
                setitimer(ITIMER_REAL, &often, NULL);
                printf("%ld\n", alarms);
            } else if (!strcmp(verb, "threads")) {
                for (long i = 0; i < argument[0]; i++) {
                    pthread_t thread;
                    pthread_create(&thread, NULL, spinner, NULL);
                }
                puts("done");
            } else if (!strcmp(verb, "vfork")) {
                // The main thread cannot be stopped until its child ends.
                puts("started");
                pid_t child = vfork();
                if (child == 0) {
                    prctl(PR_SET_PDEATHSIG, SIGKILL);
                    for (;;) pause();
                }
                waitpid(child, NULL, 0);
                puts("done");
            } else if (!strcmp(verb, "trace")) {
                printf("%ld\n", ptrace(PTRACE_SEIZE, (pid_t)argument[0], 0, 0));
            } else if (!strcmp(verb, "forbid")) {
                printf("%d\n", forbid_userfaultfd(argument[0] ? SECCOMP_RET_TRAP : SECCOMP_RET_ERRNO | EPERM));
            } else {
                puts("unknown");
            }
            size_t used = (size_t)(end + 1 - line);
            memmove(line, end + 1, have - used);
            have -= used;
        }
    }
    """#
