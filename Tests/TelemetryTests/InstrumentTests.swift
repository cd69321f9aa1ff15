import Synchronization
import Telemetry
import Testing

@Suite struct InstrumentTests {
    @Test func countersAndGaugesLoseNothingUnderContention() async {
        let counter = Counter()
        let gauge = Gauge()
        let histogram = Histogram(bounds: [10, 100])
        await withTaskGroup(of: Void.self) { group in
            for task in 0..<4 {
                group.addTask {
                    for step in 0..<10_000 {
                        counter.add(2)
                        gauge.add(task % 2 == 0 ? 1 : -1)
                        histogram.observe(nanoseconds: UInt64(step % 3) * 50)
                    }
                }
            }
        }
        #expect(counter.value == 80_000)
        #expect(gauge.value == 0)
        #expect(histogram.snapshot.count == 40_000)
        // steps 0, 50, 100 in turn: 3334 zeros per task, then 3333 each of 50 and 100
        #expect(histogram.snapshot.buckets == [4 * 3334, 8 * 3333, 0])
        #expect(histogram.snapshot.totalNanoseconds == 4 * 3333 * 150)
    }

    @Test(arguments: [(0, 0), (10, 0), (11, 1), (100, 1), (101, 2), (UInt64.max, 2)] as [(UInt64, Int)])
    func aValueFallsIntoTheFirstBucketThatHoldsIt(value: UInt64, bucket: Int) {
        let histogram = Histogram(bounds: [10, 100])
        histogram.observe(nanoseconds: value)
        var expected: [UInt64] = [0, 0, 0]
        expected[bucket] = 1
        #expect(histogram.snapshot.buckets == expected)
    }

    @Test func aStateSetKnowsOnlyItsNames() {
        let set = StateSet(names: ["a", "b"])
        #expect(set.value == nil)
        set.set("b")
        #expect(set.value == "b")
        set.set("c")
        #expect(set.value == nil)
    }

    @Test func quantilesAreOfTheRememberedValues() throws {
        let values = RecentValues(capacity: 100)
        #expect(values.quantiles([0.5]) == nil)
        for value in 1...1000 { values.add(UInt64(value)) }
        // 901...1000 are left
        #expect(values.quantiles([0, 0.5, 0.95, 1]) == [901, 950, 995, 1000])
        let one = RecentValues()
        one.add(7)
        #expect(one.quantiles([0.5, 0.95]) == [7, 7])
    }

    @Test func aRateLooksBackOnWholeSeconds() {
        let second: UInt64 = 1_000_000_000
        let meter = RateMeter()
        #expect(meter.perSecond(at: 100 * second) == 0)
        meter.add(30, at: 100 * second + 1)
        #expect(meter.perSecond(at: 100 * second + 2) == 30)
        #expect(meter.perSecond(at: 101 * second) == 30)
        for elapsed in 101..<110 as Range<UInt64> { meter.add(50, at: elapsed * second) }
        #expect(meter.perSecond(at: 110 * second) == 50)
        #expect(meter.perSecond(at: 112 * second) == 30)
        #expect(meter.perSecond(at: 200 * second) == 0)
    }
}
