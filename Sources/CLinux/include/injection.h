#pragma once
// One userfaultfd made by another process, handed to us, and closed over there again.
//
// Why it exists: a userfaultfd watches the memory of the process that made it, so QEMU itself must make the call. It is
// run in QEMU's main thread by ptrace. Every ptrace request must come from the thread that seized the target, and nothing
// may run between the steps that could move to another thread or fail half-way: hence one function in C.

#include "result.h"

// Where an injection ended; `rml_step_done` is success.
enum rml_injection_step {
    rml_step_seize = 1,
    rml_step_stop,
    rml_step_registers,
    rml_step_mode,
    rml_step_instruction,
    rml_step_call,
    rml_step_take,
    rml_step_close,
    rml_step_restore,
    rml_step_done,
};

struct rml_injection {
    // The first step that failed, or rml_step_done.
    enum rml_injection_step step;
    // What the userfaultfd call returned inside the target: a descriptor number there, or -errno.
    long made;
    // From the stop of the target's main thread to its release, in nanoseconds.
    uint64_t stopped_for;
};

// Seizes process `pid`, runs `userfaultfd(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)` in its main thread at
// `instruction` (the address of an existing `syscall`), takes a copy of the descriptor through `pidfd`, runs `close` on
// the original, and lets the process go with its registers, its signal mask and its interrupted system call as before.
//
// Returns our descriptor, or -errno with `report->step` telling where. To be called on a thread that ends soon after: the
// kernel then undoes a seizure that could not be undone in order, and the exit of a target that died meanwhile is left to
// be reaped by its parent. `stop_limit` bounds the wait for the main thread to stop, and then to begin the call, in
// nanoseconds.
int rml_inject_userfaultfd(
    pid_t pid, int pidfd, uint64_t instruction, uint64_t stop_limit, struct rml_injection *report);
