import Glibc
import LinuxSystem
import Testing

@Suite struct MemoryGlanceTests {
    private func look(_ toy: Toy, _ first: UInt32 = 0, _ count: UInt32? = nil) throws -> (empty: [Int], bytes: [UInt8])
    {
        var glance = try MemoryGlance(of: toy.pid, [toy.block])
        let count = count ?? UInt32(toy.pages) - first
        // What an earlier look left there.
        var bytes = [UInt8](repeating: 0xee, count: Int(count) * trackedPageSize)
        var empty: [Int] = []
        try bytes.withUnsafeMutableBytes {
            try glance.copy(TrackedRun(block: 0, first: first, count: count), into: $0, empty: &empty)
        }
        return (empty, bytes)
    }

    private func expected(_ page: Int) -> UInt8 { UInt8(1 + page % 251) }

    @Test(
        .enabled(if: geteuid() == 0, "needs root: another process's memory file"),
        arguments: ["anonymous", "shared", "file", "sealed", "huge"])
    func contentsAreReadAndPagesWithoutMemoryStayWithout(kind: String) throws {
        let toy = try Toy(kind)
        _ = try toy.ask("write 7 1 2 600")
        let before = try memoryOf(toy)
        let found = try look(toy)
        for page in 0..<toy.pages {
            let byte: UInt8 = [1, 2, 600].contains(page) ? 7 : 0
            #expect(found.bytes[page * trackedPageSize..<(page + 1) * trackedPageSize].allSatisfy { $0 == byte })
        }
        #expect(try memoryOf(toy) == before, "reading gave the process memory")
        // A huge page has memory for its neighbours too.
        if kind != "huge" { #expect(found.empty == (0..<toy.pages).filter { ![1, 2, 600].contains($0) }) }
        let part = try look(toy, 1, 3)
        if kind != "huge" { #expect(part.empty == [2] && part.bytes[0] == 7 && part.bytes[2 * trackedPageSize] == 0) }
    }

    @Test(
        .enabled(if: geteuid() == 0, "needs root: another process's memory file"),
        arguments: ["anonymous", "file", "sealed"])
    func pagesThatWereGivenBackAreEmpty(kind: String) throws {
        let toy = try Toy(kind)
        _ = try toy.ask("fill")
        #expect(try look(toy).empty.isEmpty)
        #expect(try toy.ask(kind == "anonymous" ? "discard 20 5" : "punch 20 5") == "0")
        let found = try look(toy, 18, 10)
        #expect(found.empty == [2, 3, 4, 5, 6])
        #expect(found.bytes[trackedPageSize] == expected(19) && found.bytes[2 * trackedPageSize] == 0)
        #expect(found.bytes[7 * trackedPageSize] == expected(25))
    }

    /// Beside a tracker it takes no notice away: what was written is reported, what was read is not.
    @Test(arguments: ["anonymous", "file", "sealed"]) func aTrackerDoesNotNotice(kind: String) throws {
        let toy = try Toy(kind)
        _ = try toy.ask("write 3 1 2 3 500")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        _ = try look(toy)
        _ = try toy.ask("write 9 2 700")
        let seen = try look(toy)
        #expect(seen.bytes[2 * trackedPageSize] == 9 && seen.bytes[700 * trackedPageSize] == 9)
        var runs = RunBuffer(capacity: 64)
        var position = ScanPosition()
        #expect(try tracker.scanWritten(from: &position, protecting: true, into: &runs))
        let pages = runs.runs.flatMap { Int($0.first)..<Int($0.first + $0.count) }
        #expect(pages == [2, 700])
    }

    /// Bytes of memory that the process has.
    private func memoryOf(_ toy: Toy) throws -> [Substring] {
        try Files.text(of: "/proc/\(toy.pid)/status").split(separator: "\n").filter {
            $0.hasPrefix("RssAnon") || $0.hasPrefix("RssShmem")
        }
    }
}
