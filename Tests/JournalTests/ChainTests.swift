import Journal
import Model
import Testing

@Suite struct ChainTests {
    /// The causes of events of one VM, each with its place (from 1) as its id.
    static func causes(_ kinds: EventKind...) -> [UInt64?] {
        var heads = ChainHeads()
        return kinds.enumerated().map { heads.cause(of: UInt64($0.offset + 1), $0.element, vm: web) }
    }

    @Test func aFailoverIsOneChain() {
        #expect(
            Self.causes(.detected, .asked, .granted, .promoted, .firstOutput, .request, .reProtected)
                == [nil, 1, 2, 3, 4, 5, 6])
    }

    @Test func informationHangsOnTheLastDecisionAndLeadsToNothing() {
        #expect(Self.causes(.state, .detected, .qemu, .error, .asked, .session) == [nil, nil, 2, 2, 2, 5])
    }

    @Test(arguments: [EventKind.protected, .reProtected, .dialled, .ended])
    func aChainThatEndedLeadsToNothing(end: EventKind) {
        #expect(Self.causes(.request, end, .state, .request) == [nil, 1, nil, nil])
    }

    @Test func whatHappensByItselfBeginsAChainUnlessSomethingIsUnderWay() {
        #expect(Self.causes(.detected, .promoted, .detected) == [nil, 1, nil])
        #expect(Self.causes(.fenced, .standbyLost, .asked, .detected) == [nil, nil, 2, 3])
        #expect(Self.causes(.request, .detected, .promoted) == [nil, 1, 2])
    }

    @Test func vmsHaveChainsOfTheirOwn() {
        var heads = ChainHeads([database: ChainHeads.Head(id: 7, kind: .asked)])
        #expect(heads.cause(of: 8, .granted, vm: web) == nil)
        #expect(heads.cause(of: 9, .granted, vm: database) == 7)
        #expect(heads.cause(of: 10, .agent, vm: nil) == nil)
        heads.renumber(by: 100, adding: ChainHeads([web: ChainHeads.Head(id: 1, kind: .asked)]))
        #expect(heads.cause(of: 111, .promoted, vm: web) == 108)
    }

    @Test func toBeProtectedAfterALossIsToBeProtectedAgain() {
        func settled(_ before: EventKind...) -> EventKind {
            var heads = ChainHeads()
            for (id, kind) in before.enumerated() { _ = heads.cause(of: UInt64(id + 1), kind, vm: web) }
            #expect(heads.settled(.ended, vm: web) == .ended && heads.settled(.protected, vm: database) == .protected)
            return heads.settled(.protected, vm: web)
        }
        #expect(settled() == .protected)
        #expect(settled(.request, .asked, .granted) == .protected)
        #expect(settled(.standbyLost, .asked, .granted) == .reProtected)
        #expect(settled(.detected, .promoted, .firstOutput, .request) == .reProtected)
        #expect(settled(.detected, .ended, .request) == .protected)
        #expect(settled(.detected, .promoted, .protected, .request) == .protected)
        // All that the file tells of a chain after a restart is its last decision.
        #expect(
            ChainHeads([web: ChainHeads.Head(id: 1, kind: .promoted)]).settled(.protected, vm: web) == .reProtected)
    }

    static func event(_ id: UInt64, _ kind: EventKind, _ cause: UInt64?) -> JournalEvent {
        QueueTests.event(id, kind, cause: cause)
    }

    @Test func theLastChainIsFoundWithWhatHangsOnIt() {
        let events = [
            Self.event(1, .request, nil), Self.event(2, .protected, 1), Self.event(3, .detected, nil),
            Self.event(4, .qemu, 3), Self.event(5, .promoted, 3), Self.event(6, .state, nil),
            Self.event(7, .session, 5),
        ]
        #expect(Chain.last(in: events).map(\.id) == [3, 4, 5, 7])
        #expect(Chain.last(in: Array(events.prefix(2))).map(\.id) == [1, 2])
        #expect(Chain.last(in: [events[5]]).isEmpty)
        // Its beginning is not kept any more.
        #expect(Chain.last(in: Array(events.suffix(3))).map(\.id) == [5, 7])
    }

    @Test func causesThatLeadInCirclesAreNotFollowed() {
        let events = [Self.event(1, .asked, 2), Self.event(2, .granted, 1), Self.event(3, .promoted, 3)]
        #expect(Chain.last(in: events).map(\.id) == [3])
        #expect(Chain.last(in: Array(events.prefix(2))).map(\.id) == [1, 2])
    }

    @Test func noTwoKindsShareAWord() {
        #expect(Set(EventKind.known).count == EventKind.decisions.count + EventKind.informational.count)
    }
}
