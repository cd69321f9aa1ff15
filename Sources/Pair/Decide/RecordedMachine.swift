import Protocol

/// A machine that turns what happened into what is to be done.
package protocol DecidingMachine: Sendable {
    associatedtype Event: Sendable
    associatedtype Action: Sendable
    mutating func handle(_ event: Event) -> [Action]
}

extension PrimaryMachine: DecidingMachine {}
extension StandbyMachine: DecidingMachine {}

/// A duty's machine, and where somebody wants to see it (the simulator does) what it was fed.
package struct RecordedMachine<Machine: DecidingMachine>: Sendable {
    /// One event, and what the machine made of it.
    package struct Step: Sendable {
        package var before: Machine
        package var event: Machine.Event
        package var after: Machine
        package var actions: [Machine.Action]
    }

    package private(set) var machine: Machine
    /// Since this was emptied; nil keeps nothing.
    package var steps: [Step]?

    init(_ machine: Machine) { self.machine = machine }

    mutating func decide(_ event: Machine.Event) -> [Machine.Action] {
        guard steps != nil else { return machine.handle(event) }
        let before = machine
        let actions = machine.handle(event)
        steps?.append(Step(before: before, event: event, after: machine, actions: actions))
        return actions
    }

    package mutating func takeSteps() -> [Step] {
        defer { steps?.removeAll(keepingCapacity: true) }
        return steps ?? []
    }
}
