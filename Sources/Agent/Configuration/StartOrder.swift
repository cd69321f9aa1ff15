/// In which order the guests of a lost host are started, as the configuration says.
package struct StartOrder: Sendable, Equatable {
    /// Those with a lower one come first.
    package var place: Int
    /// How long those with a higher one wait after this guest was started, in nanoseconds.
    package var delay: UInt64

    package init(place: Int, delaySeconds: Int) {
        self.place = place
        delay = UInt64(delaySeconds) * 1_000_000_000
    }

    /// Where another guest of the same host is.
    package enum Stage: Sendable, Equatable {
        /// Nothing says that its host is lost.
        case idle
        case underWay
        /// By the monotonic clock.
        case started(at: UInt64)
        case over
    }

    /// Hosts are found lost for one VM at a time: so long after a guest is ready to be started others of its host may follow.
    package static let grace: UInt64 = 2_000_000_000
    /// A guest waits no longer than this for those before it, and their delays.
    package static let waitMax: UInt64 = 300_000_000_000

    /// Whether a guest that is ready since `ready` has to wait for the other one.
    package func waits(for other: StartOrder, in stage: Stage, ready: UInt64, now: UInt64) -> Bool {
        guard other.place < place, now < ready + Self.waitMax else { return false }
        return switch stage {
        case .idle: now < ready + Self.grace
        case .underWay: true
        case .started(let at): now < at + other.delay
        case .over: false
        }
    }
}
