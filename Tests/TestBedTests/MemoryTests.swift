import Foundation
import TestBed
import Testing

/// The dirtier knows when one of its pages went back in time; the page comparison knows which pages differ.
@Suite(.timeLimit(.minutes(1)))
struct MemoryTests {
    @Test func pagesThatDifferAreNamed() throws {
        let directory = try TemporaryDirectory("pages")
        defer { directory.remove() }
        let left = "\(directory.path)/left"
        let right = "\(directory.path)/right"
        var bytes = Data((0..<4096 * 600).map { UInt8(truncatingIfNeeded: $0 &* 7) })
        try bytes.write(to: URL(fileURLWithPath: left))
        func different() throws -> [Int] {
            try bytes.write(to: URL(fileURLWithPath: right))
            return try PageComparison.differingPages(.file(left), .file(right), bytes: bytes.count)
        }
        #expect(try different() == [])
        bytes[4096 * 3] ^= 1
        bytes[4096 * 300 - 1] ^= 0x80
        bytes[4096 * 600 - 1] ^= 1
        #expect(try different() == [3, 299, 599])
        #expect(throws: BedError.self) {
            try PageComparison.differingPages(.file(left), .file(right), bytes: bytes.count + 1)
        }
    }

    @Test(arguments: GuestDisk.Format.allCases, GuestDisk.Format.allCases)
    func disksAreComparedByContent(left: GuestDisk.Format, right: GuestDisk.Format) throws {
        let directory = try TemporaryDirectory("disks")
        defer { directory.remove() }
        func disk(_ name: String, _ format: GuestDisk.Format, seed: UInt64) throws -> GuestDisk {
            try GuestDisk.create(
                "\(directory.path)/\(name)", format: format, mebibytes: 2, content: .random(seed: seed))
        }
        let first = try disk("first", left, seed: 1)
        #expect(try PageComparison.areEqual(first, try disk("same", right, seed: 1)))
        #expect(try !PageComparison.areEqual(first, try disk("other", right, seed: 2)))
    }

    @Test func aPageThatWentBackInTimeIsFound() async throws {
        try await Bed.with { bed in
            let tool = "\(bed.client.runtimeDirectory)/dirtier"
            try GuestImage.compileTool("dirtier", to: tool)
            let dirtier = try bed.client.spawn([tool, "8"])
            let control = GuestControl(client: bed.client, address: "127.0.0.1")
            for pattern in [GuestControl.Dirtying.Pattern.counter, .random] {
                func write() async throws {
                    let before = try control.dirtied().pages
                    try control.dirty(.init(pages: 64, periodMs: 1, workingSet: 64, pattern: pattern))
                    try await eventually("1000 pages", within: .seconds(10)) {
                        try control.dirtied().pages > before + 1000 ? true : nil
                    }
                    try control.dirty(.init(pages: 0, workingSet: 64, pattern: pattern))
                }
                try await write()
                let good = try control.verifyMemory()
                #expect(good.pages == 64 && good.bad == 0 && good.firstBad == -1)

                let start = try control.dirtied().address
                let memory = try #require(FileHandle(forUpdatingAtPath: "/proc/\(dirtier.pid)/mem"))
                try memory.seek(toOffset: start + 5 * 4096)
                let old = try #require(try memory.read(upToCount: 4096))
                try await write()
                try memory.seek(toOffset: start + 5 * 4096)
                let new = try #require(try memory.read(upToCount: 4096))
                #expect(old != new)
                try memory.seek(toOffset: start + 5 * 4096)
                try memory.write(contentsOf: old)
                let bad = try control.verifyMemory()
                #expect(bad.bad == 1 && bad.firstBad == 5, "\(bad)")
                #expect(bad.digest != good.digest)
                try memory.seek(toOffset: start + 5 * 4096)
                try memory.write(contentsOf: new)
                #expect(try control.verifyMemory().bad == 0)
            }
        }
    }
}
