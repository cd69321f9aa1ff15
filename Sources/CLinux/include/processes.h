#pragma once
// Other processes: a handle that cannot be recycled, their memory, their scheduling.
//
// Why it exists: pidfd_open, pidfd_getfd and pidfd_send_signal have no wrapper in the C library of Debian 12, and
// process_vm_readv is hidden behind _GNU_SOURCE.

#include "result.h"
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

// The kernel refuses longer vectors (UIO_MAXIOV).
enum { RML_VECTOR_MAX = 1024 };

static inline int rml_pidfd_open(pid_t pid) { return (int)rml_result(syscall(SYS_pidfd_open, pid, 0)); }

// A copy, for us, of descriptor `number` of that process; close-on-exec.
static inline int rml_pidfd_getfd(int pidfd, int number) {
    return (int)rml_result(syscall(SYS_pidfd_getfd, pidfd, number, 0));
}

static inline int rml_pidfd_signal(int pidfd, int signal) {
    return (int)rml_result(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

// From here on the kernel ends process `pid` when the calling thread ends.
static inline int rml_seize_until_killed(pid_t pid) {
    return (int)rml_result(ptrace(PTRACE_SEIZE, pid, NULL, (void *)PTRACE_O_EXITKILL));
}

static inline ssize_t rml_read_memory(
    pid_t pid, const struct iovec *into, size_t into_count, const struct iovec *from, size_t from_count) {
    return rml_result(syscall(SYS_process_vm_readv, pid, into, into_count, from, from_count, 0ul));
}

static inline int rml_get_scheduling(pid_t thread, int *priority) {
    struct sched_param parameters;
    int policy = sched_getscheduler(thread);
    if (policy < 0) return -errno;
    if (sched_getparam(thread, &parameters) < 0) return -errno;
    *priority = parameters.sched_priority;
    return policy;
}

static inline int rml_set_scheduling(pid_t thread, int policy, int priority) {
    struct sched_param parameters = {.sched_priority = priority};
    return (int)rml_result(sched_setscheduler(thread, policy, &parameters));
}

// Threads that a real-time thread starts fall back to the ordinary policy (SCHED_RESET_ON_FORK).
static inline int rml_round_robin(void) { return SCHED_RR | 0x40000000; }
