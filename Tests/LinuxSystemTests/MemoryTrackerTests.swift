import Glibc
import LinuxSystem
import Testing

import class TestBed.HugePages

@Suite struct MemoryTrackerTests {
    /// Page numbers that a scan of everything reports.
    private func written(_ tracker: inout MemoryTracker, protecting: Bool = true, capacity: Int = 4096) throws -> [Int]
    {
        var runs = RunBuffer(capacity: capacity)
        var position = ScanPosition()
        var pages: [Int] = []
        while true {
            let finished = try tracker.scanWritten(from: &position, protecting: protecting, into: &runs)
            for run in runs.runs { pages += (Int(run.first)..<Int(run.first + run.count)) }
            if finished { return pages }
            runs.removeAll()
        }
    }

    @Test(arguments: ["anonymous", "shared", "file"])
    func exactlyTheWrittenPagesAreReportedAndCopied(kind: String) throws {
        let toy = try Toy(kind, mebibytes: 8)
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        #expect(try written(&tracker).isEmpty)

        let pages = [0, 1, 2, 7, 100, 101, 511, 512, 1023, 1024, 1500, toy.pages - 1]
        let list = pages.map(String.init).joined(separator: " ")
        _ = try toy.ask("write 77 \(list)")
        #expect(try written(&tracker, protecting: false) == pages)
        var runs = RunBuffer(capacity: 64)
        var position = ScanPosition()
        #expect(try tracker.scanWritten(from: &position, protecting: true, into: &runs))
        #expect(runs.pages == pages.count)
        #expect(runs[0] == TrackedRun(block: 0, first: 0, count: 3))
        let slab = try Mapping.anonymous(length: runs.pages * trackedPageSize)
        #expect(try tracker.copy(runs, into: slab.bytes) == slab.bytes.count)
        #expect(slab.bytes.allSatisfy { $0 == 77 })
        #expect(try written(&tracker).isEmpty)

        _ = try toy.ask("write 78 5")
        #expect(try written(&tracker) == [5])
        try tracker.close()
    }

    @Test func hugePagesAreSplitByTheFirstWrite() throws {
        let toy = try Toy("huge", mebibytes: 8)
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        #expect(try written(&tracker).isEmpty)
        _ = try toy.ask("write 9 3 700")
        #expect(try written(&tracker) == [3, 700])
    }

    /// The kernel protects such a page only whole: a buffer without room for one must not make it pass over it.
    @Test(.enabled(if: HugePages.areAvailable, "the kernel has no huge pages"))
    func pagesOfHugetlbfsAreNeverPassedOver() throws {
        let room = try HugePages(mebibytes: 16)
        defer { withExtendedLifetime(room) {} }
        let toy = try Toy("hugetlb", mebibytes: 16)
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        #expect(try written(&tracker).isEmpty)
        _ = try toy.ask("write 9 3 700 1024 1536 2047 4095")
        let huge = [0, 1, 2, 3, 7].flatMap { (512 * $0)..<(512 * $0 + 512) }
        for (pagesMax, calls) in [(600, 5), (1500, 3)] {
            var runs = RunBuffer(capacity: 64)
            var position = ScanPosition()
            var pages: [Int] = []
            var count = 0
            var isOver = false
            while !isOver, count < 10 {
                isOver = try tracker.scanWritten(from: &position, protecting: true, pagesMax: pagesMax, into: &runs)
                #expect(runs.pages <= pagesMax)
                for run in runs.runs { pages += (Int(run.first)..<Int(run.first + run.count)) }
                runs.removeAll()
                count += 1
            }
            #expect(isOver && pages == huge && count >= calls, "\(pagesMax): \(count) calls, \(pages.count) pages")
            #expect(try written(&tracker).isEmpty)
            _ = try toy.ask("write 8 0 512 1024 1536 3584")
        }
        try tracker.close()
    }

    @Test(arguments: ["anonymous", "file"])
    func writesByTheKernelAreSeen(kind: String) throws {
        let toy = try Toy(kind)
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        #expect(try toy.ask("receive 40 3") == "12288")
        #expect(try written(&tracker) == [40, 41, 42])
    }

    @Test func untouchedMemoryIsReportedOnceTouched() throws {
        let toy = try Toy(mebibytes: 8)
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        _ = try toy.ask("write 5 600 601")
        #expect(try Set(written(&tracker)).isSuperset(of: [600, 601]))
        #expect(try toy.ask("receive 1400 1") == "4096")
        #expect(try written(&tracker).contains(1400))
        #expect(try written(&tracker).isEmpty)
    }

