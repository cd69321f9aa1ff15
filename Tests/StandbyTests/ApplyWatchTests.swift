import Standby
import Testing

/// When the storage of a standby's images counts as hanging.
@Suite struct ApplyWatchTests {
    private static let millisecond: UInt64 = 1_000_000
    private var watch = ApplyWatch(limit: 500 * Self.millisecond)

    private mutating func look(_ milliseconds: UInt64, begun: UInt64, progress: UInt64 = 0) -> String? {
        watch.look(at: milliseconds * Self.millisecond, begun: begun, progress: progress)?.message
    }

    @Test mutating func aWriteThatDoesNotEndIsOne() {
        for now in stride(from: UInt64(0), through: 500, by: 50) { #expect(look(now, begun: 7) == nil) }
        #expect(look(550, begun: 7) == "the storage of its images hangs: nothing was written for 550 ms")
    }

    @Test mutating func manyWritesAreNot() {
        for now in stride(from: UInt64(0), through: 5000, by: 50) {
            #expect(look(now, begun: now, progress: 0) == nil, "one after the other")
        }
        for now in stride(from: UInt64(5050), through: 10_000, by: 50) {
            #expect(look(now, begun: 7, progress: now) == nil, "within one long epoch")
        }
    }

    @Test mutating func whoLooksSeldomSeesItToo() {
        watch = ApplyWatch(limit: 500 * Self.millisecond, interval: 2000 * Self.millisecond)
        #expect(look(0, begun: 7) == nil)
        #expect(look(2000, begun: 7) != nil)
    }

    @Test mutating func neitherIsRest() {
        for now in stride(from: UInt64(0), through: 5000, by: 50) { #expect(look(now, begun: 0) == nil) }
    }

    @Test mutating func whoeverLooksMayHaveBeenStoppedItself() {
        #expect(look(0, begun: 7) == nil)
        #expect(look(60_000, begun: 7) == nil)
        #expect(look(60_500, begun: 7) == nil)
        #expect(look(60_550, begun: 7) != nil)
    }
}
