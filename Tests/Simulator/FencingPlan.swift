import Protocol

/// Who can fence whom, and how well that works. Drawn apart from the rest of the plan, so that it does not change what
/// else happens in a run without fencing.
struct FencingPlan {
    /// By host: a command for the other one is configured.
    var isThere = [false, false]
    /// Milliseconds before a host's command is started, in addition to a head start for the primary.
    var delay = [0, 0]
    /// Per mille of the commands: nothing happens and that is said; the same, and nothing is said in time; the peer goes
    /// off and the opposite is said; the peer goes off and that is said too late.
    var fails = 0
    var isLost = 0
    var lies = 0
    var isLate = 0
    /// Milliseconds until the peer is off, and from there until the command says so, at most.
    var effectMax = 20
    var answerMax = 20
    /// A fenced host has its power back so many milliseconds later, at most.
    var offMax = 400

    /// One host is lost, once, and both can be fenced without fail: no operator is needed.
    var replacesOperator = false

    /// How long a command may take.
    static let timeout = 400

    init() {}

    init(seed: UInt64, _ rule: Rule) {
        var random = Random(seed: seed ^ 0x66_656e_6365)
        let isManual = rule != .arbiter
        guard random.chance(perMille: isManual ? 600 : 150) else { return }
        switch random.below(6) {
        case 0: isThere = [true, false]
        case 1: isThere = [false, true]
        default: isThere = [true, true]
        }
        delay = [random.pick([0, 0, 100]), random.pick([0, 100, 600])]
        if random.chance(perMille: 500) {
            fails = random.pick([0, 300, 800])
            isLost = random.pick([0, 200])
            lies = random.pick([0, 200])
            isLate = random.pick([0, 200])
        }
        effectMax = random.pick([5, 80, 300])
        answerMax = random.pick([5, 80, 300])
        offMax = random.pick([50, 400, 5000])
        replacesOperator =
            isManual && isThere == [true, true] && fails + isLost + lies + isLate == 0 && random.chance(perMille: 400)
    }

    /// What happens in a run that must do without an operator.
    func loss(seed: UInt64, before end: Int) -> (at: Int, fault: Fault) {
        var random = Random(seed: seed ^ 0x6c6f_7373)
        let host = random.below(2)
        let time = random.within(800...end)
        switch random.below(3) {
        case 0: return (time, .powerCut(host, downMilliseconds: random.outage()))
        case 1: return (time, .cutBothWays(milliseconds: random.within(900...3000)))
        default: return (time, .stall(host, milliseconds: random.within(900...3000)))
        }
    }
}
