import Model
import Protocol

/// The standby's shell: what Pair and Agent do for `StandbyMachine`.
extension World {
    func perform(_ action: StandbyMachine.Action, _ host: Host) {
        switch action {
        case .prepare(let offer, let identity): prepare(offer, identity, host)
        case .persist(let record):
            persist(record, host)
            if case .takingOver = host.standby?.state, host.losesImage { queue.add(.imageIsLost(host.index), at: now) }
        case .accept(let session, let identity): accept(session, identity, host)
        case .refuse(let session, let reason, let known): refuse(session, reason, known, host)
        case .acknowledge(let epoch): acknowledge(epoch, host)
        case .apply(let epoch):
            host.applyQueue.append(epoch)
            if host.applyQueue.count == 1 { startApplying(host) }
        case .discard(let epoch): discard(after: epoch, host)
        case .compareAndSet(let expecting?, let new, let nonce): askToTakeOver(expecting, new, nonce, host)
        case .compareAndSet: verdict.fail("I16", "a takeover was asked for without a register")
        case .readRegister: read(host)
        case .closeLink:
            close(host.link, at: host)
            host.link = -1
        case .load(let epoch):
            if case .loading = host.standby?.state {
                checkAnswered(host, since: host.handOverAskedAt, "\(host.name) uses its image up")
            }
            if let session = host.replica?.session { later(host, 30, .load(session, epoch)) }
        case .resume(let epoch):
            if let session = host.replica?.session { later(host, 30, .resume(session, epoch)) }
        case .tellRunning(let register):
            if let session = host.replica?.session { send(.registerTold(session, register), on: host.link, from: host) }
        case .becomePrimary(let register): becomePrimary(register, host)
        case .endReplica:
            endQEMU(host)
            if mutant == .givesBackRunning { runUnnoticed(host) }
            if let session = host.replica?.session { later(host, random.within(5...500), .replicaIsGone(session)) }
        case .giveBack(let session): send(.handedBack(session), on: host.link, from: host)
        case .decline(let session, _): send(.declined(session), on: host.link, from: host)
        case .dismantle: dismantle(host)
        case .reportPrimaryLost: alarm(host)
        case .fencePeer(_, let nonce): fencePeer(nonce, host)
        case .stopFencing: stopFencing(host)
        case .confirmDismissal(let session): send(.goodbye(session), on: host.link, from: host)
        case .refuseCommand, .report: break
        }
    }

    private func read(_ host: Host) {
        guard case .consulting = host.standby?.state else {
            host.replica?.hasAsked = true
            return ask(.read, host)
        }
        // The arbiter is taken to be there.
        if mutant == .loadsUnasked { return feed(host, StandbyMachine.Event.registerRead(host.standby?.register)) }
        ask(.read, host)
    }

    private func askToTakeOver(_ expecting: Register, _ new: Register, _ nonce: Nonce, _ host: Host) {
        if mutant == .loadsUnapplied, let replica = host.replica, replica.loaded == nil {
            host.replica?.loaded = (replica.memory, replica.tip)
        }
        host.replica?.hasAsked = true
        registers.ask(expecting, host.replica, &verdict)
        if mutant == .takesOverWithoutAsking {
            host.hasClaimed = true
            return feedLater(.applied(new), nonce, host)
        }
        ask(.compareAndSet(expecting: expecting, new: new, nonce: nonce), host)
    }

    // MARK: - Sessions

    private func prepare(_ offer: SessionOffer, _ identity: StandbyIdentity, _ host: Host) {
        if offer.term < host.durable.seen {
            verdict.fail("I11", "an offer of term \(offer.term) was taken up, \(host.durable.seen) is known")
        }
        host.link = host.offers.last { $0.session == offer.session }?.link ?? -1
        host.offers.removeAll { $0.session == offer.session }
        host.applyQueue = []
        host.replica = Replica(
            session: offer.session, identity: identity, term: offer.term, lineage: offer.lineage,
            primary: offer.primary, waits: offer.waits)
        let fails = !isHealing && random.chance(perMille: plan.failedPreparations)
        later(host, random.within(5...60), fails ? .failsToPrepare(offer.session) : .prepared(offer.session))
    }

