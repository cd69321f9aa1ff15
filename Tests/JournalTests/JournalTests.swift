import Foundation
import Journal
import Model
import Testing

@Suite struct JournalTests {
    @Test func eventsComeBackAsTheyWereAlsoAfterARestart() async throws {
        try await withDirectory { directory async throws in
            let path = directory + "/journal.sqlite"
            let (reports, clock) = (Reports(), HandClock())
            var journal = reports.journal(path, clock: clock.clock)
            let asked = journal.append(.asked, vm: web, term: Term(.max), epoch: Epoch(41), "asked “w1”\n\0why")
            clock.pass(5)
            journal.append(.agent, "beta is there")
            let before = try await journal.events(JournalQuery())
            #expect(
                before == [
                    JournalEvent(
                        id: 1,
                        time: JournalTime(wall: 1_800_000_000_000_000_000, boot: 1_000_000_000, bootID: "boot-1"),
                        vm: web, term: Term(UInt64(Int64.max)), epoch: Epoch(41), kind: .asked, text: "asked “w1”\n why"
                    ),
                    JournalEvent(
                        id: 2,
                        time: JournalTime(wall: 1_800_000_000_000_000_005, boot: 1_000_000_005, bootID: "boot-1"),
                        kind: .agent, text: "beta is there"),
                ])
            #expect(journal.flush())
            #expect(try await journal.events(JournalQuery()).count == 2)
            journal.close()

            journal = reports.journal(path)
            defer { journal.close() }
            #expect(try await journal.events(JournalQuery()) == before)
            // Ids go on behind a gap, and so does the chain.
            let granted = journal.append(.granted, vm: web, "yes")
            #expect(granted == 1000)
            #expect(try await journal.lastChain(of: web).map(\.id) == [asked, granted])
            #expect(reports.all == [])
        }
    }

    @Test func queriesChoose() async throws {
        try await withDirectory { directory async throws in
            let clock = HandClock()
            let journal = Reports().journal(directory + "/journal.sqlite", clock: clock.clock)
            defer { journal.close() }
            let kinds: [EventKind] = [.state, .asked, .granted]
            for number in 0..<9 {
                journal.append(kinds[number % 3], vm: number < 5 ? web : database, "\(number)")
                clock.pass(10)
                // What is written and what is not must look alike.
                if number == 4 { #expect(journal.flush()) }
            }
            var query = JournalQuery(vm: web)
            #expect(try await journal.texts(query) == ["0", "1", "2", "3", "4"])
            query.kinds = [.asked, .granted]
            #expect(try await journal.texts(query) == ["1", "2", "4"])
            query.after = 2
            query.limit = 1
            #expect(try await journal.texts(query) == ["2"])
            query.newest = true
            #expect(try await journal.texts(query) == ["4"])
            query = JournalQuery()
            query.since = 1_800_000_000_000_000_030
            query.limit = 3
            #expect(try await journal.texts(query) == ["3", "4", "5"])
            query.newest = true
            #expect(try await journal.texts(query) == ["6", "7", "8"])
            // An id that was never given is of another journal: begin anew.
            query = JournalQuery()
            query.after = 10
            #expect(try await journal.events(query).count == 9)
            query.after = 9
            #expect(try await journal.events(query, wait: .milliseconds(1)).isEmpty)
        }
    }

    @Test func whoWaitsIsToldOfTheNextEvent() async throws {
        try await withDirectory { directory async throws in
            let journal = Reports().journal(directory + "/journal.sqlite")
            defer { journal.close() }
            let waiting = Task { try await journal.events(JournalQuery(vm: web), wait: .seconds(60)) }
            journal.append(.state, vm: database, "not for it")
            journal.append(.state, vm: web, "for it")
            #expect(try await waiting.value.map(\.text) == ["for it"])
            let cancelled = Task { try await journal.events(JournalQuery(vm: VMName("none")), wait: .seconds(60)) }
            cancelled.cancel()
            #expect(try await cancelled.value.isEmpty)
        }
    }

    @Test func everyTransactionIsSyncedAndTheFileIsForItsOwner() async throws {
        try await withDirectory { directory async throws in
            let path = directory + "/journal.sqlite"
            let journal = Reports().journal(path)
            defer { journal.close() }
            journal.append(.asked, vm: web, "a")
            #expect(await journal.saved(within: .seconds(60)))
            #expect(journal.setting("synchronous") == "2" && journal.setting("journal_mode") == "wal")
            for name in ["journal.sqlite", "journal.sqlite-wal"] {
                var status = stat()
                #expect(stat(directory + "/" + name, &status) == 0 && status.st_mode & 0o027 == 0)
            }
        }
    }

    @Test func longTextsAreCutBetweenCharacters() async throws {
        try await withDirectory { directory async throws in
            let journal = Reports().journal(directory + "/journal.sqlite")
            defer { journal.close() }
            journal.append(.error, String(repeating: "é", count: 2000))
            let text = try await journal.texts()[0]
            #expect(text.utf8.count <= EventJournal.textBytesMax && text.hasSuffix("é…") && text.count > 1000)
        }
    }

    // MARK: - Bounds

    @Test func theNewestRowsAreKept() async throws {
        try await withDirectory { directory async throws in
            let path = directory + "/journal.sqlite"
            let journal = Reports().journal(path, limits: JournalLimits(days: 1, events: 3000))
            for number in 1...10_000 { journal.append(.asked, vm: web, "\(number)") }
            journal.close()
            // Opening looks at the bounds, whatever was written since the last look.
            let again = Reports().journal(path, limits: JournalLimits(days: 1, events: 3000))
            defer { again.close() }
            #expect(again.flush())
            let kept = try await again.texts(.all())
            #expect(kept.count == 3000 && kept.first == "7001" && kept.last == "10000")
        }
    }

    @Test func whatIsTooOldGoesButNeverTheNewestThousand() async throws {
        try await withDirectory { directory async throws in
            let path = directory + "/journal.sqlite"
            let clock = HandClock()
            let limits = JournalLimits(days: 30, events: 5000)
            let journal = Reports().journal(path, limits: limits, clock: clock.clock)
            for number in 1...1500 { journal.append(.asked, "old \(number)") }
            #expect(journal.flush())
            clock.pass(31 * HandClock.day)
            for number in 1...200 { journal.append(.asked, "new \(number)") }
            journal.close()
            // Opening looks at the bounds, whatever was written since the last look.
            let again = Reports().journal(path, limits: limits, clock: clock.clock)
            defer { again.close() }
            #expect(again.flush())
            let kept = try await again.texts(.all())
            #expect(kept.count == 1000 && kept.first == "old 701" && kept.last == "new 200")
        }
    }

    @Test func aWallClockThatJumpsAgesNothingOfThisBoot() async throws {
        try await withDirectory { directory async throws in
            let path = directory + "/journal.sqlite"
            let clock = HandClock()
            let journal = Reports().journal(path, limits: JournalLimits(days: 30, events: 5000), clock: clock.clock)
            for number in 1...1500 { journal.append(.asked, "\(number)") }
            #expect(journal.flush())
            clock.time.withLock { $0.wall += 3650 * HandClock.day }
            for number in 1501...1600 { journal.append(.asked, "\(number)") }
            #expect(journal.flush())
            #expect(try await journal.texts(.all()).count == 1600)
            journal.close()
            // After a reboot the wall clock is all there is.
            clock.time.withLock { $0.bootID = "boot-2" }
            let again = Reports().journal(path, limits: JournalLimits(days: 30, events: 5000), clock: clock.clock)
            defer { again.close() }
            #expect(again.flush())
            #expect(try await again.texts(.all()).count == 1000)
        }
    }

    @Test func aFullQueueKeepsDecisionsAndTellsWhatItDropped() async throws {
        try await withDirectory { directory async throws in
            let place = directory + "/later"
            let reports = Reports()
            let journal = reports.journal(place + "/journal.sqlite", queueMax: 10)
            defer { journal.close() }
            for number in 1...50 {
                journal.append(.asked, vm: web, "decision \(number)")
                journal.append(.state, vm: web, "information \(number)")
            }
            #expect(!journal.flush())
            #expect(journal.dropped == 50)
            #expect(try await journal.texts().count == 50)
            try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: false)
            #expect(journal.flush())
            #expect(journal.flush())
            let texts = try await journal.texts()
            #expect(texts.prefix(50) == (1...50).map { "decision \($0)" }[...])
            #expect(
                texts.dropFirst(50) == [
                    "50 informational events were dropped: more came than the disk of the journal took"
                ])
            #expect(reports.all.count == 2 && reports.all[1].hasSuffix("is written again"))
            #expect(reports.all[0].contains("cannot be used") && reports.all[0].contains("No such file or directory"))
        }
    }

    // MARK: - Files that are not as they should be

    @Test func aFileThatCannotBeUsedAtTheStartIsTakenUpLater() async throws {
        try await withDirectory { directory async throws in
            let (away, place) = (directory + "/away", directory + "/place")
            try FileManager.default.createDirectory(atPath: away, withIntermediateDirectories: false)
            let earlier = Reports().journal(away + "/journal.sqlite")
            let detected = earlier.append(.detected, vm: database, "silent")
            earlier.close()

            let journal = Reports().journal(place + "/journal.sqlite")
            defer { journal.close() }
            journal.append(.detected, vm: web, "silent too")
            journal.append(.asked, vm: web, "asked")
            #expect(try await journal.texts() == ["silent too", "asked"])
            try FileManager.default.moveItem(atPath: away, toPath: place)
            #expect(journal.flush())
            let events = try await journal.events(JournalQuery())
            #expect(events.map(\.text) == ["silent", "silent too", "asked"])
            #expect(events.map(\.id) == [detected, 1000, 1001] && events.map(\.cause) == [nil, nil, 1000])
            // The chains of before are known as well.
            journal.append(.asked, vm: database, "asked")
            #expect(try await journal.lastChain(of: database).map(\.id) == [detected, 1002])
        }
    }

    @Test func oneAgentWritesToAJournal() async throws {
        try await withDirectory { directory async throws in
            let path = directory + "/journal.sqlite"
            let first = Reports().journal(path)
            let reports = Reports()
            let second = reports.journal(path)
            defer { second.close() }
            second.append(.asked, vm: web, "second")
            #expect(!second.flush())
            #expect(reports.all.count == 1 && reports.all[0].contains("another agent writes to it"))
            first.append(.asked, vm: web, "first")
            first.close()
            #expect(second.flush())
            #expect(try await second.texts() == ["first", "second"])
        }
    }

    enum Damage: CaseIterable { case text, short, foreign, newer, page, column }

    @Test(arguments: Damage.allCases)
    func aDamagedFileIsSetAsideAndANewOneBegun(damage: Damage) async throws {
        try await withDirectory { directory async throws in
            let path = directory + "/journal.sqlite"
            let journal = Reports().journal(path)
            for number in 1...2000 { journal.append(.asked, vm: web, "\(number)") }
            journal.close()
            switch damage {
            case .text: try Data("not a database\n".utf8).write(to: URL(fileURLWithPath: path))
            case .short: truncate(path, 40)
            case .foreign: #expect(try run("/usr/bin/sqlite3", [path, "PRAGMA application_id = 7"]))
            case .newer: #expect(try run("/usr/bin/sqlite3", [path, "PRAGMA user_version = 2"]))
            case .column:
                let change = "DROP VIEW timeline; ALTER TABLE event DROP COLUMN cause"
                #expect(try run("/usr/bin/sqlite3", [path, change]))
            case .page: try spoil(path, from: 8192, count: 16384)
            }
            let reports = Reports()
            let again = reports.journal(path)
            defer { again.close() }
            again.append(.asked, vm: web, "life goes on")
            #expect(again.flush())
            let texts = try await again.texts()
            #expect(texts.count == 2 && texts[1] == "life goes on", "said: \(reports.all)")
            #expect(reports.all.count == 1 && texts[0] == reports.all[0])
            let aside = try FileManager.default.contentsOfDirectory(atPath: directory).filter {
                $0.hasPrefix("journal.sqlite.damaged-2") && $0.hasSuffix("Z-1")
            }
            #expect(aside.count == 1 && reports.all[0].contains("it is now \(directory)/\(aside[0]), and a new one"))
        }
    }

    @Test func damageThatShowsLaterIsMetAlike() async throws {
        try await withDirectory { directory async throws in
            let path = directory + "/journal.sqlite"
            let reports = Reports()
            let journal = reports.journal(path)
            defer { journal.close() }
            // More than SQLite leaves in its log before it moves it into the file.
            for number in 1...4000 {
                journal.append(.asked, vm: web, "\(number)" + String(repeating: " ", count: 2000))
            }
            #expect(journal.flush())
            // Another process does it: this one must not open and close a file that its SQLite has locks on.
            #expect(
                try run(
                    "/bin/dd", ["if=/dev/urandom", "of=\(path)", "bs=4096", "seek=1", "count=900", "conv=notrunc"]))
            await #expect(throws: JournalError.self) { try await journal.events(.all()) }
            journal.append(.granted, vm: web, "life goes on")
            #expect(journal.flush())
            #expect(try await journal.texts(.all()).contains("life goes on"))
            #expect(reports.all.count == 1 && reports.all[0].contains("is damaged"))
        }
    }

    @Test func aDiskThatSpoilsEachFileIsNotFilledWithThem() async throws {
        try await withDirectory { directory async throws in
            let path = directory + "/journal.sqlite"
            let reports = Reports()
            let journal = reports.journal(path)
            defer { journal.close() }
            for round in 1...5 {
                journal.append(.asked, vm: web, "\(round)")
                #expect(journal.flush() == (round <= 4))
                // An id that is given already is what a file that was changed behind the journal's back has.
                #expect(
                    try run(
                        "/usr/bin/sqlite3",
                        [
                            path,
                            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99) "
                                + "INSERT OR IGNORE INTO event SELECT i, 0, 0, '', NULL, NULL, NULL, 'x', 'x', NULL FROM n",
                        ]) || round == 5)
            }
            let aside = try FileManager.default.contentsOfDirectory(atPath: directory).filter {
                $0.contains(".damaged-") && !$0.contains("-wal") && !$0.contains("-shm")
            }
            #expect(aside.count == 3)
            #expect(reports.all.count == 4 && reports.all[3].contains("again: the disk spoils it"))
        }
    }

    /// Overwrites a closed file with bytes that mean nothing.
    private func spoil(_ path: String, from offset: UInt64, count: Int) throws {
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        defer { try? handle.close() }
        try handle.seek(toOffset: offset)
        try handle.write(contentsOf: Data(repeating: 0xA5, count: count))
    }
}
