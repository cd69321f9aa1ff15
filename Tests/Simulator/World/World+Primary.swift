import Messages
import Model
import Pair
import Protocol
import Wire

/// What carries a primary's decisions out: `PrimaryDuty` decides, as it is shipped; guest, gates and capture are fakes.
extension World {
    /// Tells the primary's duty of what happened, and carries out what it wants.
    func tellPrimary(_ host: Host, _ happened: (inout PrimaryDuty) -> [PrimaryDuty.Output]) {
        guard var duty = host.primary else { return }
        host.primary = nil
        let outputs = happened(&duty)
        note(duty.recorded.takeSteps(), host)
        host.primary = duty
        perform(outputs, host) { perform($0, host) }
    }

    private func note(_ steps: [RecordedMachine<PrimaryMachine>.Step], _ host: Host) {
        for step in steps {
            coverage.visit(step)
            guard isTraced, !step.event.isRoutine else { continue }
            let (before, after) = (step.before.state, step.after.state)
            guard !step.actions.isEmpty || before.number != after.number else { continue }
            trace("\(host.name) primary \(before.name) \(step.event) -> \(after.name) \(shortened(step.actions))")
        }
    }

    private func perform(_ output: PrimaryDuty.Output, _ host: Host) {
        switch output {
        case .hold: hold(host)
        case .release(let epoch): release(through: epoch, host)
        case .releaseEverything: releaseEverything(host)
        case .dropHeld: dropHeld(host)
        case .send(let message): say(message, host)
        case .closeLink:
            close(host.link, at: host)
            host.link = -1
        case .startCopy: startCopy(host)
        case .order(let order): carryOut(order, host)
        case .ask(.compareAndSet(let expecting, let new, let nonce)): askForChange(expecting, new, nonce, host)
        case .ask(.read): read(host)
        case .persist(let record): persist(record, host)
        case .fence(_, let nonce, _): fencePeer(nonce, host)
        case .stopFencing: stopFencing(host)
        case .attach(let part): attach(part, host)
        case .detach(let part): detach(part, host)
        case .lease(let event): tellLease(event, host)
        case .noted(let noted): later(host, 1, .noted(noted.loss))
        case .report, .account: break
        }
    }

    /// What the thread that has the guest in hand does.
    private func carryOut(_ order: PrimaryDuty.Order, _ host: Host) {
        switch order {
        case .offer(let offer):
            host.primary?.begin(offer)
            host.isServing = true
            connect(offer, host)
        case .detach:
            detachEverything(host)
            endServing(SessionError(.peerLost, "the session is over"), host)
        case .tryStart: tryStart(host)
        case .startGuest: startAgain(host)
        case .resumeGuest:
            if mutant == .standsUntilDecided, case .lonely = host.primaryState { break }
            host.stoodSince = nil
            host.guest?.isRunning = true
        case .stopGuest: host.guest?.isRunning = false
        case .killGuest: killGuest(host)
        case .sealLast:
            checkAnswered(host, since: host.switchAskedAt, "\(host.name) stops its guest for a switchover")
            host.stoodSince = now
            if mutant != .handsOverRunning { host.guest?.isRunning = false }
            later(host, 1, .cutLastEpoch(host.session))
        case .becomeStandby(let record): becomeStandby(record, host)
        case .end: endProtection(host)
        }
    }

    /// The thread's part in one session is over.
    func endServing(_ error: SessionError, _ host: Host) {
        guard host.isServing else { return }
        host.isServing = false
        tellPrimary(host) { $0.takeDown() }
        tellPrimary(host) { $0.end(error) }
    }

    /// What the primary tells its standby.
    private func say(_ message: PrimaryMessage, _ host: Host) {
        switch message {
        case .register(let register):
            if mutant == .holdsLate, host.guest?.gate == .flowing { host.guest?.gate = .holding }
            wasPaired = wasPaired || register.mode == .paired
        case .takeOver(_, _, let starts) where starts > 0: noteGiven(host)
        case .takeOver(let term, let stands, _) where stands:
            if plan.rule != .arbiter {
                registers.act(on: term, host.durable, "the guest was handed over", &verdict)
            }
            later(host, Self.handOverMax, .primaryBeats(host.session))
        default: break
        }
        send(.fromPrimary(host.session, message), on: host.link, from: host)
        if mutant == .leavesUnanswered, case .goodbye = message {
            let session = host.session
            tellPrimary(host) { $0.handle(.letGo(session)) }
        }
    }

    private func read(_ host: Host) {
        // The arbiter is taken to be there.
        if mutant == .stopsUnasked, case .paired = host.primaryState, let register = host.primary?.machine.register {
            return tellPrimary(host) { $0.learn(.read(register)) }
        }
        ask(.read, host)
    }

    // MARK: - The register

