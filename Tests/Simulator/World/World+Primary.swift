import Messages
import Model
import Pair
import Protocol
import Wire

/// The primary's shell: what Pair and Agent do for `PrimaryMachine`.
extension World {
    func perform(_ action: PrimaryMachine.Action, _ host: Host) {
        switch action {
        case .hold: hold(host)
        case .release(let epoch): release(through: epoch, host)
        case .releaseEverything: releaseEverything(host)
        case .dropHeld: dropHeld(host)
        case .compareAndSet(let expecting, let new, let nonce): askForChange(expecting, new, nonce, host)
        case .readRegister: read(host)
        case .persist(let record): persist(record, host)
        case .offer(let offer, _): connect(offer, host)
        case .startCopy: startCopy(host)
        case .tellRegister(let register):
            if mutant == .holdsLate, host.guest?.gate == .flowing { host.guest?.gate = .holding }
            wasPaired = wasPaired || register.mode == .paired
            say(.register(register), host)
        case .sealLast:
            checkAnswered(host, since: host.switchAskedAt, "\(host.name) stops its guest for a switchover")
            host.stoodSince = now
            if mutant != .handsOverRunning { host.guest?.isRunning = false }
            later(host, 1, .cutLastEpoch(host.session))
        case .resumeGuest:
            if mutant == .standsUntilDecided, case .lonely = host.primary?.state { break }
            host.stoodSince = nil
            host.guest?.isRunning = true
        case .stopGuest: host.guest?.isRunning = false
        case .askTakeOver(let term, let stands): askTakeOver(term, guestStands: stands, host)
        case .dismissStandby:
            say(.goodbye(GoodbyeMessage(kind: .unprotected, reason: "planned")), host)
            if mutant == .leavesUnanswered { feed(host, .letGo(host.session)) }
        case .closeLink:
            close(host.link, at: host)
            host.link = -1
        case .detach: if host.guest?.gate != .closed { host.guest?.gate = .detached }
        case .killGuest: killGuest(host)
        case .fencePeer(_, let nonce): fencePeer(nonce, host)
        case .stopFencing: stopFencing(host)
        case .becomeStandby(let record): becomeStandby(record, host)
        case .end: endProtection(host)
        case .refuseSwitchover, .report: break
        }
    }

    private func read(_ host: Host) {
        // The arbiter is taken to be there.
        if mutant == .stopsUnasked, case .paired = host.primary?.state, let register = host.primary?.register {
            return feed(host, PrimaryMachine.Event.registerRead(register))
        }
        ask(.read, host)
    }

    // MARK: - Output

    func clientSees(_ packet: Int, _ host: Host) { letOutFreely(packet, host) }

    /// One packet reaches the clients.
    private func letOut(_ packet: Int, _ host: Host) {
        clients.see(packet, of: host.guest?.lineage ?? nil, history, &verdict)
        lastOutput = now
    }

    /// I1, I2: output that no acknowledgement covers leaves only under SOLO.
    private func letOutFreely(_ packet: Int, _ host: Host) {
        if host.guest?.lineage != nil {
            let register = rules(host)
            if register?.owner != host.name || register?.mode != .solo {
                verdict.fail("I1", "step \(packet) left \(host.name) freely; the register is \(describe(register))")
            }
        }
        host.lastFree = packet
        letOut(packet, host)
    }

    private func checkClaim(_ host: Host, _ term: Term) {
        if !host.hasClaimed { verdict.fail("I14", "\(host.name) let output go before it had claimed its term") }
        registers.act(on: term, host.durable, "output was let go", &verdict)
    }

    /// What the guest's last step sent goes where the gate says.
    func emit(_ packet: Int, _ host: Host) {
        guard let guest = host.guest else { return }
        switch guest.gate {
        case .detached: letOutFreely(packet, host)
        case .closed: break
        case .flowing, .holding:
            // Without the agent that holds the sockets, QEMU drops it; while the agent stands still, it waits.
            guard host.isUp, guest.gateLife == host.life else { return }
            host.held.append((guest.epoch, packet))
            if guest.gate == .flowing, host.stalledUntil <= now {
                let waiting = host.held
                host.held = []
                for (_, packet) in waiting { letOutFreely(packet, host) }
            }
        }
    }

