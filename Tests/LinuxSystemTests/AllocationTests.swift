import CAllocations
import LinuxSystem
import Testing

/// While a guest stands still its pages are found and copied into memory that is there already.
@Suite struct AllocationTests {
    @Test func theCounterCounts() {
        let before = allocations_of_thread()
        let array = [UInt8](repeating: 1, count: 1000 + Int(before % 2))
        #expect(array.count >= 1000)
        #expect(allocations_of_thread() > before)
    }

    @Test(arguments: ["anonymous", "shared"]) func findingAndCopyingPagesAllocatesNothing(kind: String) throws {
        let toy = try Toy(kind, mebibytes: 8)
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        let pages = Array(stride(from: 3, to: 2000, by: 5)).map { "\($0)" }
        var runs = RunBuffer(capacity: 1024)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1024 * trackedPageSize, alignment: 4096)
        defer { buffer.deallocate() }
        for round in 1...10 {
            _ = try toy.ask("write \(round) " + pages.joined(separator: " "))
            runs.removeAll()
            var position = ScanPosition()
            let before = allocations_of_thread()
            let atEnd = try tracker.scanWritten(from: &position, protecting: true, pagesMax: 1024, into: &runs)
            let copied = try tracker.copy(runs, into: buffer)
            let after = allocations_of_thread()
            #expect(atEnd && copied == pages.count * trackedPageSize)
            #expect(after == before, "round \(round): \(after - before) allocations")
        }
        try tracker.close()
    }
}
