import Model
import Testing

struct BackOffTests {
    @Test func waitsDoubleUpToTheBound() {
        var backOff = BackOff(first: 2, most: 15)
        #expect(backOff.wait == 0, "nothing failed yet")
        #expect((0..<6).map { _ in backOff.fail() } == [2, 4, 8, 15, 15, 15])
        #expect(backOff.wait == 15 && backOff.failures == 6)
    }

    @Test func aResetBeginsAnew() {
        var backOff = BackOff(first: 3, most: 100)
        _ = backOff.fail()
        _ = backOff.fail()
        backOff.reset()
        #expect(backOff.wait == 0)
        #expect(backOff.fail() == 3)
    }

    /// However often it fails: neither an overflow nor a wait that becomes short again.
    @Test func noNumberOfFailuresOverflows() {
        for (first, most) in [(1, UInt64.max), (UInt64.max, UInt64.max), (2_000_000_000, 300_000_000_000)] {
            var backOff = BackOff(first: first, most: most)
            var last: UInt64 = 0
            for _ in 0..<200 {
                let wait = backOff.fail()
                #expect(wait >= last && wait <= most)
                last = wait
            }
            #expect(last == most)
        }
    }
}
