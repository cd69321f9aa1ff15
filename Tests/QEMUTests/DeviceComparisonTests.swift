import QEMU
import Testing

/// Whether a checkpoint has the devices of the first one.
@Suite struct DeviceComparisonTests {
    private func state(_ devices: [String], contents: UInt8 = 1) -> [UInt8] {
        let sections = devices.enumerated().flatMap { DeviceStateTests.section(UInt32($0), $1, [contents]) }
        return DeviceStateTests.head + sections + [0]
    }

    @Test func theFirstOneIsWhatOthersAreComparedWith() throws {
        var comparison = DeviceComparison()
        #expect(try comparison.difference(state(["cpu", "timer"])) == nil)
        #expect(try comparison.difference(state(["cpu", "timer"], contents: 2)) == nil)
        let difference = try #require(try comparison.difference(state(["cpu", "timer", "net"])))
        #expect(difference.contains("net"), "\(difference)")
    }

    @Test func equalLengthsAreLookedIntoNowAndThen() throws {
        var comparison = DeviceComparison()
        _ = try comparison.difference(state(["cpu", "one"]))
        for _ in 2..<DeviceComparison.period { #expect(try comparison.difference(state(["cpu", "two"])) == nil) }
        #expect(try comparison.difference(state(["cpu", "two"])) != nil)
    }

    @Test func whatIsNoDeviceStateIsRefused() {
        var comparison = DeviceComparison()
        #expect(throws: DeviceStateError.self) { try comparison.difference([1, 2, 3]) }
    }
}
