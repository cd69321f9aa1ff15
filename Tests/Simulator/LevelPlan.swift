import Model
import Protocol

/// At which level a run begins, how the dial is turned in it, and how fast the hosts' clocks run. Drawn apart from the rest
/// of the plan, so that it does not change what else happens in a run at level `system`.
struct LevelPlan {
    var level = Level.system
    /// When a guest falls by itself.
    var degrade = DegradeMachine.Settings.never
    var degrades: Bool { degrade.floor != nil }
    /// Parts of a million of true speed, by host.
    var rates = [1_000_000, 1_000_000]
    /// Nanoseconds between two looks of the kernel at its timeouts.
    var tick: UInt64 = 4_000_000
    /// Parts that cannot be attached, or detached, at first; per mille.
    var failures = 0
    /// How often, per mille, a guest that died cannot be started where it ran.
    var unstartable = 0
    /// Milliseconds between reading the clock and asking the kernel, at most.
    var hesitation = 1
    var faults: [(at: Int, fault: Fault)] = []

    /// The storage of what is remembered takes long at times.
    var notesSlowly = false

    /// Milliseconds until faults may stop.
    var until = 0
    /// The end of a connection is not heard of at the other end.
    var losesCloses = false

    /// Half of the lengths that agents use, with the same margin: a run is short.
    static let timing = LeaseTiming(
        length: 1_500_000_000, interval: 250_000_000, margin: 100_000_000, drift: LeaseTiming.standard.drift)

    /// The owner's clock is slow, and the taker's fast.
    private static let worstRates = [1_000_000 - Int(timing.drift), 1_000_000 + Int(timing.drift)]

    init() {}

    /// - Parameter faultPhase: milliseconds; what is added here ends with it.
    init(seed: UInt64, _ rule: Rule, before faultPhase: Int) {
        var random = Random(seed: seed ^ 0x6c65_7665_6c)
        // The others are what they were before there were levels.
        guard rule == .arbiter else { return }
        unstartable = Self.unstartable(seed)
        guard seed % 5 != 1 else {
            atComponent(seed, faultPhase)
            return
        }
        guard seed % 5 == 0 || seed % 5 == 3 else { return }
        level = random.pick([.restart, .restart, .component, .system])
        fall(seed, faultPhase)
        let drift = Int(Self.timing.drift)
        switch random.below(3) {
        case 0: rates = Self.worstRates
        case 1: rates = (0..<2).map { _ in random.within(1_000_000 - drift...1_000_000 + drift) }
        default: break
        }
        tick = random.pick([1_000_000, 4_000_000, 10_000_000])
        if random.chance(perMille: 300) { failures = random.pick([100, 500]) }
        if random.chance(perMille: 400) { hesitation = random.pick([8, 48]) }
        if random.chance(perMille: 600) { turnTheDial(faultPhase, &random) }
        switch random.below(8) {
        case 0...2: silenceTheOwner(faultPhase, &random)
        case 3: isolateTheOwner(faultPhase, &random)
        case 4: deafenTheStandby(faultPhase, &random)
        case 5: stallAtARequest(faultPhase, &random)
        case 6: stallAtATurn(faultPhase, &random)
        default: break
        }
        if random.chance(perMille: 200) { faults.append((random.within(400...faultPhase), .guestDies)) }
    }

    /// Drawn apart, so that it does not change what else happens in a run.
    private static func unstartable(_ seed: UInt64) -> Int {
        var random = Random(seed: seed ^ 0x7374_6172)
        return random.pick([0, 0, 300, 1000])
    }

    /// The same.
    private mutating func fall(_ seed: UInt64, _ end: Int) {
        var random = Random(seed: seed ^ 0x6465_6772)
        guard random.chance(perMille: 200) else { return }
        degrade = DegradeMachine.Settings(
            floor: .restart, after: UInt64(random.pick([60, 120, 250])) * 1_000_000, targetAfter: 1,
            retry: UInt64(random.pick([100, 300])) * 1_000_000)
        guard random.chance(perMille: 600) else { return }
        degrade.floor = .component
        if random.chance(perMille: 600) { level = .system }
        for _ in 0..<random.below(3) {
            faults.append((random.within(500...end), .diskFails(0, milliseconds: random.within(5...900))))
        }
    }

