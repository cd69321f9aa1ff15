import Model
import Registers
import Synchronization

/// An arbiter in memory, which can be away.
public final class FakeRegister: Arbiter {
    public enum Manner: Sendable {
        case answers
        /// It says nothing, and does nothing.
        case isUnreachable
        /// It does what it is asked for, and the answer is lost.
        case losesAnswers
        /// It answers once it is told to do something else.
        case waits
    }

    private struct State {
        var records: [VMName: RegisterRecord] = [:]
        var manner = Manner.answers
        var asked: [Register] = []
        var readings = 0
        /// Every register that there was.
        var history: [Register] = []
    }

    private let state = Mutex(State())

    public init() {}

    public var name: String { "the test's arbiter" }
    public var isUp: Bool { state.withLock { $0.manner == .answers } }
    public func be(_ manner: Manner) { state.withLock { $0.manner = manner } }

    /// What was asked for, granted or not.
    public var asked: [Register] { state.withLock { $0.asked } }
    public var readings: Int { state.withLock { $0.readings } }
    public var history: [Register] { state.withLock { $0.history } }

    public func current(_ vm: VMName) -> Register? { state.withLock { $0.records[vm]?.register } }

    /// Puts a register there, as another host would.
    public func set(_ vm: VMName, _ register: Register?) {
        state.withLock { state in
            state.records[vm] = register.map { RegisterRecord(register: $0, nonce: Nonce(.random(in: 1 ... .max))) }
            if let register { state.history.append(register) }
        }
    }

    public func read(_ vm: VMName) async -> RegisterReading {
        await waitForTurn()
        return state.withLock { state in
            state.readings += 1
            guard case .answers = state.manner else { return .unknown("\(name) is away") }
            return .value(state.records[vm]?.register)
        }
    }

    public func compareAndSet(
        _ vm: VMName, expecting expected: Register?, to new: Register, nonce: Nonce
    ) async -> RegisterAnswer {
        state.withLock { $0.asked.append(new) }
        await waitForTurn()
        return state.withLock { state in
            if case .isUnreachable = state.manner { return .unknown("\(name) is away") }
            let current = state.records[vm]
            let verdict = RegisterRules.judge(current, expecting: expected, to: new, nonce: nonce)
            if verdict == .change {
                state.records[vm] = RegisterRecord(register: new, nonce: nonce)
                state.history.append(new)
            }
            if case .losesAnswers = state.manner { return .unknown("\(name) gave no answer") }
            return verdict == .conflict ? .conflict(current?.register) : .applied(new)
        }
    }

    public func close() async {}

    private func waitForTurn() async {
        while case .waits = state.withLock({ $0.manner }), !Task.isCancelled {
            try? await Task.sleep(for: .milliseconds(1))
        }
    }
}