    /// Between the look at what was ever touched and the protection the process runs: a page that it touches then for the
    /// first time is in neither, and must be reported by the next scan.
    @Test(arguments: ["anonymous", "shared"]) func aPageTouchedWhileProtectionBeginsIsReported(kind: String) throws {
        let toy = try Toy(kind, mebibytes: 8)
        _ = try toy.ask("write 5 1 2 3")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        var runs = RunBuffer(capacity: 64)
        var position = ScanPosition()
        #expect(try tracker.scanPopulated(from: &position, protecting: true, into: &runs))
        #expect(runs.runs.contains { $0.first <= 1 && $0.first + $0.count >= 4 })
        _ = try toy.ask("write 6 2 600")
        try tracker.protectRest()
        var reported = try Set(written(&tracker))
        for run in runs.runs { reported.formUnion((Int(run.first)..<Int(run.first + run.count))) }
        #expect(reported.isSuperset(of: [1, 2, 3, 600]))
        if kind == "anonymous" { #expect(reported.count < 16, "what was never touched is not reported") }
        #expect(try written(&tracker).isEmpty)
        _ = try toy.ask("write 7 700")
        #expect(try written(&tracker).contains(700))
        #expect(try written(&tracker).isEmpty)
    }

    @Test func discardedPagesAreReportedWhenReadAgain() throws {
        let toy = try Toy()
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        _ = try toy.ask("discard 10 2")
        #expect(try toy.ask("look 10") == "0")
        #expect(try written(&tracker).contains(10))
    }

    /// What a balloon does to a guest's memory file: the contents go without a report. The first write afterwards has one.
    @Test func holesInAFileAreReportedOnceWritten() throws {
        let toy = try Toy("file")
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        #expect(try toy.ask("punch 10 2") == "0")
        #expect(try written(&tracker).isEmpty)
        #expect(try toy.ask("look 10") == "0")
        #expect(try written(&tracker).isEmpty)
        _ = try toy.ask("write 5 11")
        #expect(try written(&tracker) == [11])
    }

    @Test func smallBuffersAreContinued() throws {
        let toy = try Toy(mebibytes: 8)
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        let pages = Array(stride(from: 0, to: 2000, by: 2))
        for capacity in [2, 3, 7, 64, 999] {
            _ = try toy.ask("write 1 " + pages.map(String.init).joined(separator: " "))
            #expect(try written(&tracker, capacity: capacity) == pages, "capacity \(capacity)")
        }

        // A limit of pages, with runs longer than the limit.
        _ = try toy.ask("fill")
        var runs = RunBuffer(capacity: 64)
        var position = ScanPosition()
        var next = 0
        while next < toy.pages {
            let finished = try tracker.scanWritten(from: &position, protecting: true, pagesMax: 300, into: &runs)
            #expect(runs.pages <= 300)
            for run in runs.runs {
                #expect(Int(run.first) == next)
                next += Int(run.count)
            }
            runs.removeAll()
            if finished { break }
        }
        #expect(next == toy.pages)
        #expect(try written(&tracker).isEmpty)
    }

    @Test func longVectorsAndLongRunsAreCopiedWhole() throws {
        let toy = try Toy(mebibytes: 16)
        _ = try toy.ask("fill")
        let tracker = try MemoryTracker(attachingTo: toy.pid)
        var reader = tracker.makeReader()
        var runs = RunBuffer(capacity: 4000)
        for page in stride(from: 0, to: 3000, by: 2) {
            runs.append(TrackedRun(block: 2, first: UInt32(page), count: 1))
        }
        runs.append(TrackedRun(block: 2, first: 3001, count: 1000))
        let slab = try Mapping.anonymous(length: runs.pages * trackedPageSize)
        let count = try reader.copy(runs.runs, addresses: [0, 0, toy.address], into: slab.bytes)
        #expect(count == 2500 * trackedPageSize)
        var offset = 0
        for run in runs.runs {
            for page in run.first..<(run.first + run.count) {
                let wanted = UInt8(1 + page % 251)
                #expect(slab.bytes[offset] == wanted && slab.bytes[offset + trackedPageSize - 1] == wanted)
                offset += trackedPageSize
            }
        }
    }

    /// However the pages come here, they are the same: by calls or from a mapping of sealed memory, by one thread or two.
    @Test(
        .enabled(if: geteuid() == 0, "needs root: another process's memory file"),
        arguments: ["anonymous", "file", "sealed"], [false, true])
    func copiesTheSamePages(kind: String, helped: Bool) throws {
        let toy = try Toy(kind, mebibytes: 16)
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        if helped { tracker.helper = try ReadingHelper(pid: toy.pid, name: "helper", runsMax: 4000) }
        let sealed = tracker.copiesDirectly(toy.block.index)
        #expect(sealed == (kind == "sealed"))
        // What is in front of the part stays out of it; a long run lies across the middle, or at an end.
        for long in [UInt32(0), 700, 1400] {
            var runs = RunBuffer(capacity: 4000)
            runs.append(TrackedRun(block: 0, first: 4000, count: 3))
            let part = runs.beginPart()
            for page in stride(from: UInt32(0), to: 1500, by: 2) {
                runs.append(TrackedRun(block: 0, first: page, count: 1))
                if page == long { runs.append(TrackedRun(block: 0, first: 2000, count: 1001)) }
            }
            let slab = try Mapping.anonymous(length: runs.pages * trackedPageSize)
            let count = try tracker.copy(runs, from: part, into: slab.bytes)
            #expect(count == (runs.pages - 3) * trackedPageSize)
            var offset = 0
            for run in runs.runs[part...] {
                for page in run.first..<(run.first + run.count) {
                    let wanted = UInt8(1 + page % 251)
                    #expect(slab.bytes[offset] == wanted && slab.bytes[offset + trackedPageSize - 1] == wanted)
                    offset += trackedPageSize
                }
            }
        }
    }

    @Test func aHelperTellsWhatWentWrong() throws {
        let toy = try Toy(mebibytes: 16)
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        tracker.helper = try ReadingHelper(pid: toy.pid, name: "helper", runsMax: 4000)
        var runs = RunBuffer(capacity: 4000)
        for page in stride(from: UInt32(0), to: 2000, by: 2) {
            runs.append(TrackedRun(block: 0, first: page, count: 1))
        }
        kill(toy.pid, SIGKILL)
        _ = toy.process.waitForEnd()
        let slab = try Mapping.anonymous(length: runs.pages * trackedPageSize)
        #expect(throws: SystemError.self) { _ = try tracker.copy(runs, into: slab.bytes) }
    }

    @Test func usedPagesOfSparseMemory() throws {
        let toy = try Toy(mebibytes: 8)
        _ = try toy.ask("write 1 3 4 1000")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        var runs = RunBuffer(capacity: 16)
        var position = ScanPosition()
        #expect(try tracker.scanPopulated(from: &position, into: &runs))
        #expect(
            Array(runs.runs) == [
                TrackedRun(block: 0, first: 3, count: 2), TrackedRun(block: 0, first: 1000, count: 1),
            ])

        // A page of a file may have contents without being in the page table.
        let shared = try Toy("file", mebibytes: 8)
        var other = try MemoryTracker(attachingTo: shared.pid)
        try other.track(shared.block)
        runs.removeAll()
        position = ScanPosition()
        #expect(try !other.scanPopulated(from: &position, pagesMax: 1000, into: &runs))
        #expect(runs.pages == 1000)
        runs.removeAll()
        #expect(try !other.scanPopulated(from: &position, pagesMax: 1000, into: &runs))
        #expect(runs[0] == TrackedRun(block: 0, first: 1000, count: 1000))
        runs.removeAll()
        #expect(try other.scanPopulated(from: &position, pagesMax: 1000, into: &runs))
        #expect(runs.pages == shared.pages - 2000)
    }

