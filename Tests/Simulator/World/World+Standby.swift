import Messages
import Model
import Pair
import Protocol
import Standby
import Wire

/// What carries a standby's decisions out: `StandbyDuty` decides, as it is shipped; replica, stage and apply thread are fakes.
extension World {
    /// Tells the standby's duty of what happened, and carries out what it wants.
    func tellStandby(_ host: Host, _ happened: (inout StandbyDuty) -> [StandbyDuty.Output]) {
        guard var duty = host.standby else { return }
        host.standby = nil
        let outputs = happened(&duty)
        note(duty.recorded.takeSteps(), host)
        host.standby = duty
        closePort(host)
        perform(outputs, host) { perform($0, host) }
    }

    private func note(_ steps: [RecordedMachine<StandbyMachine>.Step], _ host: Host) {
        for step in steps {
            coverage.visit(step)
            if isTraced, !step.event.isRoutine, !step.actions.isEmpty || step.before.state != step.after.state {
                trace(
                    "\(host.name) standby \(step.before.state.name) \(step.event) -> \(step.after.state.name)"
                        + " \(shortened(step.actions))")
            }
            if step.actions.contains(.reportPrimaryLost) { alarm(host) }
        }
    }

    private func perform(_ output: StandbyDuty.Output, _ host: Host) {
        switch output {
        case .send(let message): say(message, host)
        case .closeLink:
            if keepsLink, host.standbyState == .arbitrating { break }
            close(host.link, at: host)
            host.link = -1
        case .enqueue(.dismantle): dismantle(host)
        case .enqueue(let work):
            if case .load = work, host.standbyState == .loading {
                checkAnswered(host, since: host.handOverAskedAt, "\(host.name) uses its image up")
            }
            host.work.append(work)
            if host.work.count == 1 { beginWork(host) }
        case .discard(let epoch): discard(after: epoch, host)
        case .ask(.compareAndSet(let expecting?, let new, let nonce)): askToTakeOver(expecting, new, nonce, host)
        case .ask(.compareAndSet): verdict.fail("I16", "a takeover was asked for without a register")
        case .ask(.read): read(host)
        case .stopAsking: (host.question, host.readings) = (0, 0)
        case .persist(let record):
            persist(record, host)
            if case .takingOver = host.standbyState, host.losesImage { queue.add(.imageIsLost(host.index), at: now) }
        case .fence(_, let nonce, _): fencePeer(nonce, host)
        case .stopFencing: stopFencing(host)
        case .lease(let event): tellLease(event, host)
        case .answer(let answer): self.answer(answer, host)
        case .note(let note): writeDown(note, host)
        case .report, .settle: break
        }
    }

    /// What the standby tells its primary.
    private func say(_ message: StandbyMessage, _ host: Host) {
        guard let session = host.standby?.session else { return }
        if case .acknowledge(let epoch, _) = message { noteAcknowledgement(of: epoch, host) }
        send(.fromStandby(session, message), on: host.link, from: host)
    }

    private func read(_ host: Host) {
        guard case .consulting = host.standbyState else {
            host.replica?.hasAsked = true
            return ask(.read, host)
        }
        // The arbiter is taken to be there.
        if mutant == .loadsUnasked {
            let register = host.standby?.machine.register
            return tellStandby(host) { $0.learn(.read(register)) }
        }
        ask(.read, host)
    }

