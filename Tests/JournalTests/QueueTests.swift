import Journal
import Model
import Testing

@Suite struct QueueTests {
    static func event(_ id: UInt64, _ kind: EventKind, cause: UInt64? = nil) -> JournalEvent {
        JournalEvent(
            id: id, time: JournalTime(wall: 0, boot: 0, bootID: ""), vm: web, kind: kind, text: "", cause: cause)
    }

    @Test func aFullQueueDropsTheOldestInformationAndCountsIt() {
        var queue = EventQueue(capacity: 3)
        for (id, kind) in [(1, EventKind.asked), (2, .state), (3, .qemu), (4, .granted), (5, .session)] {
            queue.append(Self.event(UInt64(id), kind))
        }
        #expect(queue.unwritten.map(\.id) == [1, 4, 5])
        #expect(queue.dropped == 2)
    }

    @Test func aDecisionIsNeverDropped() {
        var queue = EventQueue(capacity: 3)
        for id in 1...10 { queue.append(Self.event(UInt64(id), .asked)) }
        #expect(queue.unwritten.count == 10 && queue.dropped == 0)
        // Information that comes then is itself the oldest that there is.
        queue.append(Self.event(11, .state))
        #expect(queue.unwritten.map(\.id) == Array(1...10) && queue.dropped == 1)
        queue.append(Self.event(12, EventKind(rawValue: "moon_phase")))
        #expect(queue.dropped == 2)
    }

    @Test func whatTheWriterHasInHandStaysUntilItIsWritten() {
        var queue = EventQueue(capacity: 2)
        for id in 1...3 { queue.append(Self.event(UInt64(id), .asked)) }
        #expect(queue.take(2).map(\.id) == [1, 2])
        queue.append(Self.event(4, .state))
        #expect(queue.unwritten.map(\.id) == [1, 2, 3, 4])
        queue.putBack()
        // Four wait where two may: the one that may go goes.
        #expect(queue.unwritten.map(\.id) == [1, 2, 3] && queue.dropped == 1)
        #expect(queue.take(2).map(\.id) == [1, 2])
        queue.written()
        #expect(queue.unwritten.map(\.id) == [3])
    }

    @Test func renumberingShiftsIdsAndCauses() {
        var queue = EventQueue(capacity: 9)
        queue.append(Self.event(1, .detected))
        queue.append(Self.event(2, .asked, cause: 1))
        queue.renumber(by: 999)
        #expect(queue.unwritten.map(\.id) == [1000, 1001] && queue.unwritten.map(\.cause) == [nil, 1000])
    }
}
