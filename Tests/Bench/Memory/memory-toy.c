// A process whose memory is watched: it maps and touches MEBIBYTES of anonymous memory, in pages of 4 KiB or huge ones,
// says where they are, and writes to every page when it is told to. Each order is a line, answered by the nanoseconds that
// a page took:
//
//     write   as things are
//     signal  after protecting the pages by mprotect, SIGSEGV lifting each protection
//     fault   after protecting them by a userfaultfd of its own, a thread lifting each protection
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char *memory;
static size_t length;
static int descriptor;

static void must(int is_true, const char *what) {
    if (is_true) return;
    perror(what);
    exit(1);
}

static double write_all_pages(void) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (size_t at = 0; at < length; at += 4096) *(volatile uint64_t *)(memory + at) += 1;
    clock_gettime(CLOCK_MONOTONIC, &to);
    double taken = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
    return taken / (double)(length / 4096);
}

static void on_violation(int number, siginfo_t *information, void *context) {
    (void)number;
    (void)context;
    char *page = (char *)((uintptr_t)information->si_addr & ~(uintptr_t)4095);
    if (page < memory || page >= memory + length) _exit(2);
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static double by_signals(void) {
    struct sigaction action = {.sa_sigaction = on_violation, .sa_flags = SA_SIGINFO};
    must(sigaction(SIGSEGV, &action, NULL) == 0, "sigaction");
    must(mprotect(memory, length, PROT_READ) == 0, "mprotect");
    double taken = write_all_pages();
    signal(SIGSEGV, SIG_DFL);
    return taken;
}

static void *lift(void *unused) {
    (void)unused;
    struct uffd_msg message;
    while (read(descriptor, &message, sizeof message) == sizeof message) {
        struct uffdio_writeprotect change = {
            .range = {.start = message.arg.pagefault.address & ~(uint64_t)4095, .len = 4096}};
        must(ioctl(descriptor, UFFDIO_WRITEPROTECT, &change) == 0, "lift a protection");
        if (change.range.start + 4096 == (uintptr_t)memory + length) break;
    }
    return NULL;
}

static double by_faults(void) {
    descriptor = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    must(descriptor >= 0, "userfaultfd");
    struct uffdio_api agreement = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
    must(ioctl(descriptor, UFFDIO_API, &agreement) == 0, "agree on the userfaultfd");
    struct uffdio_range all = {.start = (uintptr_t)memory, .len = length};
    struct uffdio_register request = {.range = all, .mode = UFFDIO_REGISTER_MODE_WP};
    must(ioctl(descriptor, UFFDIO_REGISTER, &request) == 0, "register the memory");
    struct uffdio_writeprotect protection = {.range = all, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    must(ioctl(descriptor, UFFDIO_WRITEPROTECT, &protection) == 0, "protect the memory");
    pthread_t thread;
    must(pthread_create(&thread, NULL, lift, NULL) == 0, "start a thread");
    double taken = write_all_pages();
    pthread_join(thread, NULL);
    close(descriptor);
    return taken;
}

int main(int count, char **arguments) {
    must(count == 3, "usage: memory-toy MEBIBYTES small|huge");
    size_t huge = 2 << 20;
    length = (size_t)atol(arguments[1]) << 20;
    char *space =
        mmap(NULL, length + 3 * huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    must(space != MAP_FAILED, "mmap");
    memory = (char *)(((uintptr_t)space + 2 * huge - 1) & ~(huge - 1));
    must(mprotect(memory, length, PROT_READ | PROT_WRITE) == 0, "mprotect");
    madvise(memory, length, strcmp(arguments[2], "huge") ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    for (size_t at = 0; at < length; at += 4096) memory[at] = 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%lx %zu\n", (unsigned long)memory, length);
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        double taken = !strcmp(line, "signal\n") ? by_signals() : !strcmp(line, "fault\n") ? by_faults() : write_all_pages();
        printf("%.1f\n", taken);
    }
    return 0;
}
