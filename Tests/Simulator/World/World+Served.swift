import Messages
import Model
import Pair
import Protocol
import Storage
import Wire

/// Level `component`: a disk is served from two copies, and the one at the guest's host may be lost and come back (I40).
extension World {
    static let diskIndex: UInt16 = 0
    private static let diskName = "disk0"
    private static let rejoinPeriod = 150

    // MARK: - Attached and detached

    /// The guest stands still for it, and no write of its is under way.
    func serve(_ session: SessionID, _ host: Host) {
        guard isServing(session, host), let guest = host.guest, guest.isAlive, guest.served == nil,
            host.primary?.dial?.step == .attaching(.served)
        else { return }
        guard guest.isRunning, guest.pending == nil, guest.disk != .alone else {
            return later(host, 2, .serve(session))
        }
        let server = SimDiskServer(tip: guest.tip)
        server.rules.pair()
        server.agentLife = host.life
        host.guest?.served = server
        if host.diskIsBroken { loseCopy("it cannot be written", host) }
        tellPart(session, host) { $0.hear(.attached(.served)) }
        if host.guest?.served === server { later(host, Self.rejoinPeriod, .rejoinWhenDue(session)) }
    }

    /// The guest stands still for it: what it writes next is written to the image here.
    func serveNoMore(_ session: SessionID, _ host: Host) {
        guard isServing(session, host), let guest = host.guest, guest.isAlive, let server = guest.served else {
            return tellPart(session, host) { $0.hear(.detached(.served)) }
        }
        guard guest.isRunning, guest.pending == nil else { return later(host, 2, .serveNoMore(session)) }
        let isClimbing = host.primary?.keeper.asked != nil
        guard server.rules.isWhole || mutant == .turnsBackLostCopy || (mutant == .climbsPastLostDisk && isClimbing)
        else {
            return tellPart(session, host) { $0.hear(.detachFailed(.served, "it is lost here")) }
        }
        turnBack(server, host)
        tellPart(session, host) { $0.hear(.detached(.served)) }
    }

    /// Everything is taken out of the guest. False where the server was left by an earlier life of the agent and its copy is not
    /// whole: then nobody has the guest in hand any more.
    func leaveServer(_ host: Host) -> Bool {
        guard let guest = host.guest, let server = guest.served else { return true }
        guard isLeft(server, host) else {
            // What is asked of a disk that is lost fails.
            if !server.rules.isWhole, !server.rules.isNoted { host.guest?.pending = nil }
            turnBack(server, host)
            return true
        }
        guard server.rules.isWhole || mutant == .keepsGuestWithLostDisk else {
            endGuest(guest.id)
            (host.primary, host.tag) = (nil, nil)
            host.standby = newStandby(host)
            return false
        }
        server.rules.goAlone()
        turnBack(server, host)
        return true
    }

    /// A restarted agent asks the servers that it finds.
    func endsWithLostDisk(_ guest: Guest, _ host: Host) -> Bool {
        guard let server = guest.served, !server.rules.isWhole else { return false }
        trace("\(host.name) finds its guest's disk lost")
        return mutant != .keepsGuestWithLostDisk
    }

    private func isLeft(_ server: SimDiskServer, _ host: Host) -> Bool { server.agentLife != host.life }

    /// The image here is the guest's disk from now on.
    func turnBack(_ server: SimDiskServer, _ host: Host) {
        host.guest?.served = nil
        if server.isBehind(history) {
            verdict.fail("I40", "\(host.name) goes on with its own copy of the disk, which lacks what was acknowledged")
        }
    }

    /// The process ends with its guest, and leaves the copy here as it is.
    func endServer(_ host: Host) {
        guard let server = host.guest?.served else { return }
        if server.isBehind(history) { host.copyIsBehind = true }
    }

    // MARK: - Writes

    func writeServed(_ step: Int, _ server: SimDiskServer, _ host: Host) -> Bool {
        host.guest?.pending = step
        if server.begin(step) {
            if host.diskIsBroken { loseCopy("a write failed", host) } else { server.reachHere() }
        }
        if host.guest?.disk == .staged {
            later(host, 0, .servedThere(host.session, step))
        } else {
            later(host, 0, .shipWrite(host.session, step))
        }
        if mutant == .servesAloneOnSilence, server.rules.there == .silent { server.reachThere(step) }
        settle(server, host)
        return false
    }

