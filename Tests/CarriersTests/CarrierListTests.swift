import Carriers
import Model
import Testing

/// Carriers of one session that note what they are told.
@Suite struct CarrierListTests {
    private final class Notes {
        var words: [String] = []
    }

    private final class NotingCarrier: Carrier {
        let kind: CarrierKind
        var progress = 0.25
        var rest = Rest.little
        var ends: String?
        var failing: String?
        private let notes: Notes

        init(_ kind: CarrierKind, _ notes: Notes) {
            self.kind = kind
            self.notes = notes
        }

        private func note(_ word: String) { notes.words.append("\(word) \(kind)") }

        private func noteOrFail(_ word: String) throws(SessionError) {
            note(word)
            if failing == word { throw SessionError(.system, "planted") }
        }

        func prepare(_ look: Look) throws(SessionError) -> String? {
            try noteOrFail("prepare")
            return ends
        }
        func attach() throws(SessionError) { try noteOrFail("attach") }
        func copy(_ look: Look) throws(SessionError) -> String? {
            try noteOrFail("copy")
            return try look(0)
        }
        func catchUp() throws(SessionError) -> Rest {
            try noteOrFail("catchUp")
            return rest
        }
        func cut(_ epoch: Epoch, isFirst: Bool) throws(SessionError) { try noteOrFail("cut") }
        func ship(_ epoch: Epoch) { note("ship") }
        func endFirstCopy() { note("endFirstCopy") }
        func complete(_ epoch: Epoch, _ timings: inout EpochTimings) throws(SessionError) {
            try noteOrFail("complete")
            timings.linkBytes += 1
        }
        func detach() { note("detach") }
        func close() { note("close") }
    }

    /// It has a part in nothing but the epochs.
    private final class QuietCarrier: Carrier {
        let kind = CarrierKind.output
        func complete(_ epoch: Epoch, _ timings: inout EpochTimings) { timings.heldFrames = 3 }
    }

    private let notes = Notes()
    private let all: [NotingCarrier]
    private let list: CarrierList

    init() {
        let notes = notes
        all = CarrierKind.allCases.map { NotingCarrier($0, notes) }
        list = CarrierList(all)
    }

    private func words(_ word: String, _ kinds: [CarrierKind] = CarrierKind.allCases) -> [String] {
        kinds.map { "\(word) \($0)" }
    }

    private let nothing: Look = { (_) throws(SessionError) in nil }

    @Test func theyAreAttachedInOrderAndTakenDownInTheOther() throws {
        #expect(try list.prepare(nothing) == nil)
        try list.attach()
        list.detach()
        list.close()
        let other = Array(CarrierKind.allCases.reversed())
        #expect(
            notes.words == words("prepare") + words("attach") + words("detach", other) + words("close", other))
    }

    @Test func anEpochGoesThroughAllInOrder() throws {
        var timings = EpochTimings()
        try list.cut(Epoch(1), isFirst: true)
        list.ship(Epoch(1))
        list.endFirstCopy()
        try list.complete(Epoch(1), &timings)
        #expect(
            notes.words == words("cut") + words("ship") + words("endFirstCopy") + words("complete"))
        #expect(timings.linkBytes == 3)
    }

    @Test(arguments: CarrierKind.allCases) func whereOneIsNotAttachedNoneIs(_ kind: CarrierKind) throws {
        let index = try #require(all.firstIndex { $0.kind == kind })
        all[index].failing = "attach"
        #expect(throws: SessionError(.system, "planted")) { try list.attach() }
        #expect(
            notes.words
                == words("attach", Array(CarrierKind.allCases.prefix(index + 1)))
                + words("detach", CarrierKind.allCases.reversed()))
    }

    @Test func whoeverIsPreparedLastHearsNothingOfAnEndBefore() throws {
        all[1].ends = "unprotected"
        #expect(try list.prepare(nothing) == "unprotected")
        #expect(notes.words == ["prepare disks", "prepare memory"])
        notes.words = []
        #expect(try list.copy { (_) throws(SessionError) in "the end" } == "the end")
        #expect(notes.words == ["copy disks"])
    }

    /// All have their round, whatever is left of the others.
    @Test func whatIsLeftIsTheMostOfAny() throws {
        #expect(try list.catchUp() == .little)
        all[1].rest = .much
        #expect(try list.catchUp() == .much)
        all[0].rest = .coming
        #expect(try list.catchUp() == .coming)
        #expect(notes.words == words("catchUp") + words("catchUp") + words("catchUp"))
        #expect(try CarrierList([]).catchUp() == .little)
    }

    @Test func whatIsNotCarriedIsCopied() {
        all[0].progress = 0.5
        let disks = CarrierList([all[0]])
        #expect(disks.progress(of: .disks) == 0.5 && disks.progress(of: .memory) == 1)
    }

    @Test func aCarrierLeavesOutWhatItHasNoPartIn() throws {
        let list = CarrierList([QuietCarrier()])
        var timings = EpochTimings()
        #expect(try list.prepare(nothing) == nil)
        try list.attach()
        #expect(try list.copy(nothing) == nil)
        #expect(try list.catchUp() == .little && list.progress(of: .output) == 1)
        try list.cut(Epoch(1), isFirst: true)
        list.ship(Epoch(1))
        list.endFirstCopy()
        try list.complete(Epoch(1), &timings)
        list.detach()
        list.close()
        #expect(timings.heldFrames == 3)
    }
}