    @Test func anEndedProcessIsNotTakenForAnIdleOne() throws {
        let toy = try Toy()
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        var runs = RunBuffer(capacity: 16)
        _ = try toy.ask("write 1 3")
        var position = ScanPosition()
        _ = try tracker.scanWritten(from: &position, protecting: true, into: &runs)
        kill(toy.pid, SIGKILL)
        _ = toy.process.waitForEnd()
        let exited = tracker.hasExited
        #expect(exited)
        #expect(throws: SystemError.self) { _ = try written(&tracker) }
        let slab = try Mapping.anonymous(length: trackedPageSize)
        #expect(throws: SystemError.self) { _ = try tracker.copy(runs, into: slab.bytes) }
        try tracker.close()
    }

    @Test func blocksThatCannotBeTrackedAreRefused() throws {
        let toy = try Toy()
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        func refused(_ block: TrackedBlock, _ errno: Int32, _ words: String) {
            do throws(SystemError) {
                try tracker.track(block)
                Issue.record("\(block) was taken")
            } catch {
                #expect(error.errno == errno && error.description.contains(words), "\(error)")
            }
        }
        refused(TrackedBlock(index: 0, address: toy.address + 1, length: 4096), EINVAL, "page-aligned")
        refused(TrackedBlock(index: 0, address: toy.address, length: 0), EINVAL, "not empty")
        refused(TrackedBlock(index: 0, address: toy.address, length: 100), EINVAL, "page-aligned")
        refused(TrackedBlock(index: 0, address: UInt64.max - 4095, length: 8192), EINVAL, "block 0")
        refused(TrackedBlock(index: 0, address: 4096, length: 4096), EINVAL, "not mapped")
        try tracker.track(toy.block)
        refused(TrackedBlock(index: 1, address: toy.address + 4096, length: 4096), EINVAL, "overlaps")
        refused(TrackedBlock(index: 0, address: toy.address + toy.length, length: 4096), EINVAL, "overlaps")

        var second = try MemoryTracker(attachingTo: toy.pid)
        #expect(throws: SystemError.self) { try second.track(toy.block) }
        try tracker.untrack(index: 0)
        let left = tracker.blocks
        #expect(left.isEmpty)
        try second.track(toy.block)
    }

    @Test func unmappedMemoryIsAnError() throws {
        let toy = try Toy()
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        #expect(try toy.ask("unmap") == "0")
        #expect(throws: SystemError.self) { _ = try written(&tracker) }
        try tracker.close()
    }
}