    private func askForChange(_ expecting: Register?, _ new: Register, _ nonce: Nonce, _ host: Host) {
        let isLonely = if case .lonely = host.primaryState { true } else { false }
        if isLonely, mutant == .soloWithoutAsking || (mutant == .forgetsToBurn && expecting?.mode == .solo) {
            host.hasClaimed = true
            return feedLater(.applied(new), nonce, host)
        }
        if let keeper = host.primary?.keeper, keeper.asked != nil {
            let isFalling = if case .falling = keeper.machine.state { true } else { false }
            if mutant == .fallsWithoutAsking && isFalling || mutant == .goesOnAloneWhenFallen && isLonely {
                host.hasClaimed = true
                return feedLater(.applied(new), nonce, host)
            }
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
        let time = nanoseconds
        tellPrimary(host) { $0.seekStandby(at: time) }
    }

    private func startCopy(_ host: Host) {
        guard host.guest?.isAlive == true else { return }
        host.isByEpochs = host.primary?.machine.level.holdsOutput == true
        if host.isByEpochs {
            host.guest?.gate = .flowing
            host.guest?.gateLife = host.life
        }
        host.guest?.epoch = Epoch(1)
        host.guest?.dirty = 0
        host.held = []
        (host.sealed, host.copyIsDone, host.digests) = (.firstCopy, false, [])
        later(host, plan.copyStep, .copyStep(host.session, 0))
    }

    func isServing(_ session: SessionID, _ host: Host) -> Bool {
        host.session == session && host.primary?.machine.session?.id == session
    }

    func copy(_ step: Int, of session: SessionID, _ host: Host) {
        guard isServing(session, host), let guest = host.guest, guest.isAlive else { return }
        // Of the disks there is nothing to be seen here: they are as the guest is when the copy is whole.
        let changes = host.isByEpochs ? takeCopy(step, of: guest, host) : []
        send(.copy(session, step: step, changes), on: host.link, from: host)
        if step == 2 {
            host.copyIsDone = true
            later(host, plan.epoch, .cutEpoch(session))
        } else {
            later(host, plan.copyStep, .copyStep(session, step + 1))
        }
    }

    func cutEpoch(of session: SessionID, _ host: Host) {
        guard isServing(session, host), let guest = host.guest, guest.isAlive,
            let acknowledged = host.primary?.machine.acknowledged
        else { return }
        guard host.isByEpochs || host.sealed == .firstCopy else { return }
        later(host, plan.epoch, .cutEpoch(session))
        guard guest.isRunning, isDrained(guest), host.sealed.number < acknowledged.number + 3 else { return }
        seal(session, isLast: false, host)
    }

    func cutLastEpoch(of session: SessionID, _ host: Host) {
        guard isServing(session, host), let guest = host.guest, guest.isAlive else { return }
        guard isDrained(guest) else { return later(host, 2, .cutLastEpoch(session)) }
        seal(session, isLast: true, host)
    }

    /// QEMU lets a guest stand still once nothing is under way to the server of its disk: an epoch has what was written before.
    func isDrained(_ guest: Guest) -> Bool { guest.served == nil || guest.pending == nil }

    func seal(_ session: SessionID, isLast: Bool, _ host: Host) {
        guard let guest = host.guest else { return }
        let epoch = host.sealed.next
        host.sealed = epoch
        checkpoints.seal(session, epoch, guest, &verdict)
        if guest.disk == .alone { host.guest?.disk = host.isByEpochs ? .staged : .both }
        var changes: [Change] = []
        for group in 0..<Guest.groups where host.isByEpochs && guest.dirty & (1 << UInt64(group)) != 0 {
            changes.append(Change(group: group, version: guest.memory[group]))
        }
        if mutant == .capturesTooLittle, !changes.isEmpty, random.chance(perMille: 100) { changes.removeLast() }
        let outputs = host.held.filter { $0.epoch == epoch }.map(\.packet)
        if host.isByEpochs { host.guest?.dirty = 0 }
        host.guest?.epoch = epoch.next
        host.guest?.isRunning = false
        let life = host.life
        tellPrimary(host) { $0.seal(epoch, isLast: isLast) }
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
        let digest = CheckpointDigest(session, epoch, tip: guest.tip)
        host.primary?.expect(epoch, digest, EpochTimings(), waited: 0, at: nanoseconds)
        host.digests.append(digest)
        send(.checkpointEnd(session, epoch, tip: guest.tip, digest), on: host.link, from: host)
        if isLast, mutant == .handsOverEarly {
            for number in (host.primary?.machine.acknowledged.number ?? 0) + 1..<epoch.number + 1 {
                takeAcknowledgement(Epoch(number), host.digests[Int(number) - 1], host)
            }
        }
    }

    private func takeAcknowledgement(_ epoch: Epoch, _ digest: CheckpointDigest, _ host: Host) {
        let time = nanoseconds
        tellPrimary(host) { $0.take(.acknowledge(epoch, digest), at: time) }
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
        case .closed:
            close(link, at: host)
            loseLink(link, host)
        case .fromStandby(let session, let message): hear(message, of: session, host)
        case .written(let session, let step): beWritten(session, step, host)
        case .promise(let question, let term): confirm(question, term, host)
        case .carryNews(let session, let news): if session == host.session { host.carry?.news = news }
        default: break
        }
    }

