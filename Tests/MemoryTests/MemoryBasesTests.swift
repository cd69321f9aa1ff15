import Foundation
import Logging
import Memory
import Model
import Testing

@Suite struct MemoryBasesTests {
    private let scratch: Scratch
    private var directory: String { scratch.path }

    init() throws { scratch = try Scratch() }

    private func bases(minutes: Int = 60) -> MemoryBases {
        MemoryBases(in: directory, minutes: minutes, log: Logger(label: "test"))
    }

    /// A directory as a replica leaves it.
    private func replica(_ vm: String, bytes: Int = 4096) throws -> (VMName, String) {
        let place = "\(directory)/\(vm)"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        for name in ["manifest.json", "slot-0", "device-state", "pc.ram.memory", "block-3"] {
            try Data(repeating: 7, count: bytes).write(to: URL(fileURLWithPath: "\(place)/\(name)"))
        }
        return (try #require(VMName(vm)), place)
    }

    private func names(_ place: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: place)) ?? []).sorted()
    }

    @Test func onlyTheMemoryIsKeptAndOnlyOnce() throws {
        let bases = bases()
        let (vm, place) = try replica("web")
        bases.keep(vm, from: place)
        #expect(names(place).isEmpty && bases.bytes == 8192)
        #expect(names(directory).filter { VMName($0) != nil }.isEmpty, "a base is not taken for a replica")
        bases.take(vm, as: place)
        #expect(names(place) == ["block-3", "pc.ram.memory"] && bases.bytes == 0)
        try FileManager.default.removeItem(atPath: place)
        bases.take(vm, as: place)
        #expect(names(place).isEmpty)
    }

    @Test func whatDoesNotFitIsRemoved() throws {
        let (_, place) = try replica("web")
        let lengths: [String: UInt64] = ["\(place)/pc.ram.memory": 4096, "\(place)/block-3": 8192]
        #expect(MemoryBases.fit(place, to: lengths) == 4096)
        #expect(names(place) == ["pc.ram.memory"])
    }

    @Test func theOldestGivesWay() throws {
        let bases = bases()
        let (first, one) = try replica("b")
        let (second, two) = try replica("a")
        bases.keep(first, from: one)
        bases.keep(second, from: two)
        #expect(bases.giveUpOldest())
        #expect(!bases.giveUp(first) && bases.bytes == 8192)
        #expect(bases.giveUpOldest() && !bases.giveUpOldest() && bases.bytes == 0)
    }

    @Test func aNewerOneTakesTheOldOnesPlace() throws {
        let bases = bases()
        for bytes in [4096, 8192] {
            let (vm, place) = try replica("web", bytes: bytes)
            bases.keep(vm, from: place)
        }
        #expect(bases.bytes == 16384)
    }

    @Test func nothingIsKeptForZeroMinutes() throws {
        let (vm, place) = try replica("web")
        bases().keep(vm, from: place)
        let none = bases(minutes: 0)
        #expect(none.bytes == 0, "what an earlier run kept is given up")
        let (again, other) = try replica("web")
        none.keep(again, from: other)
        #expect(none.bytes == 0 && names(other).isEmpty)
    }

    @Test func aRestartedAgentFindsWhatWasKept() throws {
        let (vm, place) = try replica("web")
        bases().keep(vm, from: place)
        let later = bases()
        #expect(later.bytes == 8192 && later.giveUp(vm) && later.bytes == 0)
    }

    @Test func aGuestsMemoryIsKeptWhenItGoesOnElsewhere() throws {
        let bases = bases()
        let (vm, place) = try replica("web")
        bases.lend(vm, from: place)
        #expect(bases.bytes == 0 && bases.lent == [vm] && names(place).isEmpty)
        bases.keepGuest(vm)
        #expect(bases.bytes == 4096 && bases.lent.isEmpty)
        bases.keepGuest(vm)
        #expect(bases.bytes == 4096, "a guest whose memory had no name here leaves the base as it is")
        let (other, elsewhere) = try replica("db")
        bases.lend(other, from: elsewhere)
        bases.forgetGuest(other)
        #expect(bases.lent.isEmpty && bases.bytes == 4096)
    }
}
