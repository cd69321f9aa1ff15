import Messages
import Model
import Pair
import Wire

/// What a standby and an arbiter say that want what the primary wants.
extension PrimaryDuty {
    /// A standby is found and accepts; the first copy is sealed and acknowledged. Returns what is wanted then.
    mutating func sealFirst(with identity: StandbyIdentity) -> [Output] {
        for case .order(.offer(let offer)) in seekStandby(at: 0) { begin(offer) }
        let accepted = AcceptMessage(
            identity: identity, qemuPID: 1, qemuVersion: "10.0", baseBytes: 0, heartbeatMilliseconds: nil,
            verifies: nil)
        _ = take(.accept(accepted), at: 0)
        _ = agree(identity)
        let wanted = seal(Epoch(1), isLast: false)
        expect(Epoch(1), .of(1), EpochTimings(), waited: 0, at: 1)
        return wanted + take(.acknowledge(Epoch(1), .of(1)), at: 2)
    }

    /// Yes to what is asked of the arbiter, and it is written. Returns what is wanted then.
    mutating func grant(_ outputs: [Output], at now: UInt64) -> [Output] {
        var wanted: [Output] = []
        for case .ask(.compareAndSet(_, let new, let nonce)) in outputs {
            wanted += learn(.answered(nonce, .applied(new)))
            wanted += persisted(new.term, at: now)
        }
        return wanted
    }
}