    private func hold(_ host: Host) {
        guard let gate = host.guest?.gate, gate == .flowing || gate == .holding else { return }
        if mutant == .holdsLate, case .pairing = host.primary?.state { return }
        if mutant == .startsWithoutHolding, case .adopting = host.primary?.state {
            host.guest?.gate = .flowing
            host.guest?.gateLife = host.life
            return
        }
        host.guest?.gate = .holding
        host.guest?.gateLife = host.life
    }

    private func release(through epoch: Epoch, _ host: Host) {
        checkClaim(host, Term(0))
        let limit = mutant == .releasesAllOnAcknowledgement ? host.sealed : epoch
        letOutHeld(through: limit, host)
        say(.released(epoch), host)
    }

    private func letOutHeld(through epoch: Epoch, _ host: Host) {
        var kept = 0
        while kept < host.held.count, host.held[kept].epoch <= epoch {
            checkpoints.release(host.session, host.held[kept].epoch, &verdict)
            letOut(host.held[kept].packet, host)
            kept += 1
        }
        host.held.removeFirst(kept)
    }

    private func releaseEverything(_ host: Host) {
        guard let guest = host.guest, guest.gate != .closed else { return }
        if guest.gate != .detached, let register = host.primary?.register, guest.lineage != nil {
            checkClaim(host, register.term)
        }
        let held = host.held
        host.held = []
        for (_, packet) in held { letOutFreely(packet, host) }
        if guest.gate != .detached { host.guest?.gate = .flowing }
    }

    private func dropHeld(_ host: Host) {
        if mutant == .releasesOnFence {
            for (_, packet) in host.held { letOutFreely(packet, host) }
        }
        host.held = []
        host.guest?.gate = .closed
    }

    // MARK: - The register

    private func askForChange(_ expecting: Register?, _ new: Register, _ nonce: Nonce, _ host: Host) {
        let isLonely = if case .lonely = host.primary?.state { true } else { false }
        if isLonely, mutant == .soloWithoutAsking || (mutant == .forgetsToBurn && expecting?.mode == .solo) {
            host.hasClaimed = true
            return feedLater(.applied(new), nonce, host)
        }
        ask(.compareAndSet(expecting: expecting, new: new, nonce: nonce), host)
    }

    /// As if the arbiter had said so.
    func feedLater(_ answer: RegisterAnswer, _ nonce: Nonce, _ host: Host) {
        let new: Register
        if case .applied(let register) = answer { new = register } else { return }
        let question = Question(
            id: newID(), host: host.index, life: host.life,
            kind: .compareAndSet(expecting: nil, new: new, nonce: nonce))
        host.question = question.id
        later(host, 1, .answer(question, answer))
    }

    // MARK: - Epochs

    func lookForStandby(_ host: Host) {
        later(host, 150, .lookForStandby)
        guard host.primary != nil else { return }
        feed(host, .candidate(hosts[host.other].name, asked: false))
    }

    private func startCopy(_ host: Host) {
        guard host.guest?.isAlive == true else { return }
        host.guest?.gate = .flowing
        host.guest?.gateLife = host.life
        host.guest?.epoch = Epoch(1)
        host.guest?.dirty = 0
        host.held = []
        (host.sealed, host.copyIsDone) = (.firstCopy, false)
        later(host, plan.copyStep, .copyStep(host.session, 0))
    }

    func copy(_ step: Int, of session: SessionID, _ host: Host) {
        guard host.session == session, host.primary?.session?.id == session, let guest = host.guest, guest.isAlive
        else { return }
        let per = Guest.groups / 3
        var changes: [Change] = []
        for group in step * per..<(step + 1) * per {
            changes.append(Change(group: group, version: guest.memory[group]))
            host.guest?.dirty &= ~(1 << UInt64(group))
        }
        send(.copy(session, step: step, changes), on: host.link, from: host)
        if step == 2 {
            host.copyIsDone = true
            later(host, plan.epoch, .cutEpoch(session))
        } else {
            later(host, plan.copyStep, .copyStep(session, step + 1))
        }
    }