    private func accept(_ session: SessionID, _ identity: StandbyIdentity, _ host: Host) {
        guard let replica = host.replica, replica.session == session else { return }
        registers.begin(replica.identity, &verdict)
        registers.act(on: replica.term, host.durable, "a session was accepted", &verdict)
        if host.guest?.isAlive == true {
            verdict.fail("I15", "\(host.name) accepts a session while its old guest lives")
        }
        send(.accept(session, replica.identity), on: host.link, from: host)
    }

    private func refuse(_ session: SessionID, _ reason: String, _ known: Register?, _ host: Host) {
        let link = host.offers.last { $0.session == session }?.link ?? host.link
        host.offers.removeAll { $0.session == session }
        send(.refuse(session, reason, knows: known), on: link, from: host)
        close(link, at: host)
        if link == host.link { host.link = -1 }
    }

    func dismantle(_ host: Host) {
        // I23: unless the operator or a fault took it, the last image is given up only when the register has no use
        // for it.
        if let replica = host.replica, plan.rule == .arbiter, !host.isTold, replica.applied > .firstCopy,
            let register = arbiter.register
        {
            if register.standby == replica.identity
                || (register.owner == host.name && register.mode == .solo && register.term > replica.term)
            {
                verdict.fail("I23", "\(host.name) gives up the image that the register names (\(describe(register)))")
            }
        }
        host.replica = nil
        host.applyQueue = []
        (host.question, host.readings) = (0, 0)
    }

    /// Its QEMU is ended, loaded or not.
    private func endQEMU(_ host: Host) {
        host.replica?.isUsedUp = true
        host.replica?.loaded = nil
    }

    // MARK: - Frames

    func arriveAtStandby(_ message: Message, _ link: Int, _ host: Host) {
        switch message {
        case .offer(let offer):
            beOffered(offer, link, host)
        case .closed:
            close(link, at: host)
            loseLink(link, host)
        case .copy(let session, let step, let changes):
            guard belongs(session, host), host.replica?.copySteps == step || mutant == .acceptsStaleFrames else {
                return
            }
            host.replica?.copySteps = step + 1
            write(changes, host)
        case .data(let session, let epoch, let part, let changes, let outputs, let isDamaged):
            guard belongs(session, host) else { return }
            stage(epoch, part, changes, isDamaged, host)
            for packet in outputs { host.replica?.outputs.append((epoch, packet)) }
        case .checkpointEnd(let session, let epoch, let tip):
            guard belongs(session, host) else { return }
            finish(epoch, tip, link, host)
        case .registerTold(let session, let register): feed(host, .registerTold(session, register))
        case .released(let session, let epoch):
            guard belongs(session, host) else { return }
            host.replica?.outputs.removeAll { $0.epoch <= epoch }
        case .takeOver(let session, let term, let stands):
            if stands { host.handOverAskedAt = now }
            feed(host, .takeOver(session, term, guestStands: stands))
        case .goodbye(let session):
            host.isTold = true
            feed(host, .dismissed(session))
            host.isTold = false
        case .accept, .refuse, .acknowledge, .handedBack, .declined, .leaves: break
        }
    }

    private func belongs(_ session: SessionID, _ host: Host) -> Bool {
        guard let replica = host.replica, !replica.isUsedUp else { return false }
        return replica.session == session || mutant == .acceptsStaleFrames
    }

