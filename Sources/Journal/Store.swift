import GRDB
import Glibc
import Model
import Synchronization

/// The journal's file: one SQLite database with one table, in WAL mode, every transaction synced before it counts.
///
/// Owns the connections and the lock that keeps a second agent out. Its functions block, and are called on the journal's
/// writer queue; reading is the exception.
final class Store: Sendable {
    /// Why there is no store.
    enum Problem: Error {
        /// What is in the file is not a journal, or not a whole one.
        case damaged(String)
        /// The file cannot be used now.
        case unavailable(String)
    }

    /// “ROMU” in the header of the file, where file(1) and SQLite look for whose it is.
    static let applicationID: Int32 = 0x524F_4D55
    /// The form of the table.
    static let version: Int32 = 1

    private let pool: DatabasePool
    private let lock: FileLock

    init(path: String) throws(Problem) {
        do throws(FileLock.Failure) {
            lock = try FileLock(path: "\(path).lock")
        } catch {
            throw .unavailable(error.description)
        }
        try Self.lookAtHeader(path)
        do {
            // SQLite gives its helper files the rights of this one.
            let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
            if descriptor >= 0 { Glibc.close(descriptor) }
            var configuration = GRDB.Configuration()
            configuration.label = "journal"
            configuration.busyMode = .timeout(2)
            configuration.maximumReaderCount = 2
            pool = try DatabasePool(path: path, configuration: configuration)
            try pool.writeWithoutTransaction { db in
                // A transaction is on the disk when it is committed: GRDB's choice, NORMAL, would leave it to a later one.
                try db.execute(sql: "PRAGMA synchronous = FULL")
                if let complaint = try String.fetchOne(db, sql: "PRAGMA quick_check(1)"), complaint != "ok" {
                    throw Problem.damaged(complaint)
                }
                try db.inTransaction(.immediate) {
                    try Self.makeTable(db)
                    return .commit
                }
            }
        } catch {
            throw Self.problem(error)
        }
    }

    func close() {
        // The last connection that closes is one that only reads and leaves the log as it is: empty it here.
        _ = try? pool.writeWithoutTransaction { try $0.checkpoint(.truncate) }
        try? pool.close()
        lock.release()
    }

    /// Appends; all or nothing, and on the disk when it returns.
    func insert(_ events: [JournalEvent]) throws(Problem) {
        try write { db in
            let statement = try db.cachedStatement(
                sql: """
                    INSERT INTO event (id, wall, boot, boot_id, vm, term, epoch, kind, text, cause)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """)
            for event in events {
                try statement.execute(arguments: [
                    Int64(clamping: event.id), event.time.wall, event.time.boot, event.time.bootID,
                    event.vm?.description, event.term.map { Int64(clamping: $0.number) },
                    event.epoch.map { Int64(clamping: $0.number) }, event.kind.rawValue, event.text,
                    event.cause.map { Int64(clamping: $0) },
                ])
            }
        }
    }

    /// Removes what `limits` do not keep, a bounded number at a time. Returns whether there is more to remove.
    func prune(_ limits: JournalLimits, now: JournalTime) throws(Problem) -> Bool {
        let age = Int64(limits.days) * 86_400_000_000_000
        return try write { db in
            let firstKept =
                try Int64.fetchOne(
                    db, sql: "SELECT id FROM event ORDER BY id DESC LIMIT 1 OFFSET ?", arguments: [limits.events - 1])
                ?? 0
            let firstKeptAlways =
                try Int64.fetchOne(
                    db, sql: "SELECT id FROM event ORDER BY id DESC LIMIT 1 OFFSET ?",
                    arguments: [JournalLimits.eventsKeptAlways - 1]) ?? 0
            // Events of this boot have the age that the boot's clock gives them, whatever was done to the wall clock.
            let firstYoung =
                try Int64.fetchOne(
                    db,
                    sql: """
                        SELECT id FROM event WHERE CASE boot_id WHEN ? THEN boot >= ? ELSE wall >= ? END
                        ORDER BY id LIMIT 1
                        """, arguments: [now.bootID, now.boot - age, now.wall - age]) ?? Int64.max
            try db.execute(
                sql: "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE id < ? ORDER BY id LIMIT ?)",
                arguments: [max(firstKept, min(firstYoung, firstKeptAlways)), Self.pruneMax])
            return db.changesCount == Self.pruneMax
        }
    }

