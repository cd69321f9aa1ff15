import Hypervisor
import LinuxSystem
import Model
import Registers
import Shipping

/// Takes the guest in hand, also one that was this host's and to whose QEMU the agent that came back cannot speak.
///
/// A QEMU that was about to stop the guest as the agent died waits for writes that nobody answers any more, and does not hear its
/// monitor meanwhile. The standby asks for such a guest; once it has it, that QEMU is ended without being asked.
struct MuteGuest {
    let shell: PrimaryShell
    /// For so long it is waited for that its QEMU answers, or that another host has the guest.
    private static let patience: UInt64 = 60_000_000_000
    private static let period: UInt64 = 500_000_000

    private var options: PrimaryOptions { shell.options }

    enum Finding {
        case guest(any Guest)
        /// Another host has it, and nobody can speak to this process.
        case lost(Int32)

        var pid: Int32 {
            switch self {
            case .guest(let guest): guest.pid
            case .lost(let pid): pid
            }
        }
    }

    func find() throws(SessionError) -> Finding {
        let process = options.foundPID.flatMap { try? PidDescriptor($0) }
        var end = MonotonicClock.now() + Self.patience
        var isTold = false
        while true {
            do throws(SessionError) {
                return .guest(
                    try shell.guests.open(
                        options.vm, at: options.qmpPath, log: shell.log,
                        elsewhere: { [shell] in shell.origin.isFresh ? shell.reasonsOfStandby($0) : [] }))
            } catch {
                guard let pid = options.foundPID, shell.custody.arbiter != nil, process?.hasExited() == false,
                    MonotonicClock.now() < end, !isCalledOff
                else { throw error }
                switch owner() {
                case shell.custody.node?: break
                case .some: return .lost(pid)
                // Whose it is nobody says: until then it is waited for.
                case nil: end = MonotonicClock.now() + Self.patience
                }
                if !isTold {
                    isTold = true
                    shell.report(
                        .event(.state, "\(error.message): it is tried again, until another host has the guest"))
                }
                waitReadable([shell.wake.number], nanoseconds: Self.period)
                _ = shell.wake.take()
            }
        }
    }

    private var isCalledOff: Bool { shell.state.withLock { $0.orders.end || $0.endGuestRequested } }

    /// Whose guest it is, where the arbiter says so at once.
    private func owner() -> NodeName? {
        guard let arbiter = shell.custody.arbiter else { return nil }
        let answer = Monitor<RegisterReading?>(nil)
        Task.detached { [vm = options.vm] in
            let reading = await arbiter.read(vm)
            answer.change { $0 = reading }
        }
        guard case .value(let register)? = answer.wait(nanoseconds: 2_000_000_000, for: { $0 }) else { return nil }
        return register?.owner
    }
}
