import LinuxSystem

/// Lets any number of operations run, until it is closed; closing waits for those under way.
final class OperationGate: Sendable {
    private struct State {
        var running = 0
        var isClosed = false
    }

    private let state = Monitor(State())

    /// False when the gate is closed; otherwise `leave` must follow.
    func enter() -> Bool {
        state.look { state in
            if !state.isClosed { state.running += 1 }
            return !state.isClosed
        }
    }

    func leave() { state.change { $0.running -= 1 } }

    /// Returns once nothing runs; true for the one caller that closed it.
    func close() -> Bool {
        let isFirst = state.look { state in
            defer { state.isClosed = true }
            return !state.isClosed
        }
        state.await { $0.running == 0 }
        return isFirst
    }
}
