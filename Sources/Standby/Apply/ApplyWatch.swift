import LinuxSystem
import Model
import Storage
import Synchronization

/// Since when a thread writes to images.
package final class ImageWork: Sendable {
    private let since = Atomic<UInt64>(0)

    package init() {}

    /// By `MonotonicClock`; 0 while it does not.
    package var begun: UInt64 { since.load(ordering: .relaxed) }

    func time<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) {
        since.store(MonotonicClock.now(), ordering: .relaxed)
        defer { since.store(0, ordering: .relaxed) }
        try body()
    }
}

/// Notices that the storage of a standby's images hangs: what is being applied makes no progress.
package struct ApplyWatch: Sendable {
    /// What is borne, in nanoseconds.
    private let limit: UInt64
    private var seen: (begun: UInt64, progress: UInt64)?
    private var since: UInt64 = 0
    private var lookedAt: UInt64 = 0

    /// Whoever looks does so more often, unless it was stopped itself, in nanoseconds.
    private let stepMax: UInt64

    /// - Parameter interval: how often it is looked, in nanoseconds.
    package init(limit: UInt64, interval: UInt64 = 0) {
        self.limit = limit
        stepMax = max(1_000_000_000, 3 * interval)
    }

    /// The same, as a configuration has it.
    package init(milliseconds: Int, interval: Int) {
        self.init(limit: UInt64(milliseconds) * 1_000_000, interval: UInt64(interval) * 1_000_000)
    }

    /// Why the images count as lost; nil as long as they do not. Called now and then.
    ///
    /// - Parameters:
    ///   - begun: when what is being written was begun; 0 while nothing is.
    ///   - progress: rises with what is written.
    package mutating func look(at now: UInt64, begun: UInt64, progress: UInt64) -> SessionError? {
        defer { lookedAt = now }
        let isSame = seen.map { $0 == (begun, progress) } ?? false
        guard begun != 0, isSame, now < lookedAt + stepMax else {
            (seen, since) = ((begun, progress), now)
            return nil
        }
        guard now > since + limit else { return nil }
        return SessionError(
            .storage, "the storage of its images hangs: nothing was written for \((now - since) / 1_000_000) ms")
    }
}

extension [StagedDisk] {
    /// Rises with what is written to any of them.
    package var progress: UInt64 { reduce(0) { $0 &+ $1.image.progress } }
}
