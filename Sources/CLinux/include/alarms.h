#pragma once
// An alarm on the processor clock of another process, heard through a descriptor.
//
// Why it exists: the thread that a timer's signal goes to is a member of a union of struct sigevent, which Swift does not
// import; and errno must be folded (result.h).

#include "result.h"
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

static inline int rml_alarm_signal(void) { return SIGRTMIN + 5; }

// Blocks the alarm's signal in the calling thread. Returns a descriptor that only this thread can read it from, or -errno.
static inline int rml_alarm_descriptor(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, rml_alarm_signal());
    int code = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (code != 0) return -code;
    return (int)rml_result(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
}

// A timer on `clock` whose signal goes to the calling thread. Returns 0 or -errno.
static inline int rml_alarm_create(clockid_t clock, timer_t *timer) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = rml_alarm_signal();
    event._sigev_un._tid = (int)syscall(SYS_gettid);
    return (int)rml_result(timer_create(clock, &event, timer));
}

// Goes off once, when the clock reaches `nanoseconds`, at once when it has; 0 takes it back. Returns 0 or -errno.
static inline int rml_alarm_set(timer_t timer, uint64_t nanoseconds) {
    struct itimerspec when = {{0, 0}, {(time_t)(nanoseconds / 1000000000u), (long)(nanoseconds % 1000000000u)}};
    return (int)rml_result(timer_settime(timer, TIMER_ABSTIME, &when, NULL));
}

static inline void rml_alarm_delete(timer_t timer) { timer_delete(timer); }

// Forgets what has gone off.
static inline void rml_alarm_take(int descriptor) {
    struct signalfd_siginfo heard[4];
    while (read(descriptor, heard, sizeof heard) > 0) {
    }
}
