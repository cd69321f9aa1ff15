import Glibc
import NIOCore

extension AgentCore {
    /// True while a guest is in this agent's hand: whatever becomes of the agent, it must not go on unwatched.
    var hasGuests: Bool {
        state.withLock { state in
            state.vms.values.contains { if case .primary = $0.part { true } else { false } }
        }
    }

    /// What the tests' own build of the agent has planted in the agent itself.
    func plant() {
        guard planted.contains(.blockEventLoop) else { return }
        group.next().scheduleTask(in: .seconds(2)) { while true { sleep(1) } }
    }
}