    /// The standby, or the agent for it, has that write.
    func reachThere(_ step: Int, _ server: SimDiskServer, _ host: Host) {
        server.reachThere(step)
        settle(server, host)
    }

    /// Tells the guest what is done.
    private func settle(_ server: SimDiskServer, _ host: Host) {
        guard host.guest?.served === server, let write = server.settle() else { return }
        judge(write, host)
        finishWrite(host)
    }

    /// I40: what is done in one copy only is so because somebody else knows, durably, that the other one is not whole.
    private func judge(_ write: SimDiskServer.UnderWay, _ host: Host) {
        let peer = hosts[host.other]
        guard !write.reachedHere, peer.owners.lacking == nil, peer.guest?.isAlive != true else { return }
        let text = "write \(write.step) is done, and lacking at \(host.name), which \(peer.name) does not know"
        verdict.fail("I40", text)
    }

    // MARK: - The copy here

    func breakDisk(_ host: Host) {
        host.diskIsBroken = true
        if host.guest?.isAlive == true { loseCopy("it does not answer", host) }
    }

    private func loseCopy(_ why: String, _ host: Host) {
        guard let server = host.guest?.served, server.lose(why) else { return }
        trace("\(host.name)'s copy of the disk is lost: \(why)")
        if mutant == .answersBeforeNote { server.rules.note(server.rules.loss) }
        report(server, host)
        settle(server, host)
    }

    /// The server says how the copy here stands, to an agent that is there.
    private func report(_ server: SimDiskServer, _ host: Host) {
        guard host.isUp, let guest = host.guest, !isLeft(server, host) else { return }
        later(host, 1, .diskReport(guest: guest.id, server.report))
    }

    func hear(_ report: ServedReport, ofGuest id: Int, _ host: Host) {
        guard host.primary != nil, let guest = host.guest, guest.id == id, guest.served != nil else { return }
        tellPrimary(host) { $0.hear(disk: Self.diskIndex, Self.diskName, report) }
        if mutant == .climbsPastLostDisk { tellPrimary(host) { $0.hear(.livesBy(.served, nil)) } }
        if mutant == .goesOnWithoutCopy { tellPrimary(host) { $0.handle(.copyLost(false)) } }
        if mutant == .leavesWithLostCopy, report.lost != nil, !report.isNoted,
            host.primary?.machine.mayLiveByStandby == false
        {
            let note = DiskNote(disk: Self.diskIndex, loss: report.loss)
            send(.fromPrimary(host.session, .note(note)), on: host.link, from: host)
        }
        if mutant == .notesWholeEarly, report.isRejoining {
            send(.fromPrimary(host.session, .note(DiskNote(disk: Self.diskIndex, loss: 0))), on: host.link, from: host)
        }
    }

    /// The standby knows of that loss.
    func noted(_ loss: UInt64, _ host: Host) {
        guard let server = host.guest?.served else { return }
        server.rules.note(loss)
        report(server, host)
        settle(server, host)
    }

    /// Who carried its requests has ended.
    func fallSilent(_ host: Host) { host.guest?.served?.rules.fallSilent() }

    // MARK: - It rejoins

    func rejoinWhenDue(_ session: SessionID, _ host: Host) {
        guard isServing(session, host), host.guest?.served != nil else { return }
        later(host, Self.rejoinPeriod, .rejoinWhenDue(session))
        guard let losses = host.primary?.copies.losses.values,
            losses.contains(where: { !$0.isRejoining && $0.isNoted })
        else { return }
        rejoin(host)
    }

    func rejoin(_ host: Host) {
        guard let guest = host.guest, let server = guest.served, !host.diskIsBroken, server.rules.rejoin() else {
            return
        }
        trace("\(host.name)'s copy of the disk rejoins")
        report(server, host)
        queue.add(.copyBack(guest: guest.id), at: now + levelRandom.within(3...60))
    }

