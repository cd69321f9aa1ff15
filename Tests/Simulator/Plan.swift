import Model
import Protocol

/// A host, by its number: 0 has the guest first.
typealias HostIndex = Int

/// One thing that goes wrong, or that an operator does.
enum Fault {
    case cut(from: HostIndex, milliseconds: Int)
    case cutBothWays(milliseconds: Int)
    case cutFromArbiter(HostIndex, requests: Bool, replies: Bool, milliseconds: Int)
    /// SIGSTOP of an agent.
    case stall(HostIndex, milliseconds: Int)
    /// The agent dies before it carries out its so many-th action from now on.
    case crash(HostIndex, afterActions: Int, downMilliseconds: Int)
    case powerCut(HostIndex, downMilliseconds: Int)
    case guestDies
    case resumeFails(HostIndex)
    case imageLost(HostIndex)
    case imageLostWhenNeeded(HostIndex)
    case arbiterDown(milliseconds: Int)
    case arbiterSlow(milliseconds: Int)
    case arbiterForgets
    case reset
    case damagedFrame
    /// The guests' bridge at the host has no network, for so long.
    case uplinkFails(HostIndex, milliseconds: Int)
    /// A disk of the host cannot be written to any more, for so long.
    case diskFails(HostIndex, milliseconds: Int)
    case command(Command)
}

enum Command {
    case switchOver, unprotect, setLevel
    case turn(Level)
    case giveUp(HostIndex)
    case force(HostIndex, truthfully: Bool)
    case endGuest
    case goOn(HostIndex)
    /// The operator of a standby wants it to be none any more.
    case leave(HostIndex)
    /// What the disks lack that were lost is to be copied to them.
    case rejoin
}

/// What one seed picks: topology, timing and faults. Every run has only some kinds of faults, and those often (swarm
/// testing): rare combinations come up that an even mixture would hide.
struct Plan {
    enum Kind: Int, CaseIterable {
        case cuts, oneWayCuts, arbiterCuts, stalls, crashes, powerCuts, guestDeaths, resumeFailures, imageLosses
        case arbiterOutages, slowArbiter, amnesia, resets, damage, switchovers, commands
    }

    var rule = Rule.arbiter
    /// Milliseconds until faults stop.
    var faultPhase: Int
    var epoch: Int
    var guestStep: Int
    var latencyMax: Int
    var copyStep: Int
    var faults: [(at: Int, fault: Fault)] = []
    /// Exactly one fault, after the pair was formed: nothing acknowledged may be lost.
    var isSingleFault = false
    /// The hosts hear each other on another way, which is never cut.
    var hasSecondPath = false
    /// A guest whose state is refused is booted from its disk.
    var bootsFromDisk = true
    /// Frames that come once more when their connection is long gone, per mille.
    var lateFrames = 0
    /// Requests to the arbiter that arrive after the asker gave up, come twice, or whose reply is lost; per mille.
    var lateRequests = 0
    var doubleRequests = 0
    var lostReplies = 0
    /// The other end does not hear of a connection's end, per mille.
    var lostCloses = 0
    var failedPreparations = 0
    var operatorIsNervous = false
    var fencing = FencingPlan()
    var levels = LevelPlan()
    /// Timers of each host run so much too slow, per mille.
    var drift = [0, 0]

