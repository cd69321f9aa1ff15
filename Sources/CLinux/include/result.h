#pragma once
// How every wrapper of this target reports: the result of the call, or -errno.
//
// Why it exists: errno belongs to the thread, and Swift may retain, release or switch thread between a call and a
// read of errno. So it is folded into the result in C, before any Swift code can run.
//
// No header here may define _GNU_SOURCE: it changes types that Swift's Glibc module declares as well. What the C library
// hides behind it is reached by system-call number, or from a .c file.

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#if !defined(__x86_64__) || !defined(__linux__)
#error "Romulus reads and drives x86-64 Linux processes only"
#endif

static inline long rml_result(long result) { return result < 0 ? -(long)errno : result; }

// "No such process" for ESRCH; nil for a number that is no errno. Unlike strerror, safe on any thread.
extern const char *strerrordesc_np(int number);
// "ESRCH".
extern const char *strerrorname_np(int number);

static inline const char *rml_error_text(int number) { return strerrordesc_np(number); }
static inline const char *rml_error_name(int number) { return strerrorname_np(number); }
