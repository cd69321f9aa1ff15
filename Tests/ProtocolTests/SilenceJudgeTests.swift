import Protocol
import Testing

/// Milliseconds in nanoseconds.
private func ms(_ value: UInt64) -> UInt64 { value * 1_000_000 }

/// A judge with a peer whose arrivals the test makes.
private struct Watched {
    var judge: SilenceJudge
    var now: UInt64 = 1_000_000_000
    private var newest: UInt64 = 0

    init(floor: Int = 200, ceiling: Int = 500, interval: Int = 50) {
        judge = SilenceJudge(
            SilenceJudge.Limits(floor: floor, ceiling: ceiling, interval: interval, peerInterval: interval), now: now)
    }

    /// Something arrives after `gap` milliseconds, and is looked at then, and every interval on the way.
    mutating func arrival(after gap: UInt64) {
        silence(gap, step: 50)
        judge.look(at: now, newest: now, gap: newest == 0 ? 0 : now - newest)
        newest = now
    }

    /// Nothing arrives for so long; looks every `step` milliseconds.
    mutating func silence(_ length: UInt64, step: UInt64) {
        let end = now + ms(length)
        while now + ms(step) < end {
            now += ms(step)
            judge.look(at: now, newest: newest, gap: 0)
        }
        now = end
    }

    mutating func look() { judge.look(at: now, newest: newest, gap: 0) }

    /// A peer that is heard every 50 ms for so many seconds.
    mutating func calm(seconds: Int) { for _ in 0..<seconds * 20 { arrival(after: 50) } }
}

@Suite struct SilenceJudgeTests {
    @Test func aNewJudgeBearsTheCeiling() {
        let watched = Watched()
        #expect(watched.judge.borne == ms(500))
        #expect(watched.judge.verdict() == .alive)
    }

    @Test func aRegularPeerIsMissedAtTheFloor() {
        var watched = Watched()
        watched.calm(seconds: 60)
        #expect(watched.judge.borne == ms(200))
        watched.silence(90, step: 10)
        watched.look()
        #expect(watched.judge.verdict() == .alive)
        watched.silence(60, step: 10)
        watched.look()
        #expect(watched.judge.verdict() == .suspicious)
        #expect(watched.judge.due == watched.now + ms(50) + 1)
        watched.silence(50, step: 10)
        watched.look()
        #expect(watched.judge.verdict() == .suspicious, "exactly what is borne is borne")
        watched.silence(1, step: 1)
        watched.look()
        #expect(watched.judge.verdict() == .silent)
    }

    @Test func aSlowPeerIsBorneLongerForAWhile() {
        var watched = Watched(ceiling: 1000)
        watched.calm(seconds: 90)
        let before = watched.judge.borne
        watched.arrival(after: 150)
        #expect(before < ms(300) && watched.judge.borne == ms(450))
        watched.calm(seconds: 10)
        #expect(watched.judge.borne > ms(300) && watched.judge.borne < ms(450))
        watched.calm(seconds: 30)
        #expect(watched.judge.borne == ms(200))
    }

    @Test func noGapRaisesItBeyondTheCeiling() {
        var watched = Watched()
        watched.calm(seconds: 60)
        watched.arrival(after: 480)
        #expect(watched.judge.borne == ms(500))
        // As much as a gap at the ceiling, no more: it decays at once.
        watched.arrival(after: 50)
        #expect(watched.judge.borne < ms(500))
    }

    /// The process was stopped for a minute: nobody listened.
    @Test func whatWasNotListenedToIsNoSilence() {
        var watched = Watched()
        watched.calm(seconds: 60)
        let stopped = watched.now
        watched.now += ms(60_000)
        watched.look()
        #expect(watched.judge.silence == ms(50) && watched.judge.verdict() == .alive)
        // What lay in the socket is read, as what came before the look.
        watched.now += ms(1)
        watched.judge.look(at: watched.now, newest: watched.now, gap: watched.now - stopped)
        #expect(watched.judge.silence == 0)
    }

    @Test func aPeerThatDiedMeanwhileIsMissedAllTheSame() {
        var watched = Watched()
        watched.calm(seconds: 60)
        watched.now += ms(60_000)
        watched.look()
        watched.silence(140, step: 50)
        watched.look()
        #expect(watched.judge.verdict() != .silent)
        watched.silence(20, step: 10)
        watched.look()
        #expect(watched.judge.verdict() == .silent)
    }

    /// A host so slow that every look is late must still notice, only later.
    @Test func lateLooksDoNotWaitForEver() {
        var watched = Watched()
        watched.calm(seconds: 60)
        var looks = 0
        while watched.judge.verdict() != .silent, looks < 100 {
            watched.now += ms(150)
            watched.look()
            looks += 1
        }
        #expect(looks == 5, "each late look counts as one interval")
    }

    @Test func ownAbsenceIsNotThePeersGap() {
        var watched = Watched(ceiling: 1000)
        watched.calm(seconds: 90)
        watched.now += ms(400)
        watched.judge.look(at: watched.now, newest: watched.now, gap: ms(400))
        #expect(watched.judge.borne == ms(200))
    }

    @Test func aHostThatLivesIsWaitedForUpToTheCeiling() {
        var watched = Watched()
        watched.calm(seconds: 60)
        watched.silence(300, step: 10)
        watched.look()
        #expect(watched.judge.verdict() == .silent && watched.judge.verdict(hostLives: true) == .stalled)
        watched.silence(200, step: 10)
        watched.look()
        #expect(watched.judge.verdict(hostLives: true) == .stalled)
        watched.silence(1, step: 1)
        watched.look()
        #expect(watched.judge.verdict(hostLives: true) == .pathDown && watched.judge.verdict() == .silent)
    }

    @Test func equalBoundsMakeAFixedLimit() {
        var watched = Watched(floor: 300, ceiling: 300)
        watched.calm(seconds: 5)
        watched.arrival(after: 250)
        #expect(watched.judge.borne == ms(300))
    }

    @Test func timeThatStandsStillOrGoesBackIsNoLook() {
        var watched = Watched()
        watched.calm(seconds: 1)
        let before = watched.judge
        watched.judge.look(at: watched.now, newest: watched.now, gap: ms(400))
        watched.judge.look(at: watched.now - ms(100), newest: watched.now, gap: ms(400))
        #expect(watched.judge == before)
    }

    /// Some of the numbers come from a peer.
    @Test(arguments: [Int.min, -1, 0, 1, 50, 600_000, Int.max]) func anyNumberMakesLimits(value: Int) {
        for other in [Int.min, 0, 50, Int.max] {
            let limits = [
                SilenceJudge.Limits(floor: value, ceiling: other, interval: 50, peerInterval: 50),
                SilenceJudge.Limits(floor: other, ceiling: value, interval: other, peerInterval: value),
            ]
            for limits in limits {
                #expect(limits.floor <= limits.ceiling && limits.floor >= ms(3) && limits.ceiling <= ms(1_800_000))
                var judge = SilenceJudge(limits, now: .max - 1)
                judge.look(at: .max, newest: .max, gap: .max)
                #expect(judge.borne >= limits.floor)
            }
        }
        let slow = SilenceJudge.Limits(floor: 100, ceiling: 200, interval: 50, peerInterval: 100)
        #expect(
            slow.floor == ms(300) && slow.ceiling == ms(300), "three heartbeats of the peer, whatever else is asked")
    }
}
