import Shipping
import Testing

/// A copy on a link that carries so much, with a round trip: what a disk write behind it would wait for.
@Suite struct CopyPaceTests {
    private struct Seen {
        var sent: UInt64 = 0
        /// The longest time that what was just queued takes, once the copy has found its window, in milliseconds.
        var longest = 0.0
        var first = 0.0
    }

    /// - Parameter frame: bytes.
    private func copy(bytesPerSecond: Double, roundTrip: UInt64, frame: Int = 32 << 10, seconds: UInt64 = 20) -> Seen {
        var pace = CopyPace()
        var seen = Seen()
        var now: UInt64 = 1
        // When the link has sent what is queued.
        var free: UInt64 = 1
        var answers: [(at: UInt64, mark: UInt64)] = []
        while now < seconds * 1_000_000_000 {
            if let next = answers.first, next.at <= now {
                pace.answer(next.mark, now: now)
                answers.removeFirst()
                continue
            }
            switch pace.next(frame, now: now) {
            case .ask: answers.append((max(free, now) + roundTrip, now))
            case .send:
                free = max(free, now) + UInt64(Double(frame) * 1e9 / bytesPerSecond)
                seen.sent += UInt64(frame)
                let wait = Double(free - now) / 1e6
                if now > 2_000_000_000 { seen.longest = max(seen.longest, wait) }
                seen.first = max(seen.first, wait)
            case .wait: now += 1_000_000
            }
            // A fast link is not filled faster than memory is read.
            if free < now { free = now }
            now += 10_000
        }
        return seen
    }

    @Test(arguments: [500_000.0, 12_500_000, 125_000_000], [UInt64(300_000), 20_000_000, 150_000_000])
    func aWriteBehindACopyWaitsForAFewTenthsOfASecond(bytesPerSecond: Double, roundTrip: UInt64) {
        let seen = copy(bytesPerSecond: bytesPerSecond, roundTrip: roundTrip)
        #expect(seen.longest < 250 + Double(roundTrip) / 1e6, "\(seen)")
        #expect(seen.first < 700, "\(seen)")
        // The least window in a round trip is what a slow link gets; else most of what it carries.
        let possible = min(bytesPerSecond, 32e3 * 1e9 / Double(roundTrip)) * 20
        #expect(Double(seen.sent) > possible * 0.6, "\(Double(seen.sent) / possible)")
    }

    @Test func aFrameThatIsLargerThanTheWindowGoes() {
        let seen = copy(bytesPerSecond: 500_000, roundTrip: 300_000, frame: 1 << 20)
        #expect(seen.sent >= 8 << 20, "\(seen)")
    }

    /// What disk writes queue is not the copy's: it gets half as much on its way.
    @Test func aLinkThatOthersFillIsShared() {
        var pace = CopyPace()
        #expect(pace.next(1 << 20, queued: 8 << 20, now: 1) == .ask)
        pace.answer(1, now: 1_000_000)
        var sent = 0
        for now in UInt64(2_000_000)... {
            let step = pace.next(1 << 20, queued: 8 << 20, now: now)
            if step == .send { sent += 1 }
            if step == .wait { break }
        }
        #expect(sent == 4)
    }

    @Test func anAgentThatAnswersNothingIsNotWaitedForForEver() {
        var pace = CopyPace()
        #expect(pace.next(1, now: 1) == .ask && pace.next(1, now: CopyPace.patience) == .wait)
        #expect(pace.next(1, now: CopyPace.patience + 1) == .send)
    }

    @Test func answersToNothingAreNotHeeded() {
        var pace = CopyPace()
        pace.answer(5, now: 9)
        #expect(pace.next(1, now: 10) == .ask && pace.next(1, now: 11) == .wait)
        pace.answer(9, now: 12)
        pace.answer(10, now: 9)
        #expect(pace.next(1, now: 13) == .wait)
        pace.answer(10, now: 14)
        #expect(pace.next(1, now: 15) == .send && pace.window == CopyPace.first)
    }
}
