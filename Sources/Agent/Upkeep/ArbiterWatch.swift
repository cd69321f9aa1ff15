import Model
import Registers
import RomulusAPI
import Telemetry

/// Whether the arbiter answers: known before it is needed.
struct ArbiterWatch: Sendable {
    /// Between two questions to an arbiter that answers, and to one that does not.
    private static let askingPeriod = Duration.seconds(5)
    private static let askingAgainPeriod = Duration.seconds(1)

    /// Nil where the operator decides.
    private let arbiter: WatchedArbiter?
    private let chronicle: Chronicle

    init(_ arbiter: WatchedArbiter?, chronicle: Chronicle) {
        self.arbiter = arbiter
        self.chronicle = chronicle
        if let arbiter { arbiter.onChange { Self.note(arbiter.name, $0, chronicle) } }
    }

    /// Asks the arbiter now and then, as long as there is a VM to ask about, until the task is cancelled. What the register
    /// says is not used.
    func run(_ registry: Registry) async {
        guard let arbiter else { return }
        let up = registry.gauge(Families.arbiterUp)
        up.set(1)
        while !Task.isCancelled {
            if let vm = chronicle.roster.anyActive { _ = await arbiter.read(vm) }
            let view = arbiter.view
            up.set(view.isUp ? 1 : 0)
            try? await Task.sleep(for: view.reason == nil ? Self.askingPeriod : Self.askingAgainPeriod)
        }
    }

    private static func note(_ name: String, _ view: WatchedArbiter.View, _ chronicle: Chronicle) {
        if view.isUp {
            chronicle.note(nil, .arbiterBack, "\(name) answers again")
        } else {
            chronicle.note(
                nil, .arbiterLost,
                "\(name) does not answer: protected VMs go on, but after a failure nobody takes over before it does"
                    + " (\(view.reason ?? "no reason given"))")
        }
    }

    /// Nil where the operator decides.
    var report: ArbiterReport? {
        guard let arbiter else { return nil }
        let view = arbiter.view
        let age = view.answered.map { (ContinuousClock.now - $0) / .milliseconds(1) }
        return ArbiterReport(
            name: arbiter.name, isUp: view.isUp, lastAnswer: age.map { $0.rounded() }, reason: view.reason)
    }
}
