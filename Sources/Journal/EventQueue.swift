/// Events on their way to the file, with a bound: when it is full, the oldest informational event goes and is counted.
/// A decision never goes; there are few of them.
package struct EventQueue: Sendable {
    package let capacity: Int
    /// What the writer has in hand.
    package private(set) var writing: [JournalEvent] = []
    package private(set) var waiting: [JournalEvent] = []
    package private(set) var dropped: UInt64 = 0

    package init(capacity: Int) {
        self.capacity = capacity
    }

    /// All that is not in the file yet, oldest first.
    package var unwritten: [JournalEvent] { writing + waiting }

    package mutating func append(_ event: JournalEvent) {
        waiting.append(event)
        dropExcess()
    }

    /// Hands the oldest events to the writer, at most `count`, until `written` or `putBack`.
    package mutating func take(_ count: Int) -> [JournalEvent] {
        precondition(writing.isEmpty, "the writer has one batch in hand at a time")
        writing = Array(waiting.prefix(count))
        waiting.removeFirst(writing.count)
        return writing
    }

    /// The batch is in the file.
    package mutating func written() {
        writing = []
    }

    /// The batch could not be written.
    package mutating func putBack() {
        waiting = writing + waiting
        writing = []
        dropExcess()
    }

    /// Shifts the ids that were given before the file's last id was known, and the causes among them.
    package mutating func renumber(by offset: UInt64) {
        for index in waiting.indices {
            waiting[index].id += offset
            waiting[index].cause = waiting[index].cause.map { $0 + offset }
        }
    }

    private mutating func dropExcess() {
        while waiting.count > capacity, let oldest = waiting.firstIndex(where: { !$0.kind.isDecision }) {
            waiting.remove(at: oldest)
            dropped += 1
        }
    }
}
