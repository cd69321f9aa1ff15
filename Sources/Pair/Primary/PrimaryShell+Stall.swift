import Foundation
import LinuxSystem
import Messages
import Protocol

/// Whether QEMU does what its checkpoints ask of it. The session's thread waits for QEMU within a checkpoint, so others look.
extension PrimaryShell {
    /// The session's thread is heard of again within so many nanoseconds, unless QEMU keeps it waiting.
    func expectBack(after nanoseconds: UInt64) {
        backAt.store(MonotonicClock.now() &+ nanoseconds, ordering: .relaxed)
    }

    func lookForStall(_ now: UInt64, _ state: inout State) {
        let late = backAt.load(ordering: .relaxed) &+ UInt64(options.stallMilliseconds) * 1_000_000
        guard let outputs = state.duty.noteStall(now > late) else { return }
        perform(outputs, &state)
        let pid = state.figures.qemuPID
        guard state.duty.connection.isStalled else {
            report(.event(.stallOver, "the QEMU of \(options.vm) (pid \(pid)) takes checkpoints again"))
            return
        }
        // proc(5): T is stopped by a signal, t by a tracer.
        let isStopped = ProcessFiles.statistics(of: pid)?.first?.uppercased() == "T"
        let reason = isStopped ? "it was stopped (SIGSTOP or a debugger)" : "it hangs, or this host is overloaded"
        report(
            .event(
                .stalled,
                "the QEMU of \(options.vm) (pid \(pid)) did nothing for a checkpoint for"
                    + " \(Double(options.stallMilliseconds) / 1000) s:"
                    + " \(reason); its output waits"))
    }
}
