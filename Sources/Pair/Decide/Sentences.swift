import Model
import Protocol

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

extension PrimaryMachine {
    /// What the standby's loss means for the guest now.
    func sentence(ofLoss reason: String, told choice: String?) -> String {
        guard case .frozen = state else { return "the standby is lost: \(reason)" }
        if isCopyLost, let choice { return "\(choice) (\(reason))" }
        return "the standby is lost (\(reason)): output is held until it is confirmed off, or you decide"
    }
}

/// A turn of the dial that waits for an arbiter that is away.
struct OpenTurn {
    private static let words = "the turn of the dial waits for the arbiter"
    let text: String
    /// It was not told before.
    let isNews: Bool

    init(_ reason: String, after told: String?) {
        text = "\(Self.words), and the guest runs on protected as before: \(reason)"
        isNews = told?.hasPrefix(Self.words) != true
    }
}
