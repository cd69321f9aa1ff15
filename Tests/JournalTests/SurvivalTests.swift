import Foundation
import Journal
import Model
import TestBed
import Testing

@Suite struct SurvivalTests {
    static let writer = Programs.directory.appending(path: "romulus-journal-writer").path

    /// What was said to be written is there, after kills at moments that have nothing to do with what the writer does.
    @Test func aKillLosesNoDecisionThatWasWritten() async throws {
        try await withDirectory { directory async throws in
            let path = directory + "/journal.sqlite"
            var written: [UInt64: String] = [:]
            for _ in 1...15 {
                let lines = try await Self.writtenBeforeAKill(path, Int.random(in: 1...40))
                #expect(!lines.isEmpty)
                for line in lines {
                    let parts = line.split(separator: " ", maxSplits: 1)
                    let id = try #require(parts.first.flatMap { UInt64($0) })
                    #expect(written.updateValue(String(parts[1]), forKey: id) == nil, "id \(id) was given twice")
                }
            }
            let reports = Reports()
            let journal = reports.journal(path)
            defer { journal.close() }
            let events = try await journal.events(.all())
            let found = Dictionary(uniqueKeysWithValues: events.map { ($0.id, $0) })
            for (id, text) in written { #expect(found[id]?.text == text, "event \(id) is lost") }
            // One chain through all kills: each decision follows from the one before it.
            let decisions = events.filter { $0.kind == .asked }
            #expect(decisions.dropFirst().map(\.cause) == decisions.dropLast().map { $0.id })
            #expect(reports.all == [])
        }
    }

    /// Starts a writer, kills it once it has said `count` times that a decision is written, and gives all that it said.
    static func writtenBeforeAKill(_ path: String, _ count: Int) async throws -> [Substring] {
        let logs = try TemporaryDirectory("writer")
        defer { logs.remove() }
        let child = try Child([writer, path], name: "writer", logs: logs.path)
        while child.isRunning, child.output.count(where: { $0 == "\n" }) < count { usleep(200) }
        child.kill()
        try await child.wait()
        let text = child.output
        // The last line may have been cut by the kill.
        let whole = text.prefix(through: text.lastIndex(of: "\n") ?? text.startIndex)
        return whole.split(separator: "\n")
    }

    /// A power cut takes what was not synced yet: any part of the log behind the place that it had when a decision was
    /// said to be written.
    @Test func aPowerCutLosesNoDecisionThatWasWritten() async throws {
        try await withDirectory { directory async throws in
            let path = directory + "/journal.sqlite"
            let journal = Reports().journal(path)
            defer { journal.close() }
            for number in 1...20 { journal.append(.asked, vm: web, "before \(number)") }
            #expect(journal.flush())
            let synced = try await Self.contents(path).log.count
            for number in 1...200 {
                journal.append(.asked, vm: web, "after \(number)")
                if number % 10 == 0 { #expect(journal.flush()) }
            }
            let (file, log) = try await Self.contents(path)
            #expect(log.count > synced)
            for round in 1...30 {
                let cut = "\(directory)/cut-\(round).sqlite"
                var tail = log[..<Int.random(in: synced...log.count)]
                // The end of what the disk took may be anything.
                if let end = tail.indices.last, end > synced { tail[Int.random(in: synced...end)] ^= 0xFF }
                try file.write(to: URL(fileURLWithPath: cut))
                try tail.write(to: URL(fileURLWithPath: cut + "-wal"))
                let reports = Reports()
                let after = reports.journal(cut)
                let texts = try await after.texts()
                after.close()
                #expect(reports.all == [])
                #expect(texts.starts(with: (1...20).map { "before \($0)" }))
                #expect(texts.dropFirst(20) == (1..<max(1, texts.count - 19)).map { "after \($0)" }[...])
            }
        }
    }

    /// The bytes of the database and of its log, as another process sees them: this one must not open and close files
    /// that its SQLite has locks on.
    static func contents(_ path: String) async throws -> (file: Data, log: Data) {
        for name in [path, path + "-wal"] {
            guard try run("/bin/cp", [name, name + ".copy"]) else { throw CocoaError(.fileReadUnknown) }
        }
        return (
            try Data(contentsOf: URL(fileURLWithPath: path + ".copy")),
            try Data(contentsOf: URL(fileURLWithPath: path + "-wal.copy"))
        )
    }
}
