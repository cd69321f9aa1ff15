import Hypervisor
import Synchronization
import Testing

/// When disks that keep a checkpoint waiting count as hanging.
@Suite struct DiskPatienceTests {
    private static let millisecond: UInt64 = 1_000_000

    private func bound(_ milliseconds: UInt64, isHeldUp: @escaping @Sendable () -> Bool = { false }) -> DiskBound {
        DiskBound(limit: milliseconds * Self.millisecond, isHeldUp: isHeldUp)
    }

    @Test func itEndsWithItsLimit() {
        var patience = DiskPatience(bound(1000), now: 0)
        for step in 1...10 { #expect(!patience.isOver(at: UInt64(step) * 100 * Self.millisecond) { false }) }
        #expect(patience.isOver(at: 1001 * Self.millisecond) { false })
    }

    @Test func withoutALimitItNeverEnds() {
        var patience = DiskPatience(nil, now: 0)
        for step in 1...1000 { #expect(!patience.isOver(at: UInt64(step) * 100 * Self.millisecond) { false }) }
    }

    @Test func whoeverLooksMayHaveBeenStoppedItself() {
        var patience = DiskPatience(bound(1000), now: 0)
        #expect(!patience.isOver(at: 60_000 * Self.millisecond) { false }, "one look tells of 200 ms at most")
        #expect(!patience.isOver(at: 60_800 * Self.millisecond) { false })
    }

    @Test func aProcessThatIsHaltedGetsItAnew() {
        var patience = DiskPatience(bound(200), now: 0)
        #expect(!patience.isOver(at: 150 * Self.millisecond) { true })
        #expect(!patience.isOver(at: 300 * Self.millisecond) { true })
        #expect(!patience.isOver(at: 450 * Self.millisecond) { false })
        #expect(patience.isOver(at: 550 * Self.millisecond) { false })
    }

    @Test func disksThatWaitForUsDoNotHang() {
        var patience = DiskPatience(bound(200) { true }, now: 0)
        for step in 1...100 { #expect(!patience.isOver(at: UInt64(step) * 100 * Self.millisecond) { false }) }
    }

    /// A checkpoint looks every 20 microseconds while QEMU saves.
    @Test func aDrainThatIsSoonOverIsNotLookedInto() {
        let looks = Mutex(0)
        let heldUp = bound(1000) {
            looks.withLock { $0 += 1 }
            return false
        }
        var patience = DiskPatience(heldUp, now: 0)
        for step in UInt64(1)...2000 {
            let isOver = patience.isOver(at: step * 20_000) {
                looks.withLock { $0 += 1 }
                return false
            }
            #expect(!isOver)
        }
        #expect(looks.withLock { $0 } == 0)
    }
}
