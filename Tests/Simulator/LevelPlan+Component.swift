import Model

/// Runs at level `component`: disks fail, and something else goes wrong at about that time.
extension LevelPlan {
    mutating func atComponent(_ seed: UInt64, _ end: Int) {
        var random = Random(seed: seed ^ 0x636f_6d70)
        level = .component
        tick = random.pick([1_000_000, 4_000_000, 10_000_000])
        if random.chance(perMille: 200) { failures = random.pick([100, 500]) }
        notesSlowly = random.chance(perMille: 200)
        for _ in 0..<random.within(1...3) { failDisk(end, &random) }
        if random.chance(perMille: 400) { for _ in 0..<random.within(1...3) { loseUplink(end, &random) } }
        if random.chance(perMille: 250) { turnDial(end, &random) }
    }

    private mutating func failDisk(_ end: Int, _ random: inout Random) {
        let begin = random.within(450...end)
        let host = random.chance(perMille: 750) ? 0 : 1
        let isBrief = random.chance(perMille: 200)
        faults.append((begin, .diskFails(host, milliseconds: isBrief ? 2 : random.within(5...900))))
        if isBrief {
            // The operator mends it at once, and it fails again.
            let again = begin + random.within(10...140)
            faults.append((min(begin + random.within(4...20), end), .command(.rejoin)))
            faults.append((min(again, end), .diskFails(host, milliseconds: random.within(5...900))))
        }
        for _ in 0..<random.below(3) {
            let at = random.chance(perMille: 600) ? begin + random.within(-120...120) : begin + random.within(0...900)
            faults.append((min(max(at, 300), end), companion(&random)))
        }
    }

    private mutating func loseUplink(_ end: Int, _ random: inout Random) {
        let begin = random.within(450...end)
        let host = random.chance(perMille: 800) ? 0 : 1
        faults.append((begin, .uplinkFails(host, milliseconds: random.within(20...1500))))
        guard random.chance(perMille: 600) else { return }
        faults.append((min(begin + random.within(20...700), end), companion(&random)))
    }

    /// What else goes wrong.
    private func companion(_ random: inout Random) -> Fault {
        let (host, length) = (random.below(2), random.outage())
        switch random.below(14) {
        case 0, 1: return .crash(host, afterActions: random.below(12), downMilliseconds: length)
        case 2: return .crash(host, afterActions: 0, downMilliseconds: random.within(1...60))
        case 3: return .stall(host, milliseconds: length)
        case 4: return .cutBothWays(milliseconds: length)
        case 5: return .cut(from: host, milliseconds: length)
        case 6: return .powerCut(host, downMilliseconds: length)
        case 7: return .guestDies
        case 8: return .arbiterDown(milliseconds: length)
        case 9: return .arbiterSlow(milliseconds: length)
        case 10: return .command(.unprotect)
        case 11: return .command(.leave(1 - host))
        case 12: return .reset
        default: return .command(.turn(random.pick([.restart, .component, .system])))
        }
    }

    private mutating func turnDial(_ end: Int, _ random: inout Random) {
        let begin = random.within(400...end)
        faults.append((begin, .command(.turn(random.pick([.restart, .system])))))
        if random.chance(perMille: 500) {
            let at = min(begin + random.within(0...80), end)
            faults.append((at, .diskFails(0, milliseconds: random.within(5...900))))
        }
        guard random.chance(perMille: 700) else { return }
        faults.append((min(begin + random.within(50...600), end), .command(.turn(.component))))
    }
}
