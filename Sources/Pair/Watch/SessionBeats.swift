import LinuxSystem
import Synchronization

/// When each heartbeat thread of this process last came round: one that does not any more stands before a lock that
/// nobody gives back, and its session decides nothing; all that came late show that the whole process stood still.
public enum SessionBeats {
    private struct Entry {
        var name: String
        var silence: UInt64
        var at: UInt64
        var lastStandstill: UInt64?
    }

    private static let entries = Mutex<[ObjectIdentifier: Entry]>([:])

    /// The one that is the longest ago; nil when there is no session.
    public static var oldest: (name: String, at: UInt64)? {
        entries.withLock { $0.values.min { $0.at < $1.at } }.map { ($0.name, $0.at) }
    }

    /// Whether this process stood still, within the last 10 seconds, for as long as the other side bears a silence: then
    /// that has noticed the loss of the two before this one did.
    static func stoodStill(_ name: String) -> Bool {
        let now = MonotonicClock.now()
        return entries.withLock { entries in
            entries.values.contains { entry in
                entry.name == name
                    && (now > entry.at + entry.silence
                        || entry.lastStandstill.map { now < $0 + 10_000_000_000 } ?? false)
            }
        }
    }

    static func note(_ thread: HeartbeatThread, _ name: String, silence: UInt64) {
        let now = MonotonicClock.now()
        entries.withLock { entries in
            var entry = entries[ObjectIdentifier(thread)] ?? Entry(name: name, silence: silence, at: now)
            if now > entry.at + silence { entry.lastStandstill = now }
            entry.at = now
            entries[ObjectIdentifier(thread)] = entry
        }
    }

    static func forget(_ thread: HeartbeatThread) { entries.withLock { $0[ObjectIdentifier(thread)] = nil } }
}
