import Model

/// What is asked of an arbiter and what it says, as an operator reads it in the time line.
extension Register {
    /// `term 7: hostb solo`.
    var sentence: String { "term \(term): \(owner) \(mode.rawValue)" }

    func question(to arbiter: String?) -> String { "\(arbiter ?? "the arbiter") was asked for \(sentence)" }
}

extension RegisterAnswer {
    var event: SessionReport {
        switch self {
        case .applied(let register): .event(.granted, register.sentence)
        case .conflict(let register):
            .event(.refused, "the register is another: \(register?.sentence ?? "nobody claimed it yet")")
        case .unknown(let reason): .event(.unanswered, reason)
        }
    }
}

extension SessionError {
    /// The guest's QEMU ended, and `what` says more.
    static func guestLost(_ pid: Int32, _ what: String = "is gone") -> SessionError {
        SessionError(.guestLost, "the guest's QEMU (pid \(pid)) \(what)")
    }
}
