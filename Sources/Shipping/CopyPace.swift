/// How much of a copy of the guest's memory may be on its way while the guest's disk writes go behind it on the link.
///
/// A window by delay, as of TCP Vegas or LEDBAT (RFC 6817): a question goes behind what is queued, and the answer says how long a
/// disk write takes there. The link's own buffers, the kernel's, those of the network, and what the standby has not taken yet are
/// all in that. Times are nanoseconds of one clock, amounts are bytes.
package struct CopyPace: Sendable {
    package enum Step: Equatable {
        case send
        /// A question goes first, with this time as its mark.
        case ask
        /// For an answer.
        case wait
    }

    /// An answer may take so much longer than the shortest one did. It was asked for when half of the window was sent: what goes last
    /// waits for twice that, and a round trip.
    static let delayMax: UInt64 = 100_000_000
    static let least: UInt64 = 64 << 10
    package static let first: UInt64 = 256 << 10
    /// The first question is waited for no longer: an older agent answers none.
    package static let patience: UInt64 = 10_000_000_000
    /// More than the link's own window: then it bounds nothing.
    static let most: UInt64 = 64 << 20

    private struct Question {
        var mark: UInt64
        /// What was sent before it.
        var sent: UInt64
    }

    package private(set) var window = Self.first
    /// One frame is at most half of what goes before a question.
    package var frameMax: UInt64 { window / 4 }
    private var sent: UInt64 = 0
    private var arrived: UInt64 = 0
    private var shortest: UInt64?
    private var question: Question?
    /// The copy had to wait since the question was asked.
    private var hasWaited = false

    package init() {}

    /// Before `count` bytes are sent, which are counted when they may be. Without a question under way less than half of the window
    /// is, so a frame of any size may go.
    ///
    /// - Parameter queued: of the link, in bytes. Who shares a link that others fill gets a part of it.
    package mutating func next(_ count: Int, queued: Int = 0, now: UInt64) -> Step {
        guard let question else {
            if shortest == nil || sent - arrived >= window / 2 {
                self.question = Question(mark: now, sent: sent)
                hasWaited = false
                return .ask
            }
            sent += UInt64(count)
            return .send
        }
        // The first one goes over a link without a copy.
        guard shortest != nil else { return now >= question.mark + Self.patience ? .send : .wait }
        guard sent - arrived + UInt64(count) <= max(window, UInt64(queued) / 2) else {
            hasWaited = true
            return .wait
        }
        sent += UInt64(count)
        return .send
    }

    /// The question with that mark is answered; others are not heeded.
    package mutating func answer(_ mark: UInt64, now: UInt64) {
        guard let question, question.mark == mark, now >= mark else { return }
        self.question = nil
        arrived = question.sent
        let shortest = min(shortest ?? .max, now - mark)
        self.shortest = shortest
        let delay = now - mark - shortest
        if delay > Self.delayMax {
            window = max(Self.least, UInt64(Double(window) * Double(Self.delayMax) / Double(delay)))
        } else if hasWaited, delay < Self.delayMax / 4 {
            // Half of the window went before it.
            window = min(Self.most, window * 2)
        }
    }
}
