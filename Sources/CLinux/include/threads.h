#pragma once
// The calling thread: its name, its id, its sleep.
//
// Why it exists: pthread_setname_np and gettid are hidden behind _GNU_SOURCE; clock_nanosleep returns its error instead
// of setting errno, so it needs a folding of its own.

#include "result.h"
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

static inline pid_t rml_thread_id(void) { return (pid_t)syscall(SYS_gettid); }

// PR_SET_NAME names the calling thread; the kernel keeps 15 bytes.
static inline void rml_name_thread(const char *name) { syscall(SYS_prctl, 15, name, 0, 0, 0); }

// Of the calling thread alone, as Linux has it; see sched(7).
static inline int rml_set_nice(int value) { return (int)rml_result(setpriority(PRIO_PROCESS, 0, value)); }

static inline uint64_t rml_monotonic(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// As CLOCK_MONOTONIC, and goes on while the host is suspended.
static inline uint64_t rml_boottime(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// Sleeps until CLOCK_MONOTONIC reaches `deadline` nanoseconds; a signal does not shorten it.
static inline void rml_sleep_until(uint64_t deadline) {
    struct timespec until = {(time_t)(deadline / 1000000000u), (long)(deadline % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}
