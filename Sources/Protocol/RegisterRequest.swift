import Model

/// A change of the register that a primary asked for and that did not take effect yet.
struct RegisterRequest: Sendable, Equatable {
    enum Purpose: Sendable, Equatable {
        case solo, pair
        case level(Level)
        case handOver

        /// What `current` becomes; nil where there is nothing to change. `alone` is the asker's own, without a standby, in the term
        /// of the change.
        func change(of current: Register?, alone: Register, in session: SessionProgress?) -> Register? {
            guard self != .solo else { return alone }
            guard var next = current else { return nil }
            switch self {
            case .solo: break
            case .pair:
                guard let session else { return nil }
                next = alone
                (next.mode, next.session, next.standby) = (.paired, session.id, session.standby)
                next.level = current?.level ?? alone.level
            case .level(let level): (next.term, next.level) = (alone.term, level)
            case .handOver:
                guard let session else { return nil }
                next = next.solo(owner: session.standby.node, term: alone.term)
            }
            return next
        }
    }

    var purpose: Purpose
    var expecting: Register?
    var new: Register
    var nonce: Nonce
    /// The arbiter agreed; what is left is to make that durable here.
    var isGranted = false
}
