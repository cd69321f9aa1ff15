import Glibc
import Synchronization

/// What passed over a link's socket, TLS included; written by its event loop, read by anyone.
final class LinkCounters: Sendable {
    let sentBytes = Atomic<UInt64>(0)
    let receivedBytes = Atomic<UInt64>(0)
    /// Of `CLOCK_MONOTONIC`, in nanoseconds.
    let lastReceived = Atomic<UInt64>(0)
    /// The longest time between two arrivals since it was last taken, in nanoseconds.
    let longestGap = Atomic<UInt64>(0)

    var latest: UInt64 { lastReceived.load(ordering: .relaxed) }

    static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
