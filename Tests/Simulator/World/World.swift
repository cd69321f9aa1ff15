import Model
import Protocol

/// One run: two hosts, an arbiter, clients, and everything that goes wrong between them, from one seed.
final class World {
    let plan: Plan
    let mutant: Mutant?
    let isTraced: Bool
    var random: Random
    /// Of what has to do with levels: runs at level `system` are what they were before.
    var levelRandom: Random
    var now = 0
    var queue = EventQueue<Happening>()
    let hosts = [Host(0), Host(1)]
    var links: [SimLink] = []
    var arbiter = SimArbiter()
    /// Registers before the present one, with when each was replaced.
    var replaced: [(register: Register?, until: Int)] = []
    var history = History()
    var clients = ClientRule()
    var checkpoints = CheckpointRule()
    var registers = RegisterRule()
    var disks = DiskRule()
    var verdict = Verdict()
    var coverage: Coverage
    /// `cutUntil[a]`: what host a sends to the other is not carried until then.
    var cutUntil = [0, 0]
    var cutToArbiter = [0, 0]
    var cutFromArbiter = [0, 0]
    var nextFrameIsDamaged = false
    var nextID = 0
    var lastOutput = 0
    var isHealing = false
    var happenings = 0
    /// How often a guest had to be booted because nothing was left to go on from.
    var boots = 0
    var wasPaired = false
    var wasPairedAtFault = false
    var wasEnded = false
    var lastKnownRegister: Register?
    var looksInVain = 0

    static let vm = VMName(unchecked: "guest")
    static let silence = 500
    /// A standby that was asked to go on says what came of it within this time.
    static let handOverMax = 900
    /// A guest stands still no longer for a switchover: until a silence or the clock for it is noticed.
    static let standstillMax = 1600
    static let healingMax = 12_000

    init(seed: UInt64, mutant: Mutant?, coverage: Coverage, isTraced: Bool) {
        random = Random(seed: seed)
        plan = Plan(seed: seed, random: &random)
        levelRandom = Random(seed: seed ^ 0x6c65_6173_65)
        self.mutant = mutant
        self.coverage = coverage
        self.isTraced = isTraced
    }

    /// Runs to the end, or to the first violation.
    func run() {
        for host in hosts {
            host.clock = SimClock(rate: plan.levels.rates[host.index], reading: 5_000_000_000, at: 0)
            host.lease = newLease(host)
            host.standby = newStandby(host)
        }
        boot(0, overridesRegister: false)
        for (index, entry) in plan.faults.enumerated() { queue.add(.fault(index), at: entry.at) }
        queue.add(.faultsStop, at: plan.faultPhase)
        queue.add(.operatorLooks, at: 300)
        while verdict.violation == nil, let next = queue.next() {
            now = next.time
            happenings += 1
            happen(next.happening)
            if isHealing {
                if isWell { return }
                if now > plan.faultPhase + Self.healingMax {
                    verdict.fail("live", describeIllness())
                }
            }
        }
    }

    private func happen(_ happening: Happening) {
        switch happening {
        case .agent(let index, let life, let work):
            let host = hosts[index]
            guard host.life == life, host.isUp else { return }
            guard host.stalledUntil <= now, host.deferred.isEmpty else {
                if host.deferred.isEmpty { queue.add(.wakes(index), at: endOfFault(host.stalledUntil)) }
                host.deferred.append(work)
                return
            }
            doWork(work, host)
        case .wakes(let index): wake(hosts[index])
        case .imageIsLost(let index): loseImage(hosts[index])
        case .guestStep(let id): stepGuest(id)
        case .request(let question): arriveAtArbiter(question)
        case .fault(let index): inject(plan.faults[index].fault)
        case .faultsStop: heal()
        case .operatorLooks: operatorLooks()
        case .operatorActs(let command): if !isHealing { carryOut(command) }
        case .guestEnds(let id): endGuest(id)
        case .agentStarts(let index): startAgent(hosts[index])
        case .powerReturns(let index):
            hosts[index].isPowered = true
            startAgent(hosts[index])
        case .isFenced(let index): beFenced(hosts[index])
        case .arbiterReturns: arbiter.isUp = true
        case .diskIsMended(let index): hosts[index].diskIsBroken = false
        case .copyBack(let id): copyBack(guest: id)
        case .uplinkReturns(let index): hosts[index].hasUplink = true
        }
    }

