import LinuxSystem
import Synchronization

/// Spaces what several threads send, so that together they keep to a cap: the virtual scheduling algorithm of ITU-T I.371.
/// All times are nanoseconds.
package struct SendRate: Sendable, Equatable {
    /// What may leave at once after a pause, as time of the cap: small epochs do not wait.
    package static let burst: UInt64 = 10_000_000

    /// In bytes per second; nil is no cap.
    package private(set) var bytesPerSecond: Double?
    /// When all that was sent so far would have left, had it left evenly.
    private var free: UInt64 = 0

    package init() {}

    package mutating func cap(megabits: Int?) {
        bytesPerSecond = megabits.map { Double($0) * 125_000 }
        if megabits == nil { free = 0 }
    }

    /// How long what was sent so far takes at the cap from `now` on.
    package func backlog(now: UInt64) -> UInt64 { free > now ? free - now : 0 }

    /// Takes note of `bytes` that are about to be sent. Returns how long to wait before that.
    package mutating func wait(toSend bytes: Int, now: UInt64) -> UInt64 {
        guard let bytesPerSecond else { return 0 }
        let start = max(free, now)
        free = start + UInt64(Double(bytes) * 1e9 / bytesPerSecond)
        return start > now + Self.burst ? start - now - Self.burst : 0
    }
}
