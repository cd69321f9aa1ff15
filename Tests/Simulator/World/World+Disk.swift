import Model
import Pair
import Protocol

/// Writes that do not belong to an epoch: each is done when both copies have it, or when the register says that one counts.
/// A guest's step is such a write; the disks are as the guest was after the newest one.
extension World {
    /// The guest's step is written here; true when it is done.
    func write(_ step: Int, _ host: Host) -> Bool {
        guard let guest = host.guest else { return false }
        if let server = guest.served { return writeServed(step, server, host) }
        switch guest.disk {
        // It comes with its epoch.
        case .staged: return true
        case .alone:
            disks.acknowledge(step, of: guest.lineage)
            return true
        case .both:
            later(host, 0, .shipWrite(host.session, step))
            let isLonely = if case .lonely = host.primaryState { true } else { false }
            if mutant == .acknowledgesWritesEarly || (mutant == .acknowledgesWritesAlone && isLonely) {
                disks.acknowledge(step, of: guest.lineage)
                return true
            }
            host.guest?.pending = step
            return false
        }
    }

    /// What waited for the other copy is done.
    func finishWrite(_ host: Host) {
        guard let step = host.guest?.pending else { return }
        host.guest?.pending = nil
        if host.guest?.disk != .staged { disks.acknowledge(step, of: host.guest?.lineage ?? nil) }
        emit(step, host)
    }

    func beWritten(_ session: SessionID, _ step: Int, _ host: Host) {
        guard session == host.session, host.guest?.pending == step else { return }
        if let server = host.guest?.served { return reachThere(step, server, host) }
        if host.guest?.disk == .both { finishWrite(host) }
    }

    // MARK: - The standby's copy

    func takeWrite(_ session: SessionID, _ step: Int, _ host: Host) {
        guard host.standby?.session == session else { return }
        host.writes.append(step)
        applyWrites(host)
    }

    /// In order, and after the epoch before them.
    func applyWrites(_ host: Host) {
        guard let replica = host.replica, !host.writes.isEmpty, replica.applied == replica.staged else { return }
        guard host.standby?.machine.takesWrites == true || mutant == .takesWritesAfterAsking else {
            host.writes = []
            return
        }
        for step in host.writes {
            if replica.hasAsked {
                verdict.fail("I5", "\(host.name) answers for write \(step) after it had asked to take over")
            }
            host.replica?.tip = step
            send(.written(replica.session, step), on: host.link, from: host)
        }
        host.writes = []
    }

    // MARK: - Starts

    /// The guest boots from what the disks hold after that step.
    func bootFromDisk(_ tip: Int, of lineage: Lineage?, _ host: Host) {
        trace("\(host.name) starts the guest from its disks, step \(tip)")
        judgeStart(host)
        clients.resume(tip, of: lineage ?? Lineage(0), history, &verdict)
        disks.start(tip, of: lineage, history, &verdict)
        let root = history.step(after: tip)
        var guest = Guest(id: newID(), tip: root, memory: [Int](repeating: root, count: Guest.groups))
        guest.lineage = lineage
        host.guest = guest
        if let lineage { host.tag = (guest.id, lineage) }
        queue.add(.guestStep(guest: guest.id), at: now + plan.guestStep)
    }

    /// Its QEMU died here.
    func startAgain(_ host: Host) {
        guard let dead = host.guest else { return }
        if mutant == .runsWhenMade, dead.isAlive { return tellPrimary(host) { $0.handle(.guestStarted) } }
        if dead.isAlive { verdict.fail("I15", "\(host.name) starts the guest again while it lives") }
        if dead.served?.isBehind(history) == true {
            verdict.fail("I40", "\(host.name) starts the guest from a copy of its disk that lacks what was done")
        }
        bootFromDisk(dead.tip, of: dead.lineage, host)
        tellPrimary(host) { $0.handle(.guestStarted) }
    }

    /// A standby that won, and waited for the former owner's lease.
    func startFromDisk(_ session: SessionID, _ host: Host) {
        guard let replica = host.replica, replica.session == session, let register = host.standby?.machine.register
        else { return }
        guard !host.resumeFails else {
            host.resumeFails = false
            return endWork(host) { $0.resumed(.failure(SessionError(.qemu, "planted"))) }
        }
        registers.act(on: register.term, host.durable, "the guest was started", &verdict)
        endQEMU(host)
        let goesBack =
            mutant == .resumesAtLowerLevel || (mutant == .resumesAtAskedLevel && hosts[host.other].hasFallen)
        bootFromDisk(goesBack ? replica.memoryTip : replica.tip, of: register.lineage, host)
        goOnAsPrimary(host)
    }
}