    /// What came while the agent stood still is taken up in the order in which it came.
    private func wake(_ host: Host) {
        guard !host.deferred.isEmpty else { return }
        guard host.stalledUntil <= now else {
            queue.add(.wakes(host.index), at: endOfFault(host.stalledUntil))
            return
        }
        let life = host.life
        let deferred = host.deferred
        host.deferred = []
        for work in deferred where host.life == life && host.isUp && verdict.violation == nil { doWork(work, host) }
    }

    private func doWork(_ work: AgentWork, _ host: Host) {
        switch work {
        case .arrive(let link, let message): arrive(message, on: link, at: host)
        case .checkSilence(let link): checkSilence(of: link, at: host)
        case .ask(let question): send(question, from: host)
        case .answer(let question, let answer): take(answer, to: question, host)
        case .answerRead(let question, let register): take(register, to: question, host)
        case .questionTimesOut(let question): timeOut(question, host)
        case .persisted(let record): persisted(record, host)
        case .lookForStandby: lookForStandby(host)
        case .keepLevel: keepLevel(host)
        case .offerFails(let session):
            if host.session == session { endServing(SessionError(.peerLost, "not reached"), host) }
        case .copyStep(let session, let step): copy(step, of: session, host)
        case .cutEpoch(let session): cutEpoch(of: session, host)
        case .cutLastEpoch(let session): cutLastEpoch(of: session, host)
        case .primaryBeats(let session): if host.session == session { beat(primary: host) }
        case .guestIsGone(let id):
            guard host.guest?.id == id else { break }
            if mutant == .restartsFromLostCopy { tellPrimary(host) { $0.handle(.copyLost(false)) } }
            tellPrimary(host) { $0.handle(.guestLost) }
        case .prepared(let session): tellStandby(host) { $0.handle(.prepared(session)) }
        case .failsToPrepare(let session): tellStandby(host) { $0.handle(.prepareFailed(session, "planted")) }
        case .applyHalf(let session, let epoch): applyHalf(of: epoch, session, host)
        case .applyRest(let session, let epoch): applyRest(of: epoch, session, host)
        case .load(let session, let epoch): load(from: epoch, session, host)
        case .resume(let session, let epoch): resume(from: epoch, session, host)
        case .boot(let session, let epoch): boot(from: epoch, session, host)
        case .replicaIsGone(let session): replicaIsGone(session, host)
        case .standbyBeats: beat(host)
        case .runFence(let nonce): runFence(nonce, host)
        case .fenceEnds(let nonce, let isConfirmed): endFence(nonce, isConfirmed, host)
        default: doLevelWork(work, host)
        }
    }

    private func doLevelWork(_ work: AgentWork, _ host: Host) {
        switch work {
        case .leaseTimer: leaseTimer(host)
        case .leaseAnswer(let question, let register): take(register, toLease: question, host)
        case .gate(let request, let guest, let until, let milliseconds, let attempts):
            self.request(request, guest: guest, until: until, milliseconds, attempts: attempts, host)
        case .partAttached(let session, let part): tellPart(session, host) { $0.hear(.attached(part)) }
        case .partFails(let session, let part): tellPart(session, host) { $0.hear(.attachFailed(part, "planted")) }
        case .partDetached(let session, let part): tellPart(session, host) { $0.hear(.detached(part)) }
        case .memoryStep(let session, let step): copyMemory(step, of: session, host)
        case .beginHolding(let session): beginHolding(session, host)
        case .endHolding(let session): endHolding(session, host)
        case .shipWrite(let session, let step): send(.write(session, step), on: host.link, from: host)
        case .startFromDisk(let session): startFromDisk(session, host)
        case .triedToStart(let guest, let fails): endTry(guest, fails: fails, host)
        default: doDiskWork(work, host)
        }
    }

    private func doDiskWork(_ work: AgentWork, _ host: Host) {
        switch work {
        case .attachDetour(let session): attachDetour(session, host)
        case .detachDetour(let session): detachDetour(session, host)
        case .carryLook(let session): lookAtUplinks(session, host)
        case .carryNews(let session): tellOfPort(session, again: true, host)
        case .serve(let session): serve(session, host)
        case .serveNoMore(let session): serveNoMore(session, host)
        case .servedThere(let session, let step): beWritten(session, step, host)
        case .diskReport(let guest, let report): hear(report, ofGuest: guest, host)
        case .noted(let loss): noted(loss, host)
        case .rejoinWhenDue(let session): rejoinWhenDue(session, host)
        case .noteWritten(let session, let note, let lineage): noteWritten(note, session, lineage, host)
        default: break
        }
    }

