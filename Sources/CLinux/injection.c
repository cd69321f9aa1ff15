#define _GNU_SOURCE
#include "injection.h"
#include "processes.h"
#include "threads.h"
#include "userfault.h"
#include <elf.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

// glibc's ptrace.h and the kernel's cannot be included together; these are the kernel's.
#define PEEK_SIGNALS 0x4209
#define GET_SIGNAL_MASK 0x420a
#define SET_SIGNAL_MASK 0x420b
#define EVENT_STOP 128
// PTRACE_O_TRACESYSGOOD sets bit 7 in the signal of a system-call stop, so that it cannot be taken for a SIGTRAP.
#define SYSCALL_STOP (SIGTRAP | 0x80)
// `cs` of a thread that runs 64-bit code.
#define LONG_MODE_SEGMENT 0x33

#define RSEQ_CONFIGURATION 0x420f

struct seat {
    pid_t pid;
    // Signals that arrived at the target meanwhile, bit n-1 for signal n; sent again at the end.
    uint64_t held;
};

static long trace(int request, pid_t pid, void *address, void *data) {
    return rml_result(ptrace(request, pid, address, data));
}

// Waits for the next stop and returns its status (signal | event << 8), or -errno. A target that died is left unreaped.
// `limit` 0 waits for as long as it takes.
static long next_stop(pid_t pid, uint64_t limit) {
    uint64_t start = rml_monotonic();
    for (unsigned round = 0;; round++) {
        siginfo_t state = {0};
        int options = WEXITED | WSTOPPED | WNOWAIT | __WALL | (limit ? WNOHANG : 0);
        if (waitid(P_PID, (id_t)pid, &state, options) < 0) {
            if (errno == EINTR) continue;
            return errno == ECHILD ? -ESRCH : -errno;
        }
        if (state.si_pid == pid) {
            if (state.si_code != CLD_TRAPPED && state.si_code != CLD_STOPPED) return -ESRCH;
            long status = state.si_status;
            waitid(P_PID, (id_t)pid, &state, WSTOPPED | WNOHANG | __WALL);
            return status;
        }
        if (rml_monotonic() - start > limit) return -ETIMEDOUT;
        if (round < 50) {
            sched_yield();
        } else {
            rml_sleep_until(rml_monotonic() + 50000);
        }
    }
}

static int is_event_stop(long status) { return status >> 8 == EVENT_STOP; }

// Stops the main thread at the gate between kernel and user code. A signal that was already on its way is let through:
// its handler is set up, and the stop follows before the handler runs.
static long stop(pid_t pid, uint64_t limit) {
    long result = trace(PTRACE_INTERRUPT, pid, 0, 0);
    while (result >= 0) {
        long status = next_stop(pid, limit);
        if (status < 0 || is_event_stop(status)) return status < 0 ? status : 0;
        result = trace(PTRACE_CONT, pid, 0, (void *)(status & 0x7f));
    }
    return result;
}

static long get_registers(pid_t pid, struct user_regs_struct *registers) {
    struct iovec area = {registers, sizeof *registers};
    return trace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &area);
}

static long set_registers(pid_t pid, struct user_regs_struct *registers) {
    struct iovec area = {registers, sizeof *registers};
    return trace(PTRACE_SETREGSET, pid, (void *)NT_PRSTATUS, &area);
}

// Takes a thread that was stopped inside a restartable sequence (rseq(2)) to where that is restarted. The kernel does so
// whenever a thread is scheduled away there, which has happened; it goes by the instruction pointer, though, and would
// find our own in its place.
static void restart_sequence(pid_t pid, struct user_regs_struct *registers) {
    struct {
        uint64_t area;
        uint32_t size, signature, flags, unused;
    } configuration = {0};
    // An older kernel does not tell, a thread may have none: either way there is nothing to mind.
    long result = trace(RSEQ_CONFIGURATION, pid, (void *)sizeof configuration, &configuration);
    if (result < 0 || configuration.area == 0) return;
    errno = 0;
    // struct rseq: the descriptor's address is at offset 8; struct rseq_cs: begin at 8, length at 16, restart at 24.
    uint64_t sequence = (uint64_t)ptrace(PTRACE_PEEKDATA, pid, (void *)(configuration.area + 8), 0);
    if (errno != 0 || sequence == 0) return;
    uint64_t begin = (uint64_t)ptrace(PTRACE_PEEKDATA, pid, (void *)(sequence + 8), 0);
    uint64_t length = (uint64_t)ptrace(PTRACE_PEEKDATA, pid, (void *)(sequence + 16), 0);
    uint64_t restart = (uint64_t)ptrace(PTRACE_PEEKDATA, pid, (void *)(sequence + 24), 0);
    if (errno == 0 && registers->rip - begin < length) registers->rip = restart;
}

