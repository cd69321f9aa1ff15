import Foundation
import Journal
import Model
import Synchronization
import TestBed

let web = VMName("web")!
let database = VMName("db")!

/// A directory that is gone when `body` is done.
func withDirectory<Value>(_ body: (String) async throws -> Value) async throws -> Value {
    let directory = "/tmp/romulus-test-journal-\(getpid())-\(UInt64.random(in: 0 ... .max))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    return try await body(directory)
}

/// What a journal reported for the log.
final class Reports: Sendable {
    private let lines = Mutex<[String]>([])
    var all: [String] { lines.withLock { $0 } }

    func journal(
        _ path: String, limits: JournalLimits = JournalLimits(), clock: JournalClock = .system, queueMax: Int = 100_000
    ) -> EventJournal {
        EventJournal(path: path, limits: limits, clock: clock, queueMax: queueMax) { line in
            self.lines.withLock { $0.append(line) }
        }
    }
}

/// A clock that is moved by hand.
final class HandClock: Sendable {
    let time: Mutex<JournalTime>

    init(wall: Int64 = 1_800_000_000_000_000_000, boot: Int64 = 1_000_000_000, bootID: String = "boot-1") {
        time = Mutex(JournalTime(wall: wall, boot: boot, bootID: bootID))
    }

    var clock: JournalClock { JournalClock { self.time.withLock { $0 } } }

    static let day: Int64 = 86_400_000_000_000

    func pass(_ nanoseconds: Int64) {
        time.withLock { time in
            time.wall += nanoseconds
            time.boot += nanoseconds
        }
    }
}

extension EventJournal {
    func texts(_ query: JournalQuery = JournalQuery()) async throws -> [String] {
        try await events(query).map(\.text)
    }
}

extension JournalQuery {
    static func all(_ limit: Int = 1_000_000) -> JournalQuery {
        var query = JournalQuery()
        query.limit = limit
        return query
    }
}

/// Runs a program to its end; true when it succeeded.
func run(_ program: String, _ arguments: [String]) throws -> Bool {
    try Child.outcome(of: [program] + arguments).exit == .code(0)
}