    static let pruneMax = 2000

    /// The newest id (0 in an empty journal), and the last decision of each VM.
    func last() throws(Problem) -> (id: UInt64, heads: ChainHeads) {
        do {
            return try pool.read { db in
                let id = try Int64.fetchOne(db, sql: "SELECT max(id) FROM event") ?? 0
                let kinds = EventKind.decisions.map { "'\($0.rawValue)'" }.joined(separator: ", ")
                let rows = try Row.fetchAll(
                    db,
                    sql: """
                        SELECT max(id) AS id, vm, kind FROM event WHERE vm IS NOT NULL AND kind IN (\(kinds)) GROUP BY vm
                        """)
                var heads: [VMName: ChainHeads.Head] = [:]
                for row in rows {
                    guard let vm = VMName(row["vm"] as String) else { continue }
                    heads[vm] = ChainHeads.Head(
                        id: UInt64(row["id"] as Int64), kind: EventKind(rawValue: row["kind"]))
                }
                return (UInt64(id), ChainHeads(heads))
            }
        } catch {
            throw Self.problem(error)
        }
    }

    /// What `query` asks for, oldest first. Throws `Problem` or `CancellationError`.
    func events(_ query: JournalQuery) async throws -> [JournalEvent] {
        do {
            return try await pool.read { db in
                var conditions = ["id > ?"]
                var arguments: StatementArguments = [Int64(clamping: query.after)]
                if let vm = query.vm {
                    conditions.append("vm = ?")
                    arguments += [vm.description]
                }
                if !query.kinds.isEmpty {
                    conditions.append("kind IN (\(query.kinds.map { _ in "?" }.joined(separator: ", ")))")
                    arguments += StatementArguments(query.kinds.map(\.rawValue))
                }
                if let since = query.since {
                    conditions.append("wall >= ?")
                    arguments += [since]
                }
                arguments += [query.limit]
                let rows = try Row.fetchAll(
                    db,
                    sql: """
                        SELECT * FROM event WHERE \(conditions.joined(separator: " AND "))
                        ORDER BY id \(query.newest ? "DESC" : "ASC") LIMIT ?
                        """, arguments: arguments)
                let events = rows.map(Self.event)
                return query.newest ? events.reversed() : events
            }
        } catch let error as CancellationError {
            throw error
        } catch {
            throw Self.problem(error)
        }
    }

    /// A setting of the writing connection.
    func setting(_ name: String) -> String? {
        try? pool.writeWithoutTransaction { try String.fetchOne($0, sql: "PRAGMA \(name)") }
    }

    // MARK: -

    private func write<Value>(_ body: (Database) throws -> Value) throws(Problem) -> Value {
        do {
            return try pool.write(body)
        } catch {
            throw Self.problem(error)
        }
    }

