/// Whether a guest hangs, as the silence of the agent in it tells: one that answered since the guest was started or reset, and does
/// not any more. Times are by the monotonic clock, in nanoseconds.
public struct GuestAgentMachine: Sendable {
    public enum Move: Sendable, Equatable {
        /// The agent is to be asked, with this number.
        case ask(UInt64)
        /// Nobody answers over this line: it is to be opened anew.
        case renew
        /// It is to be looked whether the agent could answer; `saw` takes what was seen.
        case look
    }

    public enum Verdict: Sendable, Equatable {
        /// The agent is not there: its port is closed in the guest.
        case gone
        /// The guest hangs and is to be reset; for how long its agent has not answered.
        case hangs(silent: UInt64)
    }

    /// How often the agent is asked.
    public let period: UInt64
    private let silence: UInt64
    /// So often a line is asked over which nobody answers.
    private static let asksMax = 12
    /// As many of the last questions may still be answered.
    private static let openMax = 1024
    /// After a reset at least this, beyond the silence, is waited before the next one.
    public static let rest: UInt64 = 180_000_000_000
    /// What passed between two looks beyond this was not silence: nobody listened.
    private var gapMax: UInt64 { 2 * period }

    private var nextNumber: UInt64
    private var asked: [UInt64] = []
    private var unanswered = 0
    private var nextAsk: UInt64 = 0
    /// It answered over this line, since the guest was started or reset.
    public private(set) var hasAnswered = false
    private var answeredAt: UInt64 = 0
    /// Up to here silence is counted.
    private var lookedAt: UInt64 = 0
    /// For how long the guest could have answered and nobody did, and whether it was looked at half-way.
    private var silent: UInt64 = 0
    private var hasLooked = false
    /// It was seen paused: it is not asked.
    private var standsStill = false
    private var resetAt: UInt64?

    /// - Parameter number: the first question's; the others follow it.
    public init(silence: UInt64, number: UInt64) {
        self.silence = silence
        period = min(silence / 10, 5_000_000_000)
        nextNumber = number
    }

    /// To be called now and then, with what was answered by then told before.
    /// - Parameters:
    ///   - isExcused: the guest may not be able to answer, or nobody may reset it now.
    ///   - mayAsk: what is written to the guest arrives at once.
    public mutating func look(isExcused: Bool, mayAsk: Bool = true, at now: UInt64) -> Move? {
        // Who is not asked is not silent.
        if !asked.isEmpty { silent += min(now - min(lookedAt, now), gapMax) }
        lookedAt = now
        guard !isExcused else {
            forgive()
            return nil
        }
        if hasAnswered || standsStill {
            if silent >= silence, mayReset(now) { return .look }
            if silent >= silence / 2, !hasLooked {
                hasLooked = true
                return .look
            }
        }
        guard mayAsk, !standsStill, now >= nextAsk else { return nil }
        nextAsk = now + period
        unanswered += 1
        if !hasAnswered, unanswered > Self.asksMax { return .renew }
        nextNumber += 1
        asked.append(nextNumber)
        if asked.count > Self.openMax { asked.removeFirst() }
        return .ask(nextNumber)
    }

    /// Somebody in the guest wrote this number. True when the agent answers for the first time.
    public mutating func answered(_ number: UInt64, at now: UInt64) -> Bool {
        // The last ones first: a guest that answers late has answered them all.
        guard let place = asked.lastIndex(of: number) else { return false }
        asked.removeSubrange(...place)
        (unanswered, answeredAt, lookedAt) = (0, now, now)
        forgive()
        defer { hasAnswered = true }
        return !hasAnswered
    }

    /// What was seen of a guest after `look`; nil where nothing could be.
    public mutating func saw(isRunning: Bool, isPortOpen: Bool, at now: UInt64) -> Verdict? {
        guard isRunning else {
            forgive()
            standsStill = true
            return nil
        }
        guard !standsStill else {
            forgive()
            return nil
        }
        guard isPortOpen else { return closed() ? .gone : nil }
        guard hasAnswered, silent >= silence, mayReset(now) else { return nil }
        started()
        resetAt = now
        return .hangs(silent: now - min(answeredAt, now))
    }

    /// The guest may have been kept from answering up to now.
    public mutating func forgive() {
        (silent, hasLooked, standsStill) = (0, false, false)
    }

    /// The guest was started or reset: what it says from here on counts.
    public mutating func started() {
        forgive()
        asked = []
        hasAnswered = false
    }

    /// The port was closed in the guest. True when the agent had answered.
    public mutating func closed() -> Bool {
        defer { started() }
        return hasAnswered
    }

    /// The line was opened anew.
    public mutating func opened(at now: UInt64) {
        started()
        (unanswered, nextAsk) = (0, now)
    }

    private func mayReset(_ now: UInt64) -> Bool { resetAt.map { now >= $0 + silence + Self.rest } ?? true }
}
