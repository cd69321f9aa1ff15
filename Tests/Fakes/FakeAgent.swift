import Hypervisor
import Synchronization

/// An agent in a fake guest: answers as long as it is told to.
public final class FakeAgent: GuestAgentLine, Sendable {
    private struct State {
        var isOpen = false
        var isPortOpen = true
        var answers = true
        var open: [UInt64] = []
        var asked = 0
    }

    public let name = "qga0"
    public let port: String? = "agent0"
    private let state = Mutex(State())

    public init() {}

    public var answers: Bool {
        get { state.withLock(\.answers) }
        set { state.withLock { $0.answers = newValue } }
    }
    public var isPortOpen: Bool {
        get { state.withLock(\.isPortOpen) }
        set { state.withLock { $0.isPortOpen = newValue } }
    }
    /// How often it was asked.
    public var asked: Int { state.withLock(\.asked) }

    // MARK: - The port

    public var isOpen: Bool { state.withLock(\.isOpen) }

    public func open() {
        state.withLock { state in
            state.isOpen = true
            state.open = []
        }
    }

    public func ask(_ number: UInt64) {
        state.withLock { state in
            state.asked += 1
            if state.answers, state.isPortOpen { state.open.append(number) }
        }
    }

    public func takeAnswers() -> [UInt64] {
        state.withLock { state in
            defer { state.open = [] }
            return state.open
        }
    }
}