    /// The dial is turned once or more, and something goes wrong at about that time.
    private mutating func turnTheDial(_ end: Int, _ random: inout Random) {
        for _ in 0..<random.within(1...3) {
            let begin = random.within(300...end)
            faults.append((begin, .command(.turn(random.pick([.restart, .component, .system, .system])))))
            let (host, length) = (random.below(2), random.outage())
            let wrong: Fault
            switch random.below(8) {
            case 0: wrong = .crash(host, afterActions: random.below(12), downMilliseconds: length)
            case 1: wrong = .stall(host, milliseconds: length)
            case 2: wrong = .cutBothWays(milliseconds: length)
            case 3: wrong = .cutFromArbiter(0, requests: false, replies: true, milliseconds: length)
            case 4: wrong = .arbiterDown(milliseconds: length)
            case 5: wrong = .powerCut(host, downMilliseconds: length)
            default: continue
            }
            faults.append((min(begin + random.within(0...250), end), wrong))
        }
    }

    /// The owner's agent stands still or dies, its guest lives on, and the standby takes over: only the kernel shuts the gate.
    private mutating func silenceTheOwner(_ end: Int, _ random: inout Random) {
        let begin = random.within(500...end)
        let isDead = random.chance(perMille: 600)
        let fault: Fault =
            isDead
            ? .crash(0, afterActions: random.below(4), downMilliseconds: random.within(1200...3000))
            : .stall(0, milliseconds: random.within(900...3000))
        faults.append((begin, fault))
        until = begin + 2200
        guard random.chance(perMille: 300) else { return }
        // The taker's agent dies while it waits.
        let later = begin + (isDead ? 0 : 500) + random.within(50...900)
        faults.append((later, .crash(1, afterActions: 0, downMilliseconds: random.within(1...200))))
    }

    /// The owner reaches its clients only, perhaps from the moment on at which its level is turned.
    private mutating func isolateTheOwner(_ end: Int, _ random: inout Random) {
        let begin = random.within(700...max(700, end - 800))
        if random.chance(perMille: 700) {
            level = random.pick([.system, .component])
            faults.append((begin, .command(.turn(level == .system ? .component : .system))))
        }
        let (cut, length) = (begin + random.within(0...120), random.within(900...2500))
        faults.append((cut, .cutBothWays(milliseconds: length)))
        let isMute = random.chance(perMille: 500)
        faults.append(
            (cut + random.within(0...60), .cutFromArbiter(0, requests: isMute, replies: true, milliseconds: length)))
        until = cut + 2200
    }

    /// The standby does not hear an owner that is well, takes over, and the owner dies before it knows.
    private mutating func deafenTheStandby(_ end: Int, _ random: inout Random) {
        let begin = random.within(500...end)
        (losesCloses, rates) = (true, Self.worstRates)
        faults.append((begin, .cut(from: 0, milliseconds: 1400)))
        faults.append((begin + random.within(650...1050), .crash(0, afterActions: 0, downMilliseconds: 3000)))
        until = begin + 3000
    }

    /// The owner's agent stands still while its level is turned, until the guest runs elsewhere.
    private mutating func stallAtATurn(_ end: Int, _ random: inout Random) {
        let begin = random.within(500...end)
        (level, tick) = (random.pick([.restart, .restart, .system]), 1_000_000)
        faults.append((begin, .command(.turn(.component))))
        faults.append((begin + random.within(15...60), .stall(0, milliseconds: random.within(2300...3000))))
        until = begin + 4000
    }

    /// The owner's agent stands still between reading its clock and asking the kernel, and dies right after.
    private mutating func stallAtARequest(_ end: Int, _ random: inout Random) {
        let (begin, length) = (random.within(500...end), random.within(850...1300))
        (hesitation, rates) = (48, Self.worstRates)
        faults.append((begin, .stall(0, milliseconds: length)))
        faults.append((begin + length + 2, .crash(0, afterActions: 0, downMilliseconds: 3000)))
        until = begin + 3300
    }
}
