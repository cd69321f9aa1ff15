import Protocol

enum LeaseFault {
    case stall(HostIndex, microseconds: Int)
    case crash(HostIndex, downMicroseconds: Int)
    case powerCut(HostIndex, downMicroseconds: Int)
    case arbiterAway(microseconds: Int)
    /// What the host sends to the other is lost.
    case cut(from: HostIndex, microseconds: Int)
    /// The agent stands still between reading its clock and asking the kernel, and may die right after.
    case stallAtRequest(HostIndex, microseconds: Int, dies: Bool)
    /// The other host takes over although nothing is wrong.
    case takeOver(HostIndex)
    case steer(HostIndex, rate: Int)
    case setWallClock(HostIndex, ahead: UInt64)
}

/// What one seed picks for a run of the lease.
struct LeasePlan {
    /// Faults that a healthy owner has to bear without its gate shutting: nobody takes over, and the arbiter or the standby
    /// can be reached at any time.
    var isGentle: Bool
    /// Microseconds until faults stop.
    var faultPhase: Int
    var rates: [Int]
    /// Nanoseconds.
    var tick: UInt64
    var latencyMax: Int
    /// Answers and requests that take up to seconds, or are lost; per mille.
    var late: Int
    var lost: Int
    /// An agent stands still before a step, for any time or for less than a ticket lives; per mille.
    var stalls: Int
    var hesitations: Int
    var fences: Bool
    /// Microseconds after which a standby takes over from an owner that it does not hear.
    var silence: Int
    var faults: [(at: Int, fault: LeaseFault)] = []

    init(random: inout Random) {
        let drift = Int(LeaseTiming.standard.drift)
        func rate() -> Int {
            switch random.below(4) {
            case 0: 1_000_000 - drift
            case 1: 1_000_000 + drift
            default: random.within(1_000_000 - drift...1_000_000 + drift)
            }
        }
        isGentle = random.chance(perMille: 200)
        faultPhase = random.within(6...16) * 1_000_000
        rates = [rate(), rate()]
        if random.chance(perMille: 200) { rates = [1_000_000 - drift, 1_000_000 + drift] }
        tick = random.pick([1_000_000, 4_000_000, 10_000_000])
        latencyMax = random.pick([500, 5_000, 40_000])
        late = isGentle || random.chance(perMille: 500) ? 0 : random.pick([20, 150, 600])
        lost = random.chance(perMille: 500) ? 0 : isGentle ? 5 : random.pick([20, 400])
        stalls = isGentle || random.chance(perMille: 500) ? 0 : random.pick([2, 20])
        hesitations = isGentle || random.chance(perMille: 500) ? 0 : random.pick([50, 300])
        fences = random.chance(perMille: 250)
        silence = random.within(600...2500) * 1000
        if !isGentle, random.chance(perMille: 250) {
            makeCloseCall(&random)
            return
        }
        // In a gentle run the two sources are away in turn, not together.
        if isGentle {
            var at = random.within(4_000_000...5_000_000)
            while at < faultPhase {
                let length = random.within(500_000...4_000_000)
                switch random.below(3) {
                case 0: faults.append((at, .arbiterAway(microseconds: length)))
                case 1: faults.append((at, .cut(from: random.below(2), microseconds: length)))
                default: faults.append((at, .stall(random.below(2), microseconds: min(length, 900_000))))
                }
                // Until whoever was away has been asked again.
                at += length + 1_200_000
                if random.chance(perMille: 300) { faults.append((at - 1, .steer(random.below(2), rate: rate()))) }
            }
            silence = 60_000_000
            return
        }
        let kinds = (0..<9).filter { _ in random.chance(perMille: 500) }
        guard !kinds.isEmpty else { return }
        for _ in 0..<random.within(2...14) {
            let host = random.below(2)
            let length = random.outage() * 1000
            let fault: LeaseFault
            switch random.pick(kinds) {
            case 0: fault = .stall(host, microseconds: length)
            case 1: fault = .crash(host, downMicroseconds: length / 4)
            case 2: fault = .powerCut(host, downMicroseconds: length)
            case 3: fault = .arbiterAway(microseconds: length)
            case 4: fault = .cut(from: host, microseconds: length)
            case 5: fault = .steer(host, rate: rate())
            case 6: fault = .setWallClock(host, ahead: UInt64(random.within(100...20_000)) * 1_000_000)
            case 7: fault = .stallAtRequest(host, microseconds: length, dies: random.chance(perMille: 500))
            default: fault = .takeOver(host)
            }
            faults.append((random.within(500_000...faultPhase), fault))
        }
        if random.chance(perMille: 500) {
            for _ in 0..<random.within(1...4) {
                faults.append((random.within(1_500_000...faultPhase), .takeOver(random.below(2))))
            }
        }
        faults.sort { $0.at < $1.at }
    }

    /// The least favourable clocks, a takeover, and an owner that at about that time stands still or dies, so that only
    /// the kernel shuts its gate.
    private mutating func makeCloseCall(_ random: inout Random) {
        let drift = Int(LeaseTiming.standard.drift)
        rates = [1_000_000 - drift, 1_000_000 + drift]
        latencyMax = random.pick([500, 40_000, 800_000])
        late = random.pick([0, 600])
        hesitations = random.pick([0, 300])
        (lost, stalls, fences, silence) = (0, 0, false, 60_000_000)
        let begin = random.within(2_500_000...5_000_000)
        let end = begin + random.within(0...1_500_000)
        faultPhase = begin + 8_000_000
        let length = faultPhase - end
        faults = [
            (begin, .takeOver(1)),
            (end, random.chance(perMille: 500) ? .crash(0, downMicroseconds: length) : .stall(0, microseconds: length)),
        ]
    }
}
