import Model
import Pair
import Protocol
import Standby

/// The apply thread of a standby, and its QEMU.
extension World {
    func write(_ changes: [Change], _ host: Host) {
        for change in changes { host.replica?.memory[change.group] = change.version }
    }

    func beginWork(_ host: Host) {
        guard let work = host.work.first, let session = host.replica?.session else { return }
        switch work {
        case .apply(let epoch): beginApplying(epoch, session, host)
        case .load(let epoch): later(host, 30, .load(session, epoch))
        case .resume(let epoch): later(host, 30, .resume(session, epoch))
        case .boot(let epoch):
            host.replica?.hasQEMU = false
            later(host, 80, .boot(session, epoch))
        case .startFromDisk: later(host, 60, .startFromDisk(session))
        case .endReplica:
            if mutant == .bootsAtSwitchover { bootUnnoticed(host) }
            endQEMU(host)
            if mutant == .givesBackRunning { runUnnoticed(host) }
            later(host, random.within(5...500), .replicaIsGone(session))
        case .dismantle: break
        }
    }

    /// The first work is done, and that is told.
    func endWork(_ host: Host, _ happened: (inout StandbyDuty) -> [StandbyDuty.Output]) {
        if !host.work.isEmpty { host.work.removeFirst() }
        let (life, isIdle) = (host.life, host.work.isEmpty)
        tellStandby(host, happened)
        // What was told may have begun the next work.
        if host.life == life, !isIdle { beginWork(host) }
    }

    private func beginApplying(_ epoch: Epoch, _ session: SessionID, _ host: Host) {
        if mutant == .reportsAppliedEarly {
            host.replica?.applied = epoch
            let life = host.life
            tellStandby(host) { $0.apply(epoch) }
            guard host.life == life else { return }
        }
        later(host, random.within(1...6), .applyHalf(session, epoch))
    }

    func applyHalf(of epoch: Epoch, _ session: SessionID, _ host: Host) {
        guard let replica = host.replica, replica.session == session, !replica.isUsedUp,
            let slot = replica.slots.first(where: { $0.epoch == epoch })
        else { return }
        write(Array(slot.changes[..<(slot.changes.count / 2)]), host)
        later(host, random.within(1...6), .applyRest(session, epoch))
    }

    func applyRest(of epoch: Epoch, _ session: SessionID, _ host: Host) {
        guard let replica = host.replica, replica.session == session, !replica.isUsedUp,
            let slot = replica.slots.first(where: { $0.epoch == epoch })
        else { return }
        var changes = slot.changes
        if mutant == .appliesPartly, !changes.isEmpty, random.chance(perMille: 50) { changes.removeLast() }
        write(Array(changes.dropFirst(slot.changes.count / 2)), host)
        host.replica?.tip = slot.tip
        host.replica?.memoryTip = slot.tip
        // All of the disk was copied by then.
        host.copyIsBehind = false
        host.replica?.slots.removeAll { $0.epoch == epoch }
        guard mutant != .reportsAppliedEarly else { return endWork(host) { _ in [] } }
        host.replica?.applied = epoch
        let life = host.life
        endWork(host) { $0.apply(epoch) }
        if host.life == life { applyWrites(host) }
    }

    func replicaIsGone(_ session: SessionID, _ host: Host) {
        guard host.replica?.session == session else { return }
        host.isTold = true
        endWork(host) { $0.handle(.replicaEnded) }
        host.isTold = false
    }

    // MARK: - Resuming

    /// QEMU has the state and does not run it yet.
    func load(from epoch: Epoch, _ session: SessionID, _ host: Host) {
        guard let replica = host.replica, replica.session == session, !replica.isUsedUp else { return }
        guard !host.resumeFails, replica.hasQEMU else {
            host.resumeFails = false
            if mutant == .bootsUnasked, host.standbyState == .arbitrating { bootUnnoticed(host) }
            return endWork(host) { $0.failToLoad(SessionError(.qemu, "planted")) }
        }
        if replica.loaded == nil { host.replica?.loaded = (replica.memory, replica.tip) }
        if mutant == .runsWhenLoaded { runUnnoticed(host) }
        let time = nanoseconds
        endWork(host) { $0.loaded(at: time) }
    }

    func resume(from epoch: Epoch, _ session: SessionID, _ host: Host) {
        guard var replica = host.replica, replica.session == session, let loaded = replica.loaded,
            let register = host.standby?.machine.register
        else { return }
        // What runs is what QEMU has, whatever became of the replica since.
        (replica.memory, replica.tip) = loaded
        guard !host.resumeFails else {
            host.resumeFails = false
            return endWork(host) { $0.resumed(.failure(SessionError(.qemu, "planted"))) }
        }
        trace("\(host.name) resumes from epoch \(epoch), step \(replica.tip)")
        registers.act(on: register.term, host.durable, "the guest was resumed", &verdict)
        checkpoints.resume(replica, epoch, &verdict)
        checkSwitchover(replica, host)
        begin(Guest(id: newID(), tip: replica.tip, memory: replica.memory), from: replica, epoch, register, host)
    }

