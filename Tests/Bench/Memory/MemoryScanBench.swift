import Foundation
import LinuxSystem
import TestBed

/// Scans, with protection, of memory that nobody writes: how they grow with the memory, in 4 KiB pages and in huge ones.
enum MemoryScanBench {
    private static let sizes = [1024, 4096, 16_384]
    private static let scans = 20
    /// What must be left to the rest of the machine.
    private static let spareMiB = 3072

    static func measure() throws -> [Figure] {
        var figures: [Figure] = []
        for pages in MemoryToy.Pages.allCases {
            for size in sizes {
                let available = try availableMiB()
                guard size + spareMiB <= available else {
                    Bench.say("scan of \(size / 1024) GiB is left out: \(available) MiB of memory are available")
                    continue
                }
                figures.append(
                    Figure(
                        "scan of \(size / 1024) GiB, \(pages.description), per GiB", try measure(size, pages), "ms",
                        goal: pages == .small ? 0.5 : 0.1))
            }
        }
        return figures
    }

    /// Milliseconds per GiB.
    private static func measure(_ size: Int, _ pages: MemoryToy.Pages) throws -> [Double] {
        let toy = try MemoryToy(mebibytes: size, pages)
        var tracker = try toy.tracker()
        var runs = RunBuffer(capacity: 65_536)
        var times: [Double] = []
        for round in 0...scans {
            runs.removeAll()
            var position = ScanPosition()
            let began = MonotonicClock.now()
            while try !tracker.scanWritten(from: &position, protecting: true, into: &runs) { runs.removeAll() }
            if round > 0 { times.append(Double(MonotonicClock.now() - began) / 1e6 / toy.gibibytes) }
        }
        guard runs.pages == 0 else { throw BedError("memory that nobody writes counts as written.") }
        try tracker.close()
        return times
    }

    private static func availableMiB() throws -> Int {
        let text = try String(contentsOfFile: "/proc/meminfo", encoding: .utf8)
        let line = text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        return (line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) / 1024
    }
}
