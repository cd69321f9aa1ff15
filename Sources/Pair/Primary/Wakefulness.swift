import LinuxSystem
import Model
import Synchronization

/// Keeps this host's processors awake while a checkpoint is taken and on its way, for one session.
final class Wakefulness: Sendable {
    private struct State {
        /// A checkpoint is due at once.
        var isExpecting = false
        /// The checkpoint that was begun last, and the last one that is over.
        var begun = Epoch.firstCopy
        var over = Epoch.firstCopy
        var isHolding = false
    }

    /// A checkpoint that is due within this is waited for awake, in nanoseconds.
    static let foresight: UInt64 = 500_000
    /// Nobody stays awake for a standby that is farther away than this, in nanoseconds.
    static let reach: UInt64 = 3_000_000

    private let sleep: ProcessorSleep?
    private let state = Mutex(State())

    /// With nil, nothing is kept awake.
    init(_ sleep: ProcessorSleep?) { self.sleep = sleep }

    deinit { end() }

    /// Whether a checkpoint is due at once.
    func expect(_ isExpecting: Bool) { update { $0.isExpecting = isExpecting } }

    /// The checkpoint of `epoch` begins.
    func begin(_ epoch: Epoch) {
        update { state in
            state.isExpecting = false
            state.begun = epoch
        }
    }

    /// Nothing more is waited for of `epoch` and those before.
    func end(_ epoch: Epoch) { update { $0.over = max($0.over, epoch) } }

    /// Nothing is waited for any more.
    func end() {
        update { state in
            state.isExpecting = false
            state.over = state.begun
        }
    }

    private func update(_ change: (inout State) -> Void) {
        guard let sleep else { return }
        state.withLock { state in
            change(&state)
            let holds = state.isExpecting || state.begun > state.over
            guard holds != state.isHolding else { return }
            state.isHolding = holds
            if holds { sleep.hold() } else { sleep.release() }
        }
    }
}