    init(seed: UInt64, random: inout Random) {
        faultPhase = random.within(900...2600)
        epoch = random.pick([15, 25, 40, 60])
        guestStep = random.pick([6, 11, 19])
        latencyMax = random.pick([2, 6, 20])
        copyStep = random.pick([5, 20, 60])
        switch random.below(8) {
        case 0: rule = .manual(.runAlone)
        case 1: rule = .manual(.freeze)
        default: break
        }
        if random.chance(perMille: 300) { lateFrames = random.pick([40, 250]) }
        if random.chance(perMille: 400) { lateRequests = random.pick([50, 300, 700]) }
        if random.chance(perMille: 300) { doubleRequests = 300 }
        if random.chance(perMille: 400) { lostReplies = random.pick([50, 300, 600]) }
        if random.chance(perMille: 300) { drift = [random.within(0...400), random.within(0...400)] }
        if random.chance(perMille: 300) { lostCloses = 400 }
        if random.chance(perMille: 100) { failedPreparations = 300 }
        operatorIsNervous = random.chance(perMille: 80)
        // Drawn apart, so that it does not change what else happens in a run.
        hasSecondPath = seed % 4 == 3
        bootsFromDisk = seed % 8 != 5
        fencing = FencingPlan(seed: seed, rule)
        if fencing.replacesOperator {
            faultPhase += 800
            (lostCloses, failedPreparations, operatorIsNervous) = (0, 0, false)
            faults = [fencing.loss(seed: seed, before: faultPhase)]
            return
        }
        isSingleFault = rule == .arbiter && random.chance(perMille: 120)
        if isSingleFault {
            lateRequests = 0
            lostReplies = 0
            let kinds: [Kind] = [
                .cuts, .oneWayCuts, .arbiterCuts, .stalls, .crashes, .powerCuts, .guestDeaths, .imageLosses,
                .arbiterOutages, .slowArbiter, .resets, .damage, .switchovers,
            ]
            faultPhase += 800
            (lostCloses, failedPreparations, operatorIsNervous) = (0, 0, false)
            faults = [(random.within(800...faultPhase), fault(of: random.pick(kinds), &random))]
            levels = LevelPlan(seed: seed, rule, before: faultPhase)
            levels.faults = []
            return
        }
        let kinds = Kind.allCases.filter { _ in random.chance(perMille: 300) }
        defer { addLevels(seed) }
        guard !kinds.isEmpty else { return }
        for _ in 0..<random.within(1...9) {
            faults.append((random.within(0...faultPhase), fault(of: random.pick(kinds), &random)))
        }
        if rule != .arbiter, random.chance(perMille: 300) {
            // The operator believes a silent host dead that is not.
            let begin = random.within(300...faultPhase)
            faults.append((begin, .cutBothWays(milliseconds: random.within(700...1500))))
            faults.append((begin + random.within(510...700), .command(.force(1, truthfully: false))))
            if random.chance(perMille: 500) {
                let then: [Fault] = [.guestDies, .command(.endGuest), .command(.goOn(0)), .command(.giveUp(0))]
                faults.append((begin + random.within(800...1600), random.pick(then)))
            }
            faultPhase += 900
        }
        addLaterKinds(seed)
        faults.sort { $0.at < $1.at }
    }

    /// Kinds of faults that came after seeds were written down draw from a stream of their own, so that older seeds keep
    /// most of their meaning.
    private mutating func addLaterKinds(_ seed: UInt64) {
        var random = Random(seed: seed ^ 0x6c61_7465)
        if random.chance(perMille: 100) {
            faults.append((random.within(300...faultPhase), .command(.leave(random.below(2)))))
        }
        if random.chance(perMille: 60) {
            // A switchover whose new host does not go on.
            let begin = random.within(500...faultPhase)
            faults += [(begin, .resumeFails(0)), (begin, .resumeFails(1)), (begin, .command(.switchOver))]
        }
        if random.chance(perMille: 60) {
            // A switchover whose new host stands still until it was taken back.
            let begin = random.within(500...faultPhase)
            let stall = Fault.stall(random.below(2), milliseconds: random.within(900...2200))
            faults += [(begin, .command(.switchOver)), (min(begin + random.within(5...90), faultPhase), stall)]
        }
    }

    private mutating func addLevels(_ seed: UInt64) {
        let (end, added) = (faultPhase, 900)
        levels = LevelPlan(seed: seed, rule, before: end + added)
        guard !levels.faults.isEmpty else { return }
        faultPhase = max(end + added, levels.until)
        if levels.losesCloses { lostCloses = 1000 }
        faults = (faults + levels.faults).sorted { $0.at < $1.at }
    }

    private func fault(of kind: Kind, _ random: inout Random) -> Fault {
        let host = random.below(2)
        switch kind {
        case .cuts: return .cutBothWays(milliseconds: random.outage())
        case .oneWayCuts: return .cut(from: host, milliseconds: random.outage())
        case .arbiterCuts:
            let part = random.below(3)
            return .cutFromArbiter(host, requests: part != 0, replies: part != 1, milliseconds: random.outage())
        case .stalls: return .stall(host, milliseconds: random.outage())
        case .crashes:
            return .crash(host, afterActions: random.below(12), downMilliseconds: random.outage())
        case .powerCuts: return .powerCut(host, downMilliseconds: random.outage())
        case .guestDeaths: return .guestDies
        case .resumeFailures: return .resumeFails(host)
        case .imageLosses: return random.chance(perMille: 800) ? .imageLost(host) : .imageLostWhenNeeded(host)
        case .arbiterOutages: return .arbiterDown(milliseconds: random.outage())
        case .slowArbiter: return .arbiterSlow(milliseconds: random.outage())
        case .amnesia: return .arbiterForgets
        case .resets: return .reset
        case .damage: return .damagedFrame
        case .switchovers: return .command(.switchOver)
        case .commands:
            switch random.below(7) {
            case 0: return .command(.unprotect)
            case 1: return .command(.setLevel)
            case 2: return .command(.giveUp(host))
            case 3: return .command(.force(host, truthfully: true))
            case 4: return .command(.force(host, truthfully: random.chance(perMille: 500)))
            case 5: return .command(.endGuest)
            default: return .command(.goOn(host))
            }
        }
    }
}
