import Protocol

/// Counts how often each cell of the table in docs/GATE.md had an effect.
struct LeaseCoverage {
    private static let states = ["idle", "promising", "asking", "waiting", "shut", "open"]
    private static let events = [
        "standsBy", "asksToTakeOver", "won", "timer", "confirmed", "denied", "promiseAsked", "peerFenced", "hadShut",
        "ended",
    ]
    /// Those that a run of the whole program has to visit, and no other.
    static let cells: Set<String> = Set(
        [
            ("idle", "standsBy won"), ("promising", "standsBy asksToTakeOver won promiseAsked"),
            ("asking", "standsBy won"), ("waiting", "won timer confirmed denied peerFenced"),
            ("shut", "won timer confirmed denied"), ("open", "won timer confirmed denied hadShut"),
        ].flatMap { state, events in events.split(separator: " ").map { "lease \(state) \($0)" } })

    private var counts = [Int](repeating: 0, count: states.count * events.count)

    mutating func visit(_ state: LeaseMachine.State, _ event: LeaseMachine.Event, isEffect: Bool) {
        if isEffect { counts[state.number * Self.events.count + event.number] += 1 }
    }

    mutating func add(_ other: LeaseCoverage) {
        for index in counts.indices { counts[index] += other.counts[index] }
    }

    /// `lease state event`, with how often.
    var visited: [(name: String, count: Int)] {
        counts.enumerated().filter { $0.element > 0 }.map { index, count in
            let (state, event) = index.quotientAndRemainder(dividingBy: Self.events.count)
            return ("lease \(Self.states[state]) \(Self.events[event])", count)
        }
    }
}

extension LeaseMachine.State {
    fileprivate var number: Int {
        switch self {
        case .idle: 0
        case .promising: 1
        case .asking: 2
        case .waiting: 3
        case .shut: 4
        case .open: 5
        }
    }
}

extension LeaseMachine.Event {
    fileprivate var number: Int {
        switch self {
        case .standsBy: 0
        case .asksToTakeOver: 1
        case .won: 2
        case .timer: 3
        case .confirmed: 4
        case .denied: 5
        case .promiseAsked: 6
        case .peerFenced: 7
        case .hadShut: 8
        case .ended: 9
        }
    }
}
