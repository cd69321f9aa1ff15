import NIOCore
import Synchronization

/// What a link has seen of its peer at one moment. Nanoseconds of `CLOCK_MONOTONIC`.
public struct LinkSight: Sendable {
    public var now: UInt64
    /// When bytes came last: were read here, or reached the kernel and wait there to be read.
    public var newest: UInt64
    /// The longest time between two arrivals since the sight before; 0 when nothing came.
    public var gap: UInt64

    /// The kernel tells its time in ticks, of 10 ms at the coarsest, and rounds to milliseconds: only what is later
    /// than the last reading by more than that was not read yet.
    static let kernelGrain: UInt64 = 20_000_000
}

extension Link {
    /// Looks at what came, on the link's event loop, and calls `then` there. The kernel is asked too (`TCP_INFO`), so
    /// that what lies unread in the socket is not taken for silence. When the loop stands still, so do the looks; when
    /// the link is closed there are none.
    public func look(_ then: @escaping @Sendable (LinkSight) -> Void) {
        guard let provider = channel as? any SocketOptionProvider else { return }
        provider.getTCPInfo().whenSuccess { [self] information in
            let now = LinkCounters.now()
            let since = UInt64(information.tcpi_last_data_recv) * 1_000_000
            let kernel = now > since ? now - since : 0
            let read = lastReceived
            then(
                LinkSight(
                    now: now, newest: kernel > read + LinkSight.kernelGrain ? kernel : read,
                    gap: counters.longestGap.exchange(0, ordering: .relaxed)))
        }
    }
}
