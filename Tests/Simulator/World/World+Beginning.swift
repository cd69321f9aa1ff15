import Model
import Pair
import Protocol

/// How a standby begins, and how it looks for its primary.
extension World {
    /// One that waits for an offer, with what its host remembers or the given record.
    func newStandby(_ host: Host, _ record: LocalRecord? = nil) -> StandbyDuty {
        duty(
            StandbyMachine(
                node: host.name, rule: plan.rule, record: record ?? host.unwritten.last ?? host.durable,
                fences: fences(host), bootsFromDisk: plan.bootsFromDisk, seed: standbySeed(host)), isLinked: false)
    }

    func duty(_ machine: StandbyMachine, isLinked: Bool) -> StandbyDuty {
        var duty = StandbyDuty(
            machine, of: Self.vm, arbiter: nil, ceiling: UInt64(Self.silence) * 1_000_000, isLinked: isLinked,
            applied: machine.applied)
        duty.recorded.steps = []
        return duty
    }

    /// Goes on with a replica that an earlier life of the agent left.
    func recover(_ replica: Replica, _ host: Host) {
        let image = StandbyMachine.Image(
            session: replica.session, identity: replica.identity, term: replica.term, lineage: replica.lineage,
            primary: replica.primary, waits: replica.waits)
        let applied = mutant == .skipsSecondApply ? replica.staged : replica.applied
        if mutant == .skipsSecondApply { host.replica?.tip = replica.slots.last?.tip ?? replica.tip }
        let isLoaded = replica.loaded != nil
        if isLoaded { discard(after: applied, host) }
        let staged = isLoaded ? applied : replica.staged
        host.replica?.staged = staged
        let machine = StandbyMachine(
            node: host.name, rule: plan.rule, record: host.durable, fences: fences(host),
            bootsFromDisk: plan.bootsFromDisk, seed: standbySeed(host), found: image, staged: staged, applied: applied,
            isLoaded: isLoaded)
        var duty = StandbyDuty(
            machine, of: Self.vm, arbiter: nil, ceiling: UInt64(Self.silence) * 1_000_000, isLinked: false,
            listensSince: nanoseconds, applied: applied)
        duty.recorded.steps = []
        host.standby = duty
        host.isRecovered = true
        if applied < staged {
            host.work = (applied.number + 1...staged.number).map { .apply(Epoch($0)) }
            beginWork(host)
        }
        later(host, Self.silence, .standbyBeats)
    }

    func beat(_ host: Host) {
        let (time, lives) = (nanoseconds, hearsPeer(host))
        tellStandby(host) { $0.beat(at: time, hostLives: lives) }
        if host.standby?.isListening == true || host.standby?.heldBack != nil { later(host, 50, .standbyBeats) }
    }
}