    private static func makeTable(_ db: Database) throws {
        let version = try Int32.fetchOne(db, sql: "PRAGMA user_version") ?? 0
        if version == Self.version {
            // A file that lost a column says so here and not at the first event.
            _ = try db.makeStatement(
                sql: "SELECT id, wall, boot, boot_id, vm, term, epoch, kind, text, cause FROM event")
            return
        }
        guard version == 0, try Int.fetchOne(db, sql: "SELECT count(*) FROM sqlite_master") == 0 else {
            throw Problem.damaged("its form is number \(version), and this version of Romulus knows \(Self.version)")
        }
        try db.execute(
            sql: """
                PRAGMA application_id = \(applicationID);
                PRAGMA user_version = \(Self.version);
                CREATE TABLE event (
                    id INTEGER PRIMARY KEY,
                    wall INTEGER NOT NULL,
                    boot INTEGER NOT NULL,
                    boot_id TEXT NOT NULL,
                    vm TEXT,
                    term INTEGER,
                    epoch INTEGER,
                    kind TEXT NOT NULL,
                    text TEXT NOT NULL,
                    cause INTEGER
                ) STRICT;
                CREATE INDEX event_vm ON event (vm, id);
                CREATE VIEW timeline AS
                    SELECT id, strftime('%Y-%m-%d %H:%M:%S', wall / 1000000000, 'unixepoch')
                        || printf('.%03d', wall / 1000000 % 1000) AS time, vm, kind, term, epoch, text, cause
                    FROM event;
                """)
    }

    /// Looks whose the file is before SQLite touches it. The places are those of SQLite's file format: the user version
    /// at byte 60, the application's id at byte 68, both with the highest byte first.
    private static func lookAtHeader(_ path: String) throws(Problem) {
        guard let file = fopen(path, "re") else {
            if errno == ENOENT { return }
            throw .unavailable("it cannot be opened: \(String(cString: strerror(errno)))")
        }
        defer { fclose(file) }
        var header = [UInt8](repeating: 0, count: 100)
        let count = fread(&header, 1, header.count, file)
        if count == 0, ferror(file) == 0 { return }
        guard count == header.count, header.starts(with: Array("SQLite format 3\0".utf8)) else {
            throw .damaged("it does not begin as an SQLite database does")
        }
        let id = header[68..<72].reduce(Int32(0)) { $0 << 8 | Int32($1) }
        guard id == applicationID || id == 0 else { throw .damaged("it is a database of another program") }
    }

    private static func event(_ row: Row) -> JournalEvent {
        JournalEvent(
            id: UInt64(clamping: row["id"] as Int64),
            time: JournalTime(wall: row["wall"], boot: row["boot"], bootID: row["boot_id"]),
            vm: (row["vm"] as String?).flatMap { VMName($0) },
            term: (row["term"] as Int64?).map { Term(UInt64(clamping: $0)) },
            epoch: (row["epoch"] as Int64?).map { Epoch(UInt64(clamping: $0)) },
            kind: EventKind(rawValue: row["kind"]), text: row["text"],
            cause: (row["cause"] as Int64?).map { UInt64(clamping: $0) })
    }

    private static func problem(_ error: any Error) -> Problem {
        if let problem = error as? Problem { return problem }
        guard let error = error as? DatabaseError else { return .unavailable("\(error)") }
        let reason = error.message ?? "SQLite says \(error.resultCode.rawValue)"
        switch error.resultCode {
        // SQLITE_ERROR is what a missing table or column gives, SQLITE_CONSTRAINT an id that is there already.
        case .SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_FORMAT, .SQLITE_ERROR, .SQLITE_CONSTRAINT, .SQLITE_MISMATCH:
            return .damaged(reason)
        default: return .unavailable(reason)
        }
    }
}

/// One agent at a time writes to a journal: an advisory lock that ends with its process.
final class FileLock: Sendable {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Nil once it was released.
    private let descriptor: Mutex<Int32?>

    init(path: String) throws(Failure) {
        let opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
        guard opened >= 0 else {
            throw Failure(description: "\(path) cannot be made: \(String(cString: strerror(errno)))")
        }
        if flock(opened, LOCK_EX | LOCK_NB) != 0 {
            let reason = errno == EWOULDBLOCK ? "another agent writes to it" : String(cString: strerror(errno))
            close(opened)
            throw Failure(description: reason)
        }
        descriptor = Mutex(opened)
    }

    deinit { release() }

    func release() {
        guard let open = descriptor.withLock({ $0.take() }) else { return }
        // A process that is just being started has the descriptor too, until it becomes another program.
        flock(open, LOCK_UN)
        close(open)
    }
}