    private func beOffered(_ offer: SessionOffer, _ link: Int, _ host: Host) {
        guard link > host.newestOffer || mutant == .acceptsOldTerms else { return }
        host.newestOffer = link
        let offer = offered(offer, by: hosts[host.other])
        if host.primary != nil {
            feed(
                host,
                .peerRegister(
                    Register(
                        term: offer.term, owner: offer.primary, mode: .solo, session: .none, standby: nil,
                        lineage: offer.lineage, level: offer.level)))
        }
        guard host.standby != nil else {
            host.offers.append((offer.session, link))
            return refuse(offer.session, "the guest is here", host.primary?.register, host)
        }
        host.offers.append((offer.session, link))
        if mutant == .acceptsOldTerms, host.standby?.image == nil, host.standby?.state == StandbyMachine.State.none {
            host.standby = StandbyMachine(
                node: host.name, rule: plan.rule, record: LocalRecord(), fences: fences(host),
                seed: standbySeed(host))
        }
        feed(host, .offered(offer))
    }

    private func stage(_ epoch: Epoch, _ part: Int, _ changes: [Change], _ isDamaged: Bool, _ host: Host) {
        guard var replica = host.replica else { return }
        host.replica = nil
        if replica.slots.last?.epoch != epoch { replica.slots.append(Replica.Slot(epoch: epoch)) }
        let last = replica.slots.count - 1
        replica.slots[last].parts += 1
        replica.slots[last].changes += changes
        if isDamaged {
            replica.slots[last].isDamaged = true
            replica.slots[last].changes = replica.slots[last].changes.map { Change(group: $0.group, version: -7) }
        }
        host.replica = replica
        if mutant == .acknowledgesBeforeStaging, part == 0, case .holding = host.standby?.state {
            send(.acknowledge(replica.session, epoch), on: host.link, from: host)
        }
    }

    /// The digest covers every frame: whatever is missing or damaged ends the session (I6).
    private func finish(_ epoch: Epoch, _ tip: Int, _ link: Int, _ host: Host) {
        guard let replica = host.replica, let index = replica.slots.indices.last, replica.slots[index].epoch == epoch
        else { return }
        let slot = replica.slots[index]
        let isWhole = slot.parts == 2 || mutant == .acceptsGaps
        guard isWhole, !slot.isDamaged || mutant == .acceptsDamage,
            epoch == replica.staged.next || mutant == .acceptsStaleFrames, replica.copySteps == 3
        else {
            close(link, at: host)
            return loseLink(link, host)
        }
        host.replica?.slots[index].tip = tip
        host.replica?.slots[index].isComplete = true
        host.replica?.staged = epoch
        if mutant == .acknowledgesBeforeFirstCopy, case .receiving = host.standby?.state { acknowledge(epoch, host) }
        let life = host.life
        feed(host, .staged(replica.session, epoch))
        guard host.life == life, mutant == .acknowledgesAfterAsking else { return }
        switch host.standby?.state {
        case .arbitrating, .takingOver, .resuming: acknowledge(epoch, host)
        default: break
        }
    }

    private func acknowledge(_ epoch: Epoch, _ host: Host) {
        guard let replica = host.replica else { return }
        checkpoints.acknowledge(replica.session, epoch, replica, &verdict)
        if mutant == .fencesUnpaired, epoch == Epoch(1), plan.rule != .arbiter {
            let pair = Register(
                term: replica.term, owner: replica.primary, mode: .paired, session: replica.session,
                standby: replica.identity, lineage: replica.lineage, level: .system)
            feed(host, .registerTold(replica.session, pair))
        }
        send(.acknowledge(replica.session, epoch), on: host.link, from: host)
    }

    func discard(after epoch: Epoch, _ host: Host) {
        if mutant == .appliesIncomplete, let slot = host.replica?.slots.last, !slot.isComplete {
            write(slot.changes, host)
        }
        if mutant == .standbyReleasesUncommitted { return }
        host.replica?.slots.removeAll { !$0.isComplete || $0.epoch > epoch }
        host.replica?.outputs.removeAll { $0.epoch > epoch }
    }

    // MARK: - Applying

    private func write(_ changes: [Change], _ host: Host) {
        for change in changes { host.replica?.memory[change.group] = change.version }
    }

