import LinuxSystem
import NIOCore
import Pair

/// Whether this agent can answer for itself: its decisions are made, its links are read, its sessions watch each other.
final class Vouching: Sendable {
    private let pulses: [Pulse]

    init(group: any EventLoopGroup) {
        var pulses = [Pulse("the decisions' queue", run: { onDecisionQueue($0) })]
        for (index, loop) in group.makeIterator().enumerated() {
            pulses.append(Pulse("event loop \(index + 1)", run: { loop.execute($0) }))
        }
        self.pulses = pulses
    }

    func ask() {
        for pulse in pulses { pulse.ask() }
    }

    /// The part that has not answered for longer than `limit` nanoseconds, if there is one.
    func silent(for limit: UInt64) -> (part: String, silence: UInt64)? {
        for pulse in pulses {
            let silence = pulse.silence
            if silence > limit { return (pulse.name, silence) }
        }
        guard let beat = SessionBeats.oldest else { return nil }
        let now = MonotonicClock.now()
        return now > beat.at + limit ? ("the heartbeat of \(beat.name)", now - beat.at) : nil
    }
}
