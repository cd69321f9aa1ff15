import FoundationEssentials
import Model

/// What `romulus why` prints for people: the last chain of decisions as numbered sentences, with how long each took.
public enum WhyText {
    public static func text(_ explanation: Explanation, colour: Bool) -> String {
        guard let first = explanation.steps.first?.event else { return "" }
        let name = Style.bold.apply(to: explanation.vm.description, colour: colour)
        var result = "\(name), as the journal of \(explanation.node) tells it:\n\n"
        var number = 0
        for step in explanation.steps {
            let mark: String
            if step.event.kind.isDecision {
                number += 1
                mark = String(number)
            } else {
                mark = "-"
            }
            let padding = String(repeating: " ", count: max(0, 3 - mark.count))
            result += "\(padding)\(mark)  \(sentence(step, colour: colour))\n"
        }
        if first.cause != nil { result += "\nWhat led to this is not in the journal any more.\n" }
        if let summary = summary(explanation.steps.map(\.event)) { result += "\n\(summary)\n" }
        return result
    }

    private static func sentence(_ step: Explanation.Step, colour: Bool) -> String {
        let event = step.event
        let style: Style =
            switch event.kind {
            case .error, .coldBoot, .restarted: .bad
            case .detected, .standbyLost, .refused, .fenced, .fencingFailed: .warning
            default: .bold
            }
        var result = style.apply(to: title(event.kind), colour: colour)
        if let after = step.afterMilliseconds {
            result += ", \(duration(after)) later"
            if step.byWallClock == true { result += " by the wall clock" }
        } else {
            result += " at \(Units.time(event.time)) UTC"
        }
        let place = [event.term.map { "term \($0)" }, event.epoch.map { "epoch \($0)" }].compactMap(\.self)
        if !place.isEmpty { result += " (\(place.joined(separator: ", ")))" }
        return result + ": " + Table.oneLine(event.message)
    }

    /// A word or two that begin a sentence.
    static func title(_ kind: EventKind) -> String {
        switch kind {
        case .request: "Asked for by somebody"
        case .detected: "Detected"
        case .standbyLost: "Standby lost"
        case .asked: "Arbiter asked"
        case .granted: "Granted"
        case .refused: "Refused"
        case .forced: "Forced"
        case .promoted: "Promoted"
        case .coldBoot: "Booted from its disk"
        case .restarted: "Started again"
        case .handedOver: "Handed over"
        case .firstOutput: "First output"
        case .fenced: "Fenced"
        case .fencingAsked: "Fencing asked"
        case .fencingConfirmed: "Fencing confirmed"
        case .fencingFailed: "Fencing failed"
        case .protected: "Protected"
        case .reProtected: "Protected again"
        case .dialled: "Level changed"
        case .degraded: "Level fell"
        case .climbed: "Level climbed back"
        case .ended: "Ended"
        default: Table.oneLine(kind.rawValue)
        }
    }

    /// What counts to an operator: how long until the guest ran, until its output left, until it was protected. Nil for
    /// a chain of one decision that nothing has to follow.
    private static func summary(_ events: [Event]) -> String? {
        let decisions = events.filter(\.kind.isDecision)
        guard let first = decisions.first, let last = decisions.last else { return nil }
        let goals: [(EventKind, String)] = [
            (.promoted, "the guest running here"), (.coldBoot, "the guest booting here"),
            (.restarted, "the guest being started"), (.firstOutput, "its first output"),
            (.protected, "being protected"), (.reProtected, "being protected again"),
        ]
        let parts = goals.compactMap { kind, words in
            decisions.dropFirst().first { $0.kind == kind }.map { event in
                "to \(words) \(duration(Explanation.milliseconds(from: first, to: event).0))"
            }
        }
        var sentences: [String] = []
        if !parts.isEmpty {
            sentences.append("From the first step \(parts.joined(separator: ", ")).")
        }
        if last.kind.isUnderWay { sentences.append("Nothing has come of the last step yet.") }
        return sentences.isEmpty ? nil : sentences.joined(separator: " ")
    }

    private static func duration(_ milliseconds: Double) -> String {
        milliseconds < 60_000 ? Units.milliseconds(max(0, milliseconds)) : Units.age(milliseconds / 1000)
    }
}