    func startApplyingAgain(_ host: Host) { startApplying(host) }

    private func startApplying(_ host: Host) {
        guard let epoch = host.applyQueue.first, let session = host.replica?.session else { return }
        if mutant == .reportsAppliedEarly {
            host.replica?.applied = epoch
            let life = host.life
            feed(host, .applied(session, epoch))
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
        host.replica?.slots.removeAll { $0.epoch == epoch }
        host.applyQueue.removeFirst()
        let life = host.life
        if mutant != .reportsAppliedEarly {
            host.replica?.applied = epoch
            feed(host, .applied(session, epoch))
        }
        guard host.life == life, !host.applyQueue.isEmpty else { return }
        startApplying(host)
    }

    // MARK: - Resuming

    /// QEMU has the state and does not run it yet.
    func load(from epoch: Epoch, _ session: SessionID, _ host: Host) {
        guard let replica = host.replica, replica.session == session, !replica.isUsedUp else { return }
        guard !host.resumeFails else {
            host.resumeFails = false
            return feed(host, .loadFailed("planted"))
        }
        if replica.loaded == nil { host.replica?.loaded = (replica.memory, replica.tip) }
        if mutant == .runsWhenLoaded { runUnnoticed(host) }
        feed(host, .loaded)
    }

    func resume(from epoch: Epoch, _ session: SessionID, _ host: Host) {
        guard var replica = host.replica, replica.session == session, let loaded = replica.loaded,
            let register = host.standby?.register
        else { return }
        // What runs is what QEMU has, whatever became of the replica since.
        (replica.memory, replica.tip) = loaded
        guard !host.resumeFails else {
            host.resumeFails = false
            return feed(host, .resumeFailed("planted"))
        }
        trace("\(host.name) resumes from epoch \(epoch), step \(replica.tip)")
        registers.act(on: register.term, host.durable, "the guest was resumed", &verdict)
        checkpoints.resume(replica, epoch, &verdict)
        clients.resume(replica.tip, of: register.lineage, history, &verdict)
        if register.lineage != replica.lineage, hosts[host.other].durable.register?.standby == replica.identity {
            // Forced, but the primary had never let go of anything beyond its acknowledgements.
            clients.resume(replica.tip, of: replica.lineage, history, &verdict)
        }
        checkSwitchover(replica, host)
        if register.lineage != replica.lineage, !host.isForced {
            verdict.fail("I16", "\(host.name) began another history without the operator's word")
        }
        if mutant != .resumesTwice { host.replica?.isUsedUp = true }
        var guest = Guest(id: newID(), tip: replica.tip, memory: replica.memory)
        guest.lineage = register.lineage
        host.guest = guest
        host.lastFree = -1
        host.tag = (guest.id, register.lineage)
        host.hasClaimed = true
        queue.add(.guestStep(guest: guest.id), at: now + plan.guestStep)
        for (held, packet) in replica.outputs where held <= epoch || mutant == .standbyReleasesUncommitted {
            clients.see(packet, of: register.lineage, history, &verdict)
        }
        lastOutput = now
        feed(host, .resumed)
    }

    /// The guest runs although its agent did not want that.
    private func runUnnoticed(_ host: Host) {
        guard let replica = host.replica else { return }
        var guest = Guest(id: newID(), tip: replica.tip, memory: replica.memory)
        guest.lineage = replica.lineage
        host.guest = guest
        queue.add(.guestStep(guest: guest.id), at: now + plan.guestStep)
    }

    /// A planned change of host loses nothing, not even what nobody saw.
    private func checkSwitchover(_ replica: Replica, _ host: Host) {
        let peer = hosts[host.other]
        guard let guest = peer.guest, guest.isAlive, case .handingOver(let session) = peer.primary?.state,
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
        host.primary = PrimaryMachine(
            tookOver: register, rule: plan.rule, reprotection: .automatic,
            fences: fencesOfPrimary(host), seed: random.next())
        later(host, 50, .lookForStandby)
    }
}