    private func askToTakeOver(_ expecting: Register, _ new: Register, _ nonce: Nonce, _ host: Host) {
        if mutant == .loadsUnapplied, let replica = host.replica, replica.loaded == nil {
            host.replica?.loaded = (replica.memory, replica.tip)
        }
        if mutant == .bootsUnapplied, let replica = host.replica, replica.whenAsked == nil {
            host.replica?.whenAsked = (replica.memory, replica.tip)
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

    /// The part of the agent that answers offers.
    private func answer(_ answer: StandbyDuty.OfferAnswer, _ host: Host) {
        switch answer {
        case .prepare(let offer, let identity): prepare(offer, identity, host)
        case .accept(let session, let identity): accept(session, identity, host)
        case .refuse(let session, let reason, let known): refuse(session, reason, known, host)
        }
    }

    private func prepare(_ offer: SessionOffer, _ identity: StandbyIdentity, _ host: Host) {
        if offer.term < host.durable.seen {
            verdict.fail("I11", "an offer of term \(offer.term) was taken up, \(host.durable.seen) is known")
        }
        host.link = host.offers.last { $0.session == offer.session }?.link ?? -1
        host.offers.removeAll { $0.session == offer.session }
        (host.work, host.writes, host.isRecovered) = ([], [], false)
        host.owners = OwnersCopies()
        host.replica = Replica(
            session: offer.session, identity: identity, term: offer.term, lineage: offer.lineage,
            primary: offer.primary, waits: offer.waits)
        let fails = host.diskIsBroken || !isHealing && random.chance(perMille: plan.failedPreparations)
        later(host, random.within(5...60), fails ? .failsToPrepare(offer.session) : .prepared(offer.session))
    }

    private func accept(_ session: SessionID, _ identity: StandbyIdentity, _ host: Host) {
        guard let replica = host.replica, replica.session == session else { return }
        registers.begin(replica.identity, &verdict)
        registers.act(on: replica.term, host.durable, "a session was accepted", &verdict)
        if host.guest?.isAlive == true {
            verdict.fail("I15", "\(host.name) accepts a session while its old guest lives")
        }
        judgeOverwriting(of: host)
        let accepted = AcceptMessage(
            identity: replica.identity, qemuPID: 0, qemuVersion: "", baseBytes: 0, heartbeatMilliseconds: nil,
            verifies: nil)
        send(.fromStandby(session, .accept(accepted)), on: host.link, from: host)
    }

    private func refuse(_ session: SessionID, _ reason: String, _ known: Register?, _ host: Host) {
        let link = host.offers.last { $0.session == session }?.link ?? host.link
        host.offers.removeAll { $0.session == session }
        let message = RefuseMessage(because: reason, knows: known)
        send(.fromStandby(session, .refuse(message)), on: link, from: host)
        close(link, at: host)
        if link == host.link { host.link = -1 }
    }

    /// The replica is removed, and this host waits for another offer.
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
        (host.work, host.writes) = ([], [])
        (host.question, host.readings) = (0, 0)
        guard host.standby != nil else { return }
        let life = host.life
        tellStandby(host) { $0.dismantled() }
        if host.life == life { host.standby = newStandby(host) }
    }

    /// Its QEMU is ended, loaded or not.
    func endQEMU(_ host: Host) {
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
        case .checkpointEnd(let session, let epoch, let tip, let digest):
            guard belongs(session, host) else { return }
            finish(epoch, tip, digest, link, host)
        case .fromPrimary(let session, let message): hear(message, of: session, host)
        case .memory(let session, let changes): if belongs(session, host) { write(changes, host) }
        case .write(let session, let step): if belongs(session, host) { takeWrite(session, step, host) }
        case .promiseAsked(let question, let term): tellLease(.promiseAsked(question: question, term), host)
        case .lendPort, .returnPort, .carryOrder, .frame: takeCarried(message, host)
        case .fromStandby, .written, .promise, .carryNews: break
        }
    }

    private func belongs(_ session: SessionID, _ host: Host) -> Bool {
        guard let replica = host.replica, !replica.isUsedUp else { return false }
        return replica.session == session || mutant == .acceptsStaleFrames
    }

    /// What a primary says reaches the shell of its session.
    private func hear(_ message: PrimaryMessage, of session: SessionID, _ host: Host) {
        guard host.standby?.session == session || mutant == .acceptsStaleFrames else { return }
        switch message {
        case .released(let epoch):
            guard belongs(session, host) else { return }
            host.replica?.outputs.removeAll { $0.epoch <= epoch }
        case .takeOver(_, let stands, _): if stands { host.handOverAskedAt = now }
        case .goodbye: host.isTold = true
        case .register, .tuning, .synced, .askPromise, .note: break
        }
        take(message, host)
        host.isTold = false
    }

    private func take(_ message: PrimaryMessage, _ host: Host) {
        let (time, lives) = (nanoseconds, hearsPeer(host))
        tellStandby(host) { duty in
            do throws(SessionError) {
                return try duty.take(message, at: time)
            } catch {
                return duty.fail(error, at: time, hostLives: lives)
            }
        }
    }

    private func beOffered(_ offer: SessionOffer, _ link: Int, _ host: Host) {
        guard link > host.newestOffer || mutant == .acceptsOldTerms else { return }
        host.newestOffer = link
        let offer = offered(offer, by: hosts[host.other])
        tellPrimary(host) { $0.hear(of: offer) }
        host.offers.append((offer.session, link))
        guard host.standby != nil else {
            return refuse(offer.session, "the guest is here", host.primary?.machine.register, host)
        }
        guard !host.owners.forbids(offerIn: offer.lineage) || mutant == .overwritesOnlyCopy else {
            return refuse(offer.session, "the only whole copy is here", nil, host)
        }
        if mutant == .acceptsOldTerms, host.standbyState == StandbyMachine.State.none {
            host.standby = newStandby(host, LocalRecord())
        }
        consider(offer, host)
    }

