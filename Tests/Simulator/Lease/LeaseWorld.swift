import Model
import Protocol

/// One run of the lease: two hosts whose clocks run at different speeds, an arbiter without timers, and what goes wrong
/// between any two steps. Time is in microseconds.
final class LeaseWorld {
    enum Happening {
        case message(HostIndex, LeaseMessage)
        case step(HostIndex, life: Int)
        case timer(HostIndex, life: Int)
        case reading(HostIndex, question: UInt64)
        case claim(HostIndex, nonce: UInt64, expecting: LeaseRegister, new: LeaseRegister)
        case fence(HostIndex, by: HostIndex)
        case agentStarts(HostIndex)
        case powerReturns(HostIndex)
        case fault(Int)
        case faultsStop
        case check
    }

    let plan: LeasePlan
    let mutant: LeaseMutant?
    let isTraced: Bool
    let timing: LeaseTiming
    var random: Random
    var now = 0
    var queue = EventQueue<Happening>()
    var hosts: [LeaseHost] = []
    var register = LeaseRegister(term: Term(1), owner: 0, standby: nil)
    /// Registers before the present one, with when each was replaced.
    private var earlier: [(register: LeaseRegister, until: Int)] = []
    private var appliedNonces: [UInt64: LeaseRegister] = [:]
    var arbiterAwayUntil = 0
    var cutUntil = [0, 0]
    var isHealing = false
    var hasOpened = false
    var verdict = Verdict()
    var coverage: LeaseCoverage
    var happenings = 0
    var openings = 0

    /// How long after the faults the owner's gate has to be open: a long outage, a wait and some asking.
    static let healingMax = 15_000_000

    init(seed: UInt64, mutant: LeaseMutant?, coverage: LeaseCoverage, isTraced: Bool) {
        random = Random(seed: seed ^ 0x6c65_6173_65)
        var timing = LeaseTiming.standard
        if mutant == .ignoresDrift { timing.drift = 0 }
        if mutant == .ignoresMargin { timing.margin = 0 }
        self.timing = timing
        plan = LeasePlan(random: &random)
        self.mutant = mutant
        self.coverage = coverage
        self.isTraced = isTraced
    }

    func run() {
        for index in 0..<2 {
            let clock = SimClock(rate: plan.rates[index], reading: random.below(1 << 40), at: 0)
            hosts.append(LeaseHost(index, clock: clock, tick: plan.tick, timing: timing))
        }
        hosts[0].hasGuest = true
        for host in hosts { start(host) }
        for (index, entry) in plan.faults.enumerated() { queue.add(.fault(index), at: entry.at) }
        queue.add(.faultsStop, at: plan.faultPhase)
        while verdict.violation == nil, let next = queue.next() {
            now = next.time
            happenings += 1
            happen(next.happening)
            guard isHealing else { continue }
            if now > plan.faultPhase + Self.healingMax {
                verdict.fail("live", "no gate is open \(Self.healingMax / 1000) ms after the last fault")
            }
        }
    }

    private func happen(_ happening: Happening) {
        switch happening {
        case .message(let index, let message):
            let host = hosts[index]
            guard host.isUp else { return }
            if host.stalledUntil > now {
                queue.add(happening, at: host.stalledUntil)
            } else {
                receive(message, host)
            }
        case .step(let index, let life):
            let host = hosts[index]
            guard host.isUp, host.life == life else { return }
            if host.stalledUntil > now {
                queue.add(happening, at: host.stalledUntil)
            } else {
                step(host)
            }
        case .timer(let index, let life):
            let host = hosts[index]
            guard host.isUp, host.life == life else { return }
            if host.stalledUntil > now {
                queue.add(happening, at: host.stalledUntil)
            } else if let due = host.machine.nextTimer, due <= reading(host) {
                handle(.timer, host)
            }
        case .reading(let index, let question):
            guard arbiterAwayUntil <= now else { return }
            var answer = register
            if mutant == .staleReadings, let old = earlier.last(where: { $0.until > now - 2_000_000 }) {
                answer = old.register
            }
            send(.reading(question: question, answer), to: index)
        case .claim(let index, let nonce, let expecting, let new):
            guard arbiterAwayUntil <= now else { return }
            if let known = appliedNonces[nonce] {
                send(.applied(nonce: nonce, known), to: index)
            } else if register == expecting {
                earlier.append((register, now))
                register = new
                appliedNonces[nonce] = new
                trace { "arbiter: \(new)" }
                send(.applied(nonce: nonce, new), to: index)
            } else {
                send(.conflict(nonce: nonce, register), to: index)
            }
        case .fence(let index, let by):
            if mutant != .fencesOnPaper { cutPower(hosts[index], down: 2_000_000) }
            send(.fenced, to: by)
        case .agentStarts(let index): if !hosts[index].isUp, hosts[index].isPowered { start(hosts[index]) }
        case .powerReturns(let index):
            guard !hosts[index].isPowered else { return }
            hosts[index].isPowered = true
            hosts[index].clock = SimClock(rate: hosts[index].clock.rate, reading: 5_000_000_000, at: now)
            start(hosts[index])
        case .fault(let index): inject(plan.faults[index].fault)
        case .faultsStop:
            isHealing = true
            (arbiterAwayUntil, cutUntil) = (0, [0, 0])
            for host in hosts {
                host.stallAtRequest = nil
                host.diesAfterRequest = false
                queue.add(.powerReturns(host.index), at: now)
                queue.add(.agentStarts(host.index), at: now)
            }
            queue.add(.check, at: now)
        case .check:
            // Well: the owner's guest runs, and its gate is open.
            let owner = hosts[register.owner]
            if owner.isUp, owner.hasGuest, isOpen(owner) {
                queue = EventQueue()
            } else {
                queue.add(.check, at: now + 100_000)
            }
        }
    }