    private func hear(_ message: StandbyMessage, of session: SessionID, _ host: Host) {
        if case .acknowledge(let epoch, _) = message, mutant == .acceptsStaleAcknowledgements, session != host.session {
            guard let digest = digestSent(epoch, by: host) else { return }
            return takeAcknowledgement(epoch, digest, host)
        }
        let time = nanoseconds
        guard session == host.session else {
            // Of a session that is over, only what is known of the register counts.
            guard let register = message.register else { return }
            return tellPrimary(host) { $0.take(.register(register), at: time) }
        }
        tellPrimary(host) { $0.take(message, at: time) }
        takeAnswer(host)
        if case .acknowledge = message { noteAcknowledged(host) }
    }

    /// The thread waits for what the standby says to the offer.
    func takeAnswer(_ host: Host) {
        guard host.isServing, case .offering = host.primaryState else {
            if case .failure(let error)? = host.primary?.connection.answer { endServing(error, host) }
            return
        }
        switch host.primary?.connection.answer {
        case .success(let accepted): tellPrimary(host) { $0.agree(accepted.identity) }
        case .failure(let error): endServing(error, host)
        case nil: break
        }
    }

    /// What the standby has to acknowledge an epoch with; nil for one that was not sent in this session.
    func digestSent(_ epoch: Epoch, by host: Host) -> CheckpointDigest? {
        let index = Int(epoch.number) - 1
        return host.digests.indices.contains(index) ? host.digests[index] : nil
    }

    func beat(primary host: Host) {
        let time = nanoseconds
        tellPrimary(host) { $0.beat(at: time) }
        if host.primary?.awaitsHandOver == true { later(host, 50, .primaryBeats(host.session)) }
    }

    // MARK: - The guest

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

    func newPrimary(_ host: Host, _ guest: PrimaryMachine.Guest) -> PrimaryDuty {
        duty(
            PrimaryMachine(
                node: host.name, rule: mutant == .usesManualPolicy ? .manual(.runAlone) : plan.rule,
                reprotection: .automatic, guest: guest, level: plan.levels.level,
                record: host.unwritten.last ?? host.durable, fences: fencesOfPrimary(host), seed: random.next()),
            host, tookOver: false)
    }

    func newPrimary(_ host: Host, tookOver register: Register) -> PrimaryDuty {
        duty(
            PrimaryMachine(
                tookOver: register, rule: plan.rule, reprotection: .automatic, fences: fencesOfPrimary(host),
                seed: random.next()), host, tookOver: true)
    }

    private func duty(_ machine: PrimaryMachine, _ host: Host, tookOver: Bool) -> PrimaryDuty {
        let peer = hosts[host.other].name
        var duty = PrimaryDuty(
            machine, PrimaryDuty.Names(Self.vm, standby: peer, arbiter: nil, isNamed: false, tookOver: tookOver),
            tuning: EpochTuning(epochMilliseconds: plan.epoch),
            choice: StandbyChoice(peer, reserve: [], replaceAfter: 60_000_000_000), isAsked: false,
            handOverMax: UInt64(Self.handOverMax) * 1_000_000, degrade: LevelKeeper(plan.levels.degrade))
        duty.recorded.steps = []
        return duty
    }

    func stepGuest(_ id: Int) {
        guard let host = hosts.first(where: { $0.guest?.id == id }), host.guest?.isAlive == true else { return }
        queue.add(.guestStep(guest: id), at: now + plan.guestStep)
        if mutant == .acknowledgesWritesAlone, case .lonely = host.primaryState { finishWrite(host) }
        guard let guest = host.guest, guest.isRunning, guest.pending == nil else { return }
        // The agent, when it runs, keeps the guest standing while too much is held (I19); QEMU's socket does otherwise.
        if host.held.count >= Guest.heldMax, mutant != .boundless { return }
        if host.held.count > Guest.heldMax { verdict.fail("I19", "\(host.held.count) packets are held") }
        let step = history.step(after: guest.tip)
        let group = random.below(Guest.groups)
        host.guest?.tip = step
        host.guest?.memory[group] = step
        host.guest?.dirty |= 1 << UInt64(group)
        if write(step, host) { emit(step, host) }
    }

    /// QEMU ends.
    func endGuest(_ id: Int) {
        guard let host = hosts.first(where: { $0.guest?.id == id }), host.guest?.isAlive == true else { return }
        endServer(host)
        host.guest?.isAlive = false
        host.guest?.isRunning = false
        if host.isUp { later(host, 5, .guestIsGone(id)) }
    }
}

extension StandbyMessage {
    /// What its sender knows of who may run the guest.
    fileprivate var register: Register? {
        switch self {
        case .register(let register): register
        case .refuse(let message): message.knows
        default: nil
        }
    }
}