    private func consider(_ offer: SessionOffer, _ host: Host) {
        guard var duty = host.standby else { return }
        let considered = duty.consider(offer)
        note(duty.recorded.takeSteps(), host)
        host.standby = duty
        switch considered {
        case .refused(let reason, let known): refuse(offer.session, reason, known, host)
        case .followed(let machine, let actions, let outputs):
            let life = host.life
            if host.replica != nil { perform(outputs, host) { perform($0, host) } }
            guard host.life == life, verdict.violation == nil else { return }
            host.standby = self.duty(machine, isLinked: true)
            for action in actions {
                guard host.life == life, survives(host) else { return }
                switch action {
                case .persist(let record): persist(record, host)
                case .prepare(let offer, let identity): prepare(offer, identity, host)
                default: break
                }
            }
        }
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
        if mutant == .acknowledgesBeforeStaging, part == 0, case .holding = host.standbyState {
            acknowledgeAtOnce(epoch, host)
        }
    }

    /// The digest covers every frame: whatever is missing or damaged ends the session (I6).
    private func finish(_ epoch: Epoch, _ tip: Int, _ digest: CheckpointDigest, _ link: Int, _ host: Host) {
        guard let replica = host.replica, let index = replica.slots.indices.last, replica.slots[index].epoch == epoch
        else { return }
        let slot = replica.slots[index]
        let isWhole = slot.parts == 2 || mutant == .acceptsGaps
        guard isWhole, !slot.isDamaged || mutant == .acceptsDamage,
            epoch == replica.staged.next || mutant == .acceptsStaleFrames, replica.copySteps == 3
        else {
            guard link == host.link else { return }
            let (time, lives) = (nanoseconds, hearsPeer(host))
            tellStandby(host) {
                $0.fail(SessionError(.protocolBroken, "not what was sent"), at: time, hostLives: lives)
            }
            if host.standby?.heldBack != nil { later(host, 50, .standbyBeats) }
            return
        }
        host.replica?.slots[index].tip = tip
        host.replica?.slots[index].isComplete = true
        host.replica?.staged = epoch
        if mutant == .acknowledgesBeforeFirstCopy, case .receiving = host.standbyState { acknowledge(epoch, host) }
        let life = host.life
        tellStandby(host) { $0.stage(epoch, digest) }
        guard host.life == life, mutant == .acknowledgesAfterAsking else { return }
        switch host.standbyState {
        case .arbitrating, .takingOver, .resuming: acknowledge(epoch, host)
        default: break
        }
    }

    private func noteAcknowledgement(of epoch: Epoch, _ host: Host) {
        guard let replica = host.replica else { return }
        checkpoints.acknowledge(replica.session, epoch, replica, &verdict)
        guard mutant == .fencesUnpaired, epoch == Epoch(1), plan.rule != .arbiter else { return }
        let pair = Register(
            term: replica.term, owner: replica.primary, mode: .paired, session: replica.session,
            standby: replica.identity, lineage: replica.lineage, level: .system)
        take(.register(pair), host)
    }

    /// As no shell may.
    private func acknowledge(_ epoch: Epoch, _ host: Host) {
        noteAcknowledgement(of: epoch, host)
        acknowledgeAtOnce(epoch, host)
    }

    private func acknowledgeAtOnce(_ epoch: Epoch, _ host: Host) {
        guard let session = host.replica?.session, let digest = digestSent(epoch, by: hosts[host.other]) else { return }
        send(.fromStandby(session, .acknowledge(epoch, digest)), on: host.link, from: host)
    }

    func discard(after epoch: Epoch, _ host: Host) {
        if mutant != .takesWritesAfterAsking { host.writes = [] }
        if mutant == .appliesIncomplete, let slot = host.replica?.slots.last, !slot.isComplete {
            write(slot.changes, host)
        }
        if mutant == .standbyReleasesUncommitted { return }
        host.replica?.slots.removeAll { !$0.isComplete || $0.epoch > epoch }
        host.replica?.outputs.removeAll { $0.epoch > epoch }
    }
}