    private func inject(_ fault: LeaseFault) {
        trace { "\(fault)" }
        switch fault {
        case .stall(let index, let length): stall(hosts[index], length)
        case .crash(let index, let down):
            stop(hosts[index])
            queue.add(.agentStarts(index), at: now + down)
        case .powerCut(let index, let down): cutPower(hosts[index], down: down)
        case .arbiterAway(let length): arbiterAwayUntil = max(arbiterAwayUntil, now + length)
        case .cut(let from, let length): cutUntil[from] = max(cutUntil[from], now + length)
        case .stallAtRequest(let index, let length, let dies): hosts[index].stallAtRequest = (length, dies)
        case .takeOver(let index): queue.add(.message(index, .takeOver), at: now)
        case .steer(let index, let rate):
            hosts[index].clock.steer(rate, now)
            armTimer(hosts[index])
        case .setWallClock(let index, let ahead): hosts[index].wallOffset += ahead
        }
    }

    // MARK: - Hosts

    func isOpen(_ host: LeaseHost) -> Bool { host.isPowered && host.gate.isOpen(host.clock.read(now)) }

    /// What the agent takes for CLOCK_BOOTTIME.
    func reading(_ host: LeaseHost) -> UInt64 {
        host.clock.read(now) + (mutant == .usesWallClock ? host.wallOffset : 0)
    }

    func stall(_ host: LeaseHost, _ length: Int) {
        host.stalledUntil = max(host.stalledUntil, min(now + length, plan.faultPhase))
    }

    func stop(_ host: LeaseHost) {
        host.isUp = false
        host.life += 1
        host.steps = []
        host.isStepping = false
    }

    private func cutPower(_ host: LeaseHost, down: Int) {
        guard host.isPowered else { return }
        stop(host)
        host.isPowered = false
        host.hasGuest = false
        host.gate.close()
        queue.add(.powerReturns(host.index), at: now + down)
    }

    private func start(_ host: LeaseHost) {
        host.life += 1
        host.isUp = true
        host.stalledUntil = now
        host.known = nil
        host.claim = nil
        host.asked = [:]
        host.newest = [:]
        host.isAdopting = true
        host.heardAt = now
        host.machine = LeaseMachine(timing: timing, seed: random.next())
        enqueue([.read(question: 0)], host)
        queue.add(.message(host.index, .look), at: now + random.within(150_000...250_000))
    }

    // MARK: - What travels

    private func latency() -> Int {
        if !isHealing, random.chance(perMille: plan.late) { return random.within(1_000...4_500_000) }
        return random.within(50...plan.latencyMax)
    }

    private func isLost() -> Bool { !isHealing && random.chance(perMille: plan.lost) }

    /// From the arbiter, or from the other host.
    func send(_ message: LeaseMessage, to index: HostIndex) {
        if !isLost() { queue.add(.message(index, message), at: now + latency()) }
    }

    func sendToPeer(_ message: LeaseMessage, from host: LeaseHost) {
        if cutUntil[host.index] <= now { send(message, to: 1 - host.index) }
    }

    func sendToArbiter(_ happening: Happening) {
        if !isLost() { queue.add(happening, at: now + latency()) }
    }

    // MARK: - Rules

    /// I26: when one gate opens or is renewed, the other is shut.
    func judgeOpening(_ host: LeaseHost, _ what: String) {
        let other = hosts[1 - host.index]
        guard isOpen(other) else { return }
        verdict.fail(
            "I26", "\(what) on host \(host.index) at \(now / 1000) ms while the gate of host \(other.index) is open")
    }

    /// A healthy owner's gate, once open, stays open.
    func judgeHealth(_ host: LeaseHost) {
        guard plan.isGentle, hasOpened, !isOpen(host) else { return }
        verdict.fail("live", "the gate of the healthy owner had shut by \(now / 1000) ms")
    }

    func trace(_ text: () -> String) {
        if isTraced { print("\(now / 1000) ms  \(text())") }
    }
}
