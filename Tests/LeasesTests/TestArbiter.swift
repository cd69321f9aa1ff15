import LinuxSystem
import Literals
import Model
import Registers
import Synchronization

/// An arbiter in memory that only reads.
final class TestArbiter: Arbiter {
    enum Manner: Sendable {
        case answers
        case isAway
        /// It says nothing until it is told to do something else, or the question is given up.
        case waits
        /// The same, and it does not notice when a question is given up.
        case isDeaf
    }

    private struct State {
        var register: Register?
        var manner = Manner.answers
        var asked: [UInt64] = []
        var underWay = 0
        var underWayMost = 0
    }

    private let state = Mutex(State())

    let name = "the test's arbiter"

    func be(_ manner: Manner) { state.withLock { $0.manner = manner } }

    func appoint(_ owner: NodeName, at term: Term) {
        let register = Register(
            term: term, owner: owner, mode: .paired, session: SessionID(1),
            standby: StandbyIdentity(node: "gamma", incarnation: 1), lineage: Lineage(1), level: .restart)
        state.withLock { $0.register = register }
    }

    /// When each question came, by CLOCK_BOOTTIME.
    var asked: [UInt64] { state.withLock { $0.asked } }
    /// How many questions were under way at once.
    var underWayMost: Int { state.withLock { $0.underWayMost } }

    func read(_ vm: VMName) async -> RegisterReading {
        state.withLock { state in
            state.asked.append(BootClock.now())
            state.underWay += 1
            state.underWayMost = max(state.underWayMost, state.underWay)
        }
        while isWaiting { await withoutCancellation { try? await Task.sleep(for: .milliseconds(1)) } }
        return state.withLock { state in
            state.underWay -= 1
            guard case .answers = state.manner else { return .unknown("\(name) is away") }
            return .value(state.register)
        }
    }

    private var isWaiting: Bool {
        switch state.withLock({ $0.manner }) {
        case .answers, .isAway: false
        case .waits: !Task.isCancelled
        case .isDeaf: true
        }
    }

    /// A sleep in a task that is given up would not sleep.
    private func withoutCancellation(_ body: @escaping @Sendable () async -> Void) async {
        await Task.detached(operation: body).value
    }

    func compareAndSet(
        _ vm: VMName, expecting expected: Register?, to new: Register, nonce: Nonce
    ) async -> RegisterAnswer {
        .unknown("\(name) changes nothing")
    }

    func close() async {}
}
