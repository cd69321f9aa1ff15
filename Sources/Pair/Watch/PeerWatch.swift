import Messages
import Protocol
import Transport

/// How a session sees its peer, for status and metrics.
public struct PeerView: Sendable, Equatable {
    public enum LinkState: String, Sendable { case up, stalled, down }
    public var link: LinkState
    /// Whether the peer's agent is heard over the second path; nil where there is none.
    public var secondPath: Bool?
    /// How much silence is borne now, in nanoseconds.
    public var silenceBorne: UInt64
}

/// Judges the peer of one session by its link and by the second path to its host.
struct PeerWatch: Sendable {
    private var judge: SilenceJudge
    private let secondPath: SecondPath?
    private var state = PeerView.LinkState.up

    init(_ limits: SilenceJudge.Limits, secondPath: SecondPath?, now: UInt64) {
        judge = SilenceJudge(limits, now: now)
        self.secondPath = secondPath
    }

    /// Returns why the peer is lost, when it is. `isReading` is false while this side does not take what comes, which is
    /// no silence of the peer's.
    mutating func look(_ sight: LinkSight, isReading: Bool = true) -> String? {
        judge.look(at: sight.now, newest: isReading ? sight.newest : sight.now, gap: sight.gap)
        let milliseconds = judge.silence / 1_000_000
        switch judge.verdict(hostLives: hostLives) {
        case .alive, .suspicious:
            state = .up
            return nil
        case .stalled:
            state = .stalled
            return nil
        case .pathDown:
            state = .down
            return
                "link down, host alive: nothing was received for \(milliseconds) ms on the link, and the agent is heard over"
                + " the second path"
        case .silent:
            state = .down
            let both = secondPath?.isHeard == nil ? "" : " on either path"
            return "nothing was received for \(milliseconds) ms\(both)"
        }
    }

    mutating func linkClosed() { state = .down }

    /// The peer's agent is heard over the second path.
    var hostLives: Bool { secondPath?.isHeard ?? false }

    /// The most silence that is borne, in nanoseconds.
    var ceiling: UInt64 { judge.limits.ceiling }

    /// When to look again at the latest.
    var due: UInt64 { judge.due }

    var view: PeerView { PeerView(link: state, secondPath: secondPath?.isHeard, silenceBorne: judge.borne) }
}

extension SilenceJudge.Limits {
    /// What the offer says of both sides, with this side's own interval and the peer's. One that says nothing of
    /// heartbeats comes from an agent that beats five times in the silence that it bears, and knows no floor.
    init(_ offer: OfferMessage, interval: Int, peerInterval: Int?) {
        self.init(
            floor: offer.silenceFloorMilliseconds ?? offer.silenceMilliseconds, ceiling: offer.silenceMilliseconds,
            interval: interval, peerInterval: peerInterval ?? offer.silenceMilliseconds / 5)
    }
}