// Resumes to the next system-call stop. Signals met on the way are held back; one that our own call raised (a seccomp
// filter's SIGSYS, a fault) ends it with -EPERM or -EFAULT. A target in a frozen cgroup does not get there: `limit` as for
// next_stop.
static long to_syscall_stop(struct seat *seat, uint64_t limit) {
    for (;;) {
        long result = trace(PTRACE_SYSCALL, seat->pid, 0, 0);
        if (result < 0) return result;
        long status = next_stop(seat->pid, limit);
        if (status < 0) return status;
        if (status == SYSCALL_STOP) return 0;
        if (is_event_stop(status)) continue;
        int signal = (int)(status & 0x7f);
        siginfo_t cause = {0};
        result = trace(PTRACE_GETSIGINFO, seat->pid, 0, &cause);
        if (result < 0) return result;
        int raised_by_call = cause.si_code > 0 && cause.si_code != SI_KERNEL;
        if (signal == SIGSYS && raised_by_call) return -EPERM;
        if ((signal == SIGSEGV || signal == SIGILL || signal == SIGFPE || signal == SIGTRAP) && raised_by_call) {
            return -EFAULT;
        }
        seat->held |= 1ull << (signal - 1);
    }
}

// True when a seccomp filter answered our call with SIGSYS. The signal follows only after the stop at the call's end, where
// the result register still holds the call's own number: it must not be taken for a descriptor.
static int was_trapped(pid_t pid) {
    struct {
        uint64_t offset;
        uint32_t flags;
        int32_t count;
    } query = {0, 0, 8};
    for (;;) {
        siginfo_t pending[8];
        long found = trace(PEEK_SIGNALS, pid, &query, pending);
        if (found <= 0) return 0;
        for (long i = 0; i < found; i++) {
            if (pending[i].si_signo == SIGSYS && pending[i].si_code > 0) return 1;
        }
        query.offset += (uint64_t)found;
    }
}

// Runs one system call with one argument at `instruction`; `*returned` is what it gave. When `limit` passes before it
// begins, it does not begin.
static long call(
    struct seat *seat, const struct user_regs_struct *before, uint64_t instruction, long number, unsigned long argument,
    uint64_t limit, long *returned) {
    struct user_regs_struct registers = *before;
    registers.rip = instruction;
    registers.rax = (unsigned long)number;
    registers.rdi = argument;
    // Not inside a system call: the kernel must not rewind to one.
    registers.orig_rax = (unsigned long)-1;
    long result = set_registers(seat->pid, &registers);
    if (result >= 0) result = to_syscall_stop(seat, limit);
    // Neither call sleeps, so the way from its begin to its end has no limit.
    if (result >= 0) result = to_syscall_stop(seat, 0);
    // On to the signal itself, so that it is taken off the queue.
    if (result >= 0 && was_trapped(seat->pid)) {
        result = to_syscall_stop(seat, 0);
        if (result >= 0) result = -EPERM;
    }
    if (result >= 0) result = get_registers(seat->pid, &registers);
    if (result >= 0) *returned = (long)registers.rax;
    return result;
}

// Makes the call that a target is about to begin none at all.
static long skip_call(pid_t pid) {
    struct user_regs_struct registers;
    long result = get_registers(pid, &registers);
    registers.orig_rax = (unsigned long)-1;
    return result < 0 ? result : set_registers(pid, &registers);
}

// Back to the gate, where the kernel decides about restarting an interrupted system call by the registers that it finds
// there: from the stop after a call, or (`running`) from the way to a call that has not begun.
static long to_gate(struct seat *seat, int running) {
    long result = trace(PTRACE_INTERRUPT, seat->pid, 0, 0);
    while (result >= 0) {
        if (!running) result = trace(PTRACE_CONT, seat->pid, 0, 0);
        if (result < 0) break;
        long status = next_stop(seat->pid, 0);
        if (status < 0 || is_event_stop(status)) return status < 0 ? status : 0;
        if (status == SYSCALL_STOP) {
            if (running) result = skip_call(seat->pid);
        } else {
            seat->held |= 1ull << ((status & 0x7f) - 1);
        }
        running = 0;
    }
    return result;
}