    /// What the copy here lacks is read at the standby, through an agent that has a link to it.
    func copyBack(guest id: Int) {
        guard let host = hosts.first(where: { $0.guest?.id == id }), let guest = host.guest, guest.isAlive,
            let server = guest.served, server.rules.here == .rejoining
        else { return }
        if host.diskIsBroken { return loseCopy("it failed again", host) }
        guard let block = server.nextStale(ignoringWrites: mutant == .copiesBackUnderWrites) else {
            guard server.rules.stale.isEmpty else { return queue.add(.copyBack(guest: id), at: now + 2) }
            _ = server.rules.becomeWhole()
            judgeWhole(server, host)
            trace("\(host.name)'s copy of the disk is whole again")
            report(server, host)
            return settle(server, host)
        }
        guard server.rules.there == .paired, host.isUp, host.primary?.connection.linkDown == nil else {
            return loseCopy("the standby is gone", host)
        }
        if mutant == .rejoinsPartly, server.rules.stale.count == 1 {
            server.rules.copied(block)
        } else {
            server.copyBack(block)
        }
        queue.add(.copyBack(guest: id), at: now + levelRandom.within(3...60))
    }

    private func judgeWhole(_ server: SimDiskServer, _ host: Host) {
        let isPast = server.underWay.map { !$0.reachedHere } ?? false
        guard server.isBehind(history) || isPast else { return }
        verdict.fail("I40", "the copy at \(host.name) counts as whole, and lacks what the guest wrote")
    }

    // MARK: - What the standby writes down

    func writeDown(_ note: DiskNote, _ host: Host) {
        guard let session = host.standby?.session, let lineage = host.replica?.lineage else { return }
        if mutant == .notesBeforeWritten { tellNoted(note, session, host) }
        host.lastWrite = max(host.lastWrite, now + levelRandom.within(1...(plan.levels.notesSlowly ? 120 : 8)))
        queue.add(.agent(host.index, life: host.life, .noteWritten(session, note, lineage)), at: host.lastWrite)
    }

    func noteWritten(_ note: DiskNote, _ session: SessionID, _ lineage: Lineage, _ host: Host) {
        host.owners.note(note.disk, isLost: note.loss != 0, in: lineage)
        trace("\(host.name) has written down that the owner's copy is \(note.loss == 0 ? "whole" : "lost")")
        if mutant != .notesBeforeWritten { tellNoted(note, session, host) }
    }

    private func tellNoted(_ note: DiskNote, _ session: SessionID, _ host: Host) {
        guard note.loss != 0 else { return }
        send(
            .fromStandby(session, .noted(DiskNoted(disk: note.disk, loss: note.loss))), on: host.link, from: host)
    }

    // MARK: - Who overwrites whom

    /// I40: a copy that is the only whole one is overwritten by nobody, unless it was given up.
    func judgeOverwriting(of host: Host) {
        guard hosts[host.other].guest?.isOld == true else { return }
        verdict.fail("I40", "\(host.name) lets an older disk overwrite its own, which is the only whole one")
    }

    /// The operator starts the guest from the images at that host, and gives up the other host's where those are not wanted.
    func noteBoot(_ host: Host) {
        host.guest?.isBooted = true
        host.guest?.isOld = host.copyIsBehind
        host.copyIsBehind = false
    }

    func lookAfterDisks(_ host: Host, _ peer: Host) {
        guard isHealing, plan.rule == .arbiter else { return }
        if case .frozen = host.primaryState {
            // The only whole copy is at the other host, and nothing goes on from it by itself.
            let isLost = host.primary?.machine.isCopyLost == true
            if !isLost || !canGoOn(fromImageAt: peer) { settleFrozen(host, goesOn: !isLost) }
        }
        guard host.owners.lacking != nil, host.standbyState == StandbyMachine.State.none, peer.primaryState == .solo,
            let guest = peer.guest, guest.isAlive, guest.isBooted, levelRandom.chance(perMille: 500)
        else { return }
        giveUpOnlyCopy(host)
    }

    private func settleFrozen(_ host: Host, goesOn: Bool) {
        host.isTold = true
        carryOut(goesOn ? .goOn(host.index) : .giveUp(host.index))
    }

    /// The operator reads why a host will not be the standby, and decides that its copy is of no use any more.
    func giveUpOnlyCopy(_ host: Host) {
        trace("the operator gives up the only whole copy at \(host.name)")
        host.owners = OwnersCopies()
        hosts[host.other].guest?.isOld = false
    }
}
