import LinuxSystem
import Shipping
import Testing

@Suite struct WaitingTests {
    /// poll skips it, and a complement that is skipped must not be turned into a descriptor.
    @Test func aNegativeDescriptorWakesNobody() throws {
        let event = try SharedEvent()
        event.signal()
        let began = MonotonicClock.now()
        waitReadable([-1, ~event.number], nanoseconds: 20_000_000)
        #expect(MonotonicClock.now() - began >= 20_000_000)
    }

    @Test func whatCanBeReadEndsTheWait() throws {
        let event = try SharedEvent()
        event.signal()
        waitReadable([-1, event.number], nanoseconds: .max)
        #expect(event.take())
    }
}