    func cutEpoch(of session: SessionID, _ host: Host) {
        guard host.session == session, let current = host.primary?.session, current.id == session,
            let guest = host.guest, guest.isAlive
        else { return }
        later(host, plan.epoch, .cutEpoch(session))
        guard guest.isRunning, host.sealed.number < current.acknowledged.number + 3 else { return }
        seal(session, isLast: false, host)
    }

    func cutLastEpoch(of session: SessionID, _ host: Host) {
        guard host.session == session, host.primary?.session?.id == session, host.guest?.isAlive == true else { return }
        seal(session, isLast: true, host)
    }

    private func seal(_ session: SessionID, isLast: Bool, _ host: Host) {
        guard let guest = host.guest else { return }
        let epoch = host.sealed.next
        host.sealed = epoch
        checkpoints.seal(session, epoch, guest, &verdict)
        var changes: [Change] = []
        for group in 0..<Guest.groups where guest.dirty & (1 << UInt64(group)) != 0 {
            changes.append(Change(group: group, version: guest.memory[group]))
        }
        if mutant == .capturesTooLittle, !changes.isEmpty, random.chance(perMille: 100) { changes.removeLast() }
        let outputs = host.held.filter { $0.epoch == epoch }.map(\.packet)
        host.guest?.dirty = 0
        host.guest?.epoch = epoch.next
        host.guest?.isRunning = false
        let life = host.life
        feed(host, isLast ? .sealedLast(session, epoch) : .sealed(session, epoch))
        guard host.life == life else { return }
        if !isLast || mutant == .handsOverRunning { host.guest?.isRunning = true }
        if mutant == .releasesBeforeAcknowledgement { letOutHeld(through: epoch, host) }
        let half = changes.count / 2
        let isDamaged = nextFrameIsDamaged
        nextFrameIsDamaged = false
        let first = Array(changes[..<half])
        send(.data(session, epoch, part: 0, first, outputs: outputs, isDamaged: isDamaged), on: host.link, from: host)
        if !(mutant == .acceptsGaps && random.chance(perMille: 50)) {
            send(
                .data(session, epoch, part: 1, Array(changes[half...]), outputs: [], isDamaged: false),
                on: host.link, from: host)
        }
        send(
            .checkpointEnd(session, epoch, tip: guest.tip, CheckpointDigest(session, epoch, tip: guest.tip)),
            on: host.link, from: host)
        if isLast, mutant == .handsOverEarly {
            for number in (host.primary?.acknowledged.number ?? 0) + 1..<epoch.number + 1 {
                feed(host, .acknowledged(session, Epoch(number), digestMatches: true))
            }
        }
    }

    func arriveAtPrimary(_ message: Message, _ link: Int, _ host: Host) {
        guard host.primary != nil else {
            // A session that is over has no connection.
            switch message {
            case .closed: close(link, at: host)
            case .fromStandby(_, .goodbye(let message)) where message.staysStandby == true: close(link, at: host)
            default: break
            }
            return
        }
        switch message {
        case .accept(let session, let identity): feed(host, .accepted(session, identity))
        case .refuse(let session, let reason, let known):
            feed(host, .refused(session, reason))
            if let known, host.primary != nil { feed(host, .peerRegister(known)) }
        case .closed:
            close(link, at: host)
            loseLink(link, host)
        case .fromStandby(let session, let message): hear(message, of: session, host)
        case .offer, .copy, .data, .checkpointEnd, .fromPrimary: break
        }
    }

    private func hear(_ message: StandbyMessage, of session: SessionID, _ host: Host) {
        switch message {
        case .acknowledge(let epoch, _):
            let session = mutant == .acceptsStaleAcknowledgements ? host.session : session
            feed(host, .acknowledged(session, epoch, digestMatches: true))
        case .register(let register): feed(host, .peerRegister(register))
        case .goodbye(let message) where message.staysStandby == true: feed(host, .declined(session, "planned"))
        case .goodbye(let message):
            switch message.kind {
            case .handedBack: feed(host, .handedBack(session))
            case .failed where host.primary?.isDismissing != true: feed(host, .standbyLost(session))
            default: feed(host, .letGo(session))
            }
        case .wish: feed(host, .standbyLeaves(session))
        case .accept, .refuse: break
        }
    }