    /// What clients saw is contained in the state from which the guest goes on, which is the replica's.
    private func begin(
        _ begun: Guest, from replica: Replica, _ epoch: Epoch, _ register: Register, _ host: Host
    ) {
        clients.resume(replica.tip, of: register.lineage, history, &verdict)
        disks.start(replica.tip, of: register.lineage, history, &verdict)
        if register.lineage != replica.lineage, hosts[host.other].durable.register?.standby == replica.identity {
            // Forced, but the primary had never let go of anything beyond its acknowledgements.
            clients.resume(replica.tip, of: replica.lineage, history, &verdict)
        }
        if register.lineage != replica.lineage, !host.isForced {
            verdict.fail("I16", "\(host.name) began another history without the operator's word")
        }
        if mutant != .resumesTwice { host.replica?.isUsedUp = true }
        var guest = begun
        guest.lineage = register.lineage
        host.guest = guest
        host.tag = (guest.id, register.lineage)
        host.hasClaimed = true
        queue.add(.guestStep(guest: guest.id), at: now + plan.guestStep)
        for (held, packet) in replica.outputs where held <= epoch || mutant == .standbyReleasesUncommitted {
            clients.see(packet, of: register.lineage, history, &verdict)
        }
        goOnAsPrimary(host)
    }

    /// The guest runs here.
    func goOnAsPrimary(_ host: Host) {
        (lastOutput, host.lastFree, host.hasClaimed) = (now, -1, true)
        let life = host.life
        endWork(host) { $0.resumed(.success(TakeOverReport())) }
        guard host.life == life, let won = host.standby?.won else { return }
        becomePrimary(won, host)
    }

    // MARK: - Booting

    func boot(from epoch: Epoch, _ session: SessionID, _ host: Host) {
        guard let replica = host.replica, replica.session == session, let register = host.standby?.machine.register
        else { return }
        guard !host.resumeFails, isHealing || !random.chance(perMille: 100) else {
            host.resumeFails = false
            return endWork(host) { $0.resumed(.failure(SessionError(.qemu, "planted"))) }
        }
        registers.act(on: register.term, host.durable, "the guest was booted", &verdict)
        var booted = replica
        if mutant == .bootsUnapplied, let then = replica.whenAsked { (booted.memory, booted.tip) = then }
        checkpoints.boot(booted, epoch, &verdict)
        begin(bootedGuest(booted, host), from: booted, epoch, register, host)
    }

    /// Its memory is new; what it does next is in the history of its disk.
    private func bootedGuest(_ replica: Replica, _ host: Host) -> Guest {
        checkNothingIsBooted(host)
        let first = history.step(after: replica.tip)
        trace("\(host.name) boots from the disk of step \(replica.tip): step \(first)")
        var memory = replica.memory
        for group in 0..<Guest.disk.lowerBound { memory[group] = first }
        return Guest(id: newID(), tip: first, memory: memory)
    }

    /// I37: unless this host has won. While a guest stands still to be handed over, its own host has.
    private func checkNothingIsBooted(_ host: Host) {
        let register = rules(host)
        guard register?.owner != host.name || register?.mode != .solo else { return }
        verdict.fail("I37", "\(host.name) boots the guest, and the register is \(describe(register))")
    }

    /// The guest is booted although its agent did not want that.
    private func bootUnnoticed(_ host: Host) {
        guard let replica = host.replica else { return }
        start(bootedGuest(replica, host), replica.lineage, host)
    }

    private func start(_ begun: Guest, _ lineage: Lineage, _ host: Host) {
        var guest = begun
        guest.lineage = lineage
        host.guest = guest
        queue.add(.guestStep(guest: guest.id), at: now + plan.guestStep)
    }

    /// The guest runs although its agent did not want that.
    private func runUnnoticed(_ host: Host) {
        guard let replica = host.replica else { return }
        start(Guest(id: newID(), tip: replica.tip, memory: replica.memory), replica.lineage, host)
    }

    /// A planned change of host loses nothing, not even what nobody saw.
    private func checkSwitchover(_ replica: Replica, _ host: Host) {
        let peer = hosts[host.other]
        guard let guest = peer.guest, guest.isAlive, case .handingOver(let session) = peer.primaryState,
            session.id == replica.session
        else { return }
        if guest.tip != replica.tip {
            verdict.fail("I25", "the guest stood still at step \(guest.tip) and goes on from step \(replica.tip)")
        }
    }

    private func becomePrimary(_ register: Register, _ host: Host) {
        host.standby = nil
        (host.question, host.readings) = (0, 0)
        close(host.link, at: host)
        host.link = -1
        if mutant != .resumesTwice { host.replica = nil }
        host.owners = OwnersCopies()
        host.primary = newPrimary(host, tookOver: register)
        later(host, 50, .lookForStandby)
        if plan.levels.degrades { later(host, 50, .keepLevel) }
    }
}
