import Model
import Pair
import Protocol

/// Below `system`: a guest that died is started again where it ran, when that can be, or else by the standby.
extension World {
    /// A QEMU is to be made that stands still.
    func tryStart(_ host: Host) {
        guard let dead = host.guest else { return }
        if dead.isAlive, mutant != .restartsWithoutProof {
            verdict.fail("I15", "\(host.name) tries to start the guest again while it lives")
        }
        let delay = levelRandom.within(1...20)
        guard !isHealing, levelRandom.chance(perMille: plan.levels.unstartable) else {
            if mutant == .runsWhenMade { bootFromDisk(dead.tip, of: dead.lineage, host) }
            return later(host, delay, .triedToStart(guest: host.guest?.id ?? dead.id, fails: false))
        }
        // Whether QEMU refuses or the guest died too often is no matter here; a QEMU that comes to run is.
        guard mutant == .handsOverAfterRunning else {
            return later(host, delay, .triedToStart(guest: dead.id, fails: true))
        }
        bootFromDisk(dead.tip, of: dead.lineage, host)
        guard let id = host.guest?.id else { return }
        queue.add(.guestEnds(guest: id), at: now + 40)
        later(host, 50, .triedToStart(guest: id, fails: true))
    }

    func endTry(_ guest: Int, fails: Bool, _ host: Host) {
        guard host.guest?.id == guest else { return }
        guard fails else { return tellPrimary(host) { $0.handle(.startable) } }
        // Where it was given away lately, it is not given away again.
        let starts = levelRandom.chance(perMille: 800) ? levelRandom.within(1...3) : nil
        tellPrimary(host) { $0.failToStart(SessionError(.qemu, "planted"), starts: starts) }
    }

    /// The standby was asked to start it.
    func noteGiven(_ host: Host) {
        guard mutant == .startsWhatItGave, let dead = host.guest else { return }
        bootFromDisk(dead.tip, of: dead.lineage, host)
    }
}
