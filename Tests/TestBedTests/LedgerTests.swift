import Foundation
import TestBed
import Testing

/// The disk ledger, judged by rule and with the guest's own writer on a file.
@Suite(.timeLimit(.minutes(1)))
struct LedgerTests {
    private func verdict(_ slots: [SlotReport], isEnded: Bool = true) -> LedgerReport {
        var ledger = Ledger()
        for number in 1...6 { ledger.note(SlotReport(number: UInt64(number), slot: UInt64(number % 4))) }
        if isEnded { ledger.note(SlotReport(number: 0, slot: 7)) }
        var report = LedgerReport()
        report.acknowledged = ledger.count
        ledger.judge(slots, into: &report)
        return report
    }

    /// Slots 0, 1, 2, 3 hold records 4, 5, 6 and 3 at least; record 7 was written and not reported.
    private let right = [4, 5, 6, 7].enumerated().map { SlotReport(number: $1, slot: UInt64($0)) }

    @Test func whatWasReportedIsThere() {
        #expect(verdict(right).isClean)
        #expect(verdict(right.dropLast() + [SlotReport(number: 3, slot: 3)]).isClean)
    }

    @Test func whatIsWrongIsCounted() {
        #expect(verdict(Array(right.dropLast())).lost == 1, "a slot that was not read")
        #expect(verdict([SlotReport(number: 0, slot: 0, state: .foreign)] + right.dropFirst()).lost == 1)
        let older = verdict([right[0], SlotReport(number: 1, slot: 1)] + right.dropFirst(2))
        #expect(older.lost == 1 && !older.isClean, "an older record than the one reported")
        let torn = verdict([right[0], SlotReport(number: 0, slot: 1, state: .torn)] + right.dropFirst(2))
        #expect(torn.torn == 1 && !torn.isClean)
        let invented = verdict(right.dropLast() + [SlotReport(number: 11, slot: 3)])
        #expect(invented.unexpected == 1 && !invented.isClean, "a record that was never written")
        #expect(verdict(right.dropLast() + [SlotReport(number: 11, slot: 3)], isEnded: false).isClean)
    }

    /// Runs the writer on a file, damages the file meanwhile, and returns the verdict.
    private func run(_ damage: (FileHandle) throws -> Void) async throws -> LedgerReport {
        try await Bed.with { bed in
            // O_DIRECT needs a file system with blocks; /tmp may be a tmpfs.
            let directory = try TemporaryDirectory("ledger", under: "/var/tmp")
            defer { directory.remove() }
            let disk = try GuestDisk.create("\(directory.path)/disk", mebibytes: 32, content: .random(seed: 1))
            try GuestImage.compileTool("disk-writer", to: "\(directory.path)/disk-writer")
            let writer = try bed.client.spawn(["\(directory.path)/disk-writer", "9"])
            let ledger = try Workload<LedgerReport>(
                on: bed.client,
                [
                    "ledger", "address=127.0.0.1", "disk=\(disk.path)", "first=10", "slots=8000", "random=0",
                    "interval_ms=1",
                ])
            try await ledger.waitUntilRunning()
            try await eventually("50 records", within: .seconds(20)) {
                (ledger.progress?.acknowledged ?? 0) >= 50 ? true : nil
            }
            let file = try #require(FileHandle(forUpdatingAtPath: disk.path))
            try damage(file)
            try file.synchronize()
            let report = try await ledger.finish()
            #expect(writer.isRunning)
            return report
        }
    }

    @Test func theWriterKeepsItsWord() async throws {
        let report = try await run { _ in }
        #expect(report.isClean, "\(report)")
    }

    @Test func aMissingAndATornRecordAreFound() async throws {
        let report = try await run { file in
            // Record 20 vanishes, one byte of record 30 is another; slot n of the region holds record n.
            try file.seek(toOffset: 4096 * (10 + 20))
            try file.write(contentsOf: Data(count: 4096))
            try file.seek(toOffset: 4096 * (10 + 30) + 2000)
            let byte = try #require(try file.read(upToCount: 1)?.first)
            try file.seek(toOffset: 4096 * (10 + 30) + 2000)
            try file.write(contentsOf: Data([byte ^ 1]))
        }
        #expect(report.isVerified && report.lost == 1 && report.torn == 1 && !report.isClean, "\(report)")
    }
}