    /// Later in this life of the agent, on its own clock.
    func later(_ host: Host, _ milliseconds: Int, _ work: AgentWork) {
        let drifted = milliseconds + milliseconds * plan.drift[host.index] / 1000
        queue.add(.agent(host.index, life: host.life, work), at: now + drifted)
    }

    /// Whatever lasts ends at the latest when faults stop.
    func endOfFault(_ time: Int) -> Int { isHealing ? max(now, min(time, now)) : min(time, plan.faultPhase) }

    /// The time that shells are told.
    var nanoseconds: UInt64 { UInt64(now) * 1_000_000 }

    func newID() -> Int {
        nextID += 1
        return nextID
    }

    func trace(_ text: @autoclosure () -> String) {
        guard isTraced else { return }
        let time = String(now)
        print(String(repeating: " ", count: max(0, 7 - time.count)) + time + "  " + text())
    }

    // MARK: - Carrying out

    /// Actions by their names, with what is worth a line.
    func shortened<Action>(_ actions: [Action]) -> String {
        actions.map { action in
            let text = "\(action)"
            return text.hasPrefix("report(") ? text : String(text.prefix { $0 != "(" })
        }.joined(separator: " ")
    }

    /// What a duty wants is carried out in its order, by `perform`, as far as the agent lives to do it.
    func perform<Output: DutyOutput>(_ outputs: [Output], _ host: Host, by perform: (Output) -> Void) {
        let life = host.life
        for output in outputs where !output.isWords {
            guard survives(host) else { return }
            perform(output)
            guard host.life == life, verdict.violation == nil else { return }
        }
    }

    /// False when the agent dies instead of carrying out its next action.
    func survives(_ host: Host) -> Bool {
        guard host.actionsUntilCrash >= 0 else { return true }
        host.actionsUntilCrash -= 1
        guard host.actionsUntilCrash < 0 else { return true }
        crash(host)
        return false
    }

    // MARK: - Durable records

    func persist(_ record: LocalRecord, _ host: Host) {
        if mutant == .persistsLate || mutant == .forgetsToPersist {
            later(host, 0, .persisted(record))
            return
        }
        host.unwritten.append(record)
        host.lastWrite = max(host.lastWrite, now + random.within(1...8))
        queue.add(.agent(host.index, life: host.life, .persisted(record)), at: host.lastWrite)
    }

    private func persisted(_ record: LocalRecord, _ host: Host) {
        if mutant != .forgetsToPersist {
            host.durable = record
            if mutant == .persistsLate, random.chance(perMille: 700) { host.durable = LocalRecord() }
        }
        if !host.unwritten.isEmpty { host.unwritten.removeFirst() }
        if let register = record.register, register.owner == host.name, let guest = host.guest, guest.isAlive,
            host.primary != nil
        {
            host.tag = (guest.id, register.lineage)
            if register.mode == .solo { host.guest?.lineage = register.lineage }
        }
        if let register = record.register, register.owner == host.name { host.owners.own(register.lineage) }
        if plan.rule != .arbiter, record.register?.owner == host.name { host.hasClaimed = true }
        let time = nanoseconds
        if host.primary != nil {
            tellPrimary(host) { $0.persisted(record.seen, at: time) }
        } else {
            tellStandby(host) { $0.persisted(record.seen, at: time) }
        }
    }

    // MARK: - What is true

    /// The register that counts: the arbiter's, or without one the host's own.
    func rules(_ host: Host) -> Register? {
        plan.rule == .arbiter ? arbiter.register ?? lastKnownRegister : host.durable.register
    }

    /// The newest register that anybody knows.
    var newestRegister: Register? {
        if plan.rule == .arbiter { return arbiter.register ?? lastKnownRegister }
        return hosts.compactMap(\.durable.register).max { $0.term < $1.term }
    }

    /// True when some guest or image could still go on.
    var canGoOn: Bool {
        for host in hosts {
            if let guest = host.guest, guest.isAlive { return true }
            if canGoOn(fromImageAt: host) { return true }
        }
        return false
    }

    func canGoOn(fromImageAt host: Host) -> Bool {
        guard let replica = host.replica, replica.applied > .firstCopy, !replica.isUsedUp else { return false }
        // Only the agent that lost the QEMU boots the guest without it.
        guard replica.hasQEMU || host.isUp else { return false }
        guard plan.rule == .arbiter, let register = arbiter.register else { return true }
        return register.standby == replica.identity
            || (register.owner == host.name && register.mode == .solo && register.term > replica.term)
    }
}