    private func say(_ message: PrimaryMessage, _ host: Host) {
        send(.fromPrimary(host.session, message), on: host.link, from: host)
    }

    // MARK: - The guest

    private func askTakeOver(_ term: Term, guestStands: Bool, _ host: Host) {
        if plan.rule != .arbiter, guestStands {
            registers.act(on: term, host.durable, "the guest was handed over", &verdict)
        }
        say(.takeOver(term, guestStands: guestStands), host)
        if guestStands { later(host, 900, .handOverOverdue(host.session)) }
    }

    private func killGuest(_ host: Host) {
        host.stoodSince = nil
        if !host.isTold, host.guest?.isAlive == true, host.guest?.lineage == newestRegister?.lineage,
            newestRegister?.owner == host.name
        {
            verdict.fail("I23", "\(host.name) kills its guest, and the register says that it may run it")
        }
        if plan.rule != .arbiter { checkNothingMerged(host) }
        guard let guest = host.guest else { return }
        if mutant == .fencesOnPaper {
            later(host, 20, .guestIsGone(guest.id))
        } else {
            queue.add(.guestEnds(guest: guest.id), at: now + 20)
        }
    }

    /// Without an arbiter, what a host did alone is given up only by the operator.
    private func checkNothingMerged(_ host: Host) {
        guard !host.isTold, host.guest?.lineage != nil, let peer = hosts[host.other].guest, peer.isAlive else {
            return
        }
        if !history.isOnTheWay(host.lastFree, to: peer.tip) {
            verdict.fail("I24", "\(host.name) let step \(host.lastFree) out alone and gives that up unasked")
        }
    }

    /// I15: a standby only where no guest of ours lives.
    private func becomeStandby(_ record: LocalRecord, _ host: Host) {
        if host.guest?.isAlive == true, mutant != .fencesOnPaper {
            verdict.fail("I15", "\(host.name) becomes a standby while its guest lives")
        }
        host.primary = nil
        (host.question, host.readings) = (0, 0)
        host.standby = newStandby(host, record)
    }

    private func endProtection(_ host: Host) {
        host.primary = nil
        (host.question, host.readings) = (0, 0)
        host.held = []
        host.tag = nil
        guard host.guest?.isAlive == true else {
            host.standby = newStandby(host)
            return
        }
        // It is nobody's now, and its packets are no business of ours.
        if host.guest?.gate != .closed { host.guest?.gate = .detached }
        host.guest?.lineage = nil
    }

    func standbySeed(_ host: Host) -> UInt64 {
        mutant == .keepsIncarnation ? UInt64(host.index) : random.next()
    }

    func newPrimary(_ host: Host, _ guest: PrimaryMachine.Guest) -> PrimaryMachine {
        PrimaryMachine(
            node: host.name, rule: mutant == .usesManualPolicy ? .manual(.runAlone) : plan.rule,
            reprotection: .automatic, guest: guest, level: .system, record: host.unwritten.last ?? host.durable,
            fences: fencesOfPrimary(host), seed: random.next())
    }

    func stepGuest(_ id: Int) {
        guard let host = hosts.first(where: { $0.guest?.id == id }), host.guest?.isAlive == true else { return }
        queue.add(.guestStep(guest: id), at: now + plan.guestStep)
        guard host.guest?.isRunning == true, let tip = host.guest?.tip else { return }
        // The agent, when it runs, keeps the guest standing while too much is held (I19); QEMU's socket does otherwise.
        if host.held.count >= Guest.heldMax, mutant != .boundless { return }
        if host.held.count > Guest.heldMax { verdict.fail("I19", "\(host.held.count) packets are held") }
        let step = history.step(after: tip)
        let group = random.below(Guest.groups)
        host.guest?.tip = step
        host.guest?.memory[group] = step
        host.guest?.dirty |= 1 << UInt64(group)
        emit(step, host)
    }

    /// QEMU ends.
    func endGuest(_ id: Int) {
        guard let host = hosts.first(where: { $0.guest?.id == id }), host.guest?.isAlive == true else { return }
        host.guest?.isAlive = false
        host.guest?.isRunning = false
        if host.isUp { later(host, 5, .guestIsGone(id)) }
    }
}
