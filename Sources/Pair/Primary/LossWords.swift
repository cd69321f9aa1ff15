import Model
import Protocol

/// What the loss of the standby, or of the guest, means now.
enum LossWords {
    static func staysDown(_ vm: VMName, _ reason: String) -> String {
        "\(vm) stays down: \(reason); find out why, then start it and “romulus protect \(vm)”"
    }

    static func sentence(_ reason: String, for machine: PrimaryMachine, told choice: String?) -> String {
        guard case .frozen = machine.state else { return "the standby is lost: \(reason)" }
        if machine.isCopyLost, let choice { return "\(choice) (\(reason))" }
        return "the standby is lost (\(reason)): output is held until it is confirmed off, or you decide"
    }
}

/// A turn of the dial that waits for an arbiter that is away (I12).
enum OpenTurn {
    private static let words = "the turn of the dial waits for the arbiter"

    /// Told once, and shown as long as it lasts.
    static func tell(_ reason: String, _ shown: inout String?) -> [PrimaryOutput] {
        let text = "\(words), and the guest runs on protected as before: \(reason)"
        defer { shown = text }
        return shown?.hasPrefix(words) == true ? [] : [.report(.event(.state, text))]
    }
}