// Everything but what a failing call of ours raises: blocked, such a signal would reset its handler (force_sig).
static uint64_t quiet_mask(void) {
    uint64_t open = 0;
    const int synchronous[] = {SIGSYS, SIGTRAP, SIGSEGV, SIGILL, SIGFPE};
    for (size_t i = 0; i < sizeof synchronous / sizeof *synchronous; i++) open |= 1ull << (synchronous[i] - 1);
    return ~open;
}

int rml_inject_userfaultfd(
    pid_t pid, int pidfd, uint64_t instruction, uint64_t stop_limit, struct rml_injection *report) {
    struct seat seat = {.pid = pid};
    struct user_regs_struct before;
    uint64_t mask, quiet = quiet_mask();
    uint64_t stopped_at = 0;
    int taken = -1;

    memset(report, 0, sizeof *report);
    report->step = rml_step_seize;
    long result = trace(PTRACE_SEIZE, pid, 0, (void *)PTRACE_O_TRACESYSGOOD);
    if (result < 0) return (int)result;

    report->step = rml_step_stop;
    result = stop(pid, stop_limit);
    if (result < 0) return (int)result;
    stopped_at = rml_monotonic();

    report->step = rml_step_registers;
    result = get_registers(pid, &before);
    if (result >= 0) result = trace(GET_SIGNAL_MASK, pid, (void *)sizeof mask, &mask);
    if (result < 0) goto detach;
    restart_sequence(pid, &before);

    report->step = rml_step_mode;
    if (before.cs != LONG_MODE_SEGMENT) {
        result = -ENOEXEC;
        goto detach;
    }

    report->step = rml_step_instruction;
    errno = 0;
    long word = ptrace(PTRACE_PEEKTEXT, pid, (void *)instruction, 0);
    if (errno != 0 || (word & 0xffff) != 0x050f) {
        // A target that was killed meanwhile has no memory; it has no registers either, which tells the two apart.
        struct user_regs_struct now;
        result = get_registers(pid, &now);
        if (result >= 0) result = -EFAULT;
        goto detach;
    }

    result = trace(SET_SIGNAL_MASK, pid, (void *)sizeof quiet, &quiet);
    if (result < 0) goto detach;

    report->step = rml_step_call;
    result = call(
        &seat, &before, instruction, SYS_userfaultfd, 02000000 | 04000 | UFFD_USER_MODE_ONLY, stop_limit,
        &report->made);
    int running = result == -ETIMEDOUT;
    if (result >= 0) result = report->made;
    if (result >= 0) {
        report->step = rml_step_take;
        taken = rml_pidfd_getfd(pidfd, (int)report->made);

        report->step = rml_step_close;
        long closed = 0;
        // No limit: to give up here would leave the descriptor behind.
        result = call(&seat, &before, instruction, SYS_close, (unsigned long)report->made, 0, &closed);
        if (result >= 0) result = closed;
        if (result >= 0 && taken < 0) {
            report->step = rml_step_take;
            result = taken;
        }
    }

    {
        long back = to_gate(&seat, running);
        if (back >= 0) back = trace(SET_SIGNAL_MASK, pid, (void *)sizeof mask, &mask);
        if (back >= 0) back = set_registers(pid, &before);
        if (back < 0 && result >= 0) {
            report->step = rml_step_restore;
            result = back;
        }
    }
    for (int signal = 1; signal <= 64; signal++) {
        if (seat.held >> (signal - 1) & 1) syscall(SYS_tgkill, pid, pid, signal);
    }

detach:;
    long detached = trace(PTRACE_DETACH, pid, 0, 0);
    report->stopped_for = rml_monotonic() - stopped_at;
    if (result >= 0 && detached < 0) {
        report->step = rml_step_restore;
        result = detached;
    }
    if (result < 0) {
        if (taken >= 0) close(taken);
        return (int)result;
    }
    report->step = rml_step_done;
    return taken;
}
