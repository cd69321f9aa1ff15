import Glibc
import Hypervisor
import QEMU
import Testing

@Suite(.serialized, .timeLimit(.minutes(2))) struct DeviceStateTests {
    static func section(_ id: UInt32, _ name: String, _ contents: [UInt8]) -> [UInt8] {
        func be(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }
        return [4] + be(id) + [UInt8(name.utf8.count)] + Array(name.utf8) + be(0) + be(1) + contents + [0x7e] + be(id)
    }
    static let head: [UInt8] = Array("QEVM".utf8) + [0, 0, 0, 3]

    private func sections(_ bytes: [UInt8]) throws -> [DeviceSection] {
        try bytes.span.withUnsafeBytes { bytes throws(DeviceStateError) in try DeviceState.sections(of: bytes) }
    }

    @Test func findsSectionsByTheirFooters() throws {
        // The first contents hold what looks like the footer, and like a footer and an end.
        let tricky: [UInt8] = [0x7e, 0, 0, 0, 9, 1, 0x7e, 0, 0, 0, 9, 0]
        let state = Self.head + Self.section(9, "timer", tricky) + Self.section(3, "cpu", []) + [0]
        let found = try sections(state)
        #expect(found.map(\.name) == ["timer", "cpu"])
        #expect(Array(state[found[0].contents]) == tricky)
        #expect(found[1].contents.isEmpty)
    }

    @Test func refusesWhatIsCutShort() throws {
        let state = Self.head + Self.section(9, "timer", [1, 2, 3]) + Self.section(3, "cpu", [4]) + [0]
        for count in 0..<state.count {
            #expect(throws: DeviceStateError.self) { try sections(Array(state[..<count])) }
        }
        #expect(throws: DeviceStateError.self) { try sections(state + [0]) }
    }

    @Test func survivesEveryChangedByte() throws {
        let state = Self.head + Self.section(9, "timer", [1, 2, 3]) + Self.section(3, "cpu", [4]) + [0]
        for position in state.indices {
            for byte in UInt8.min...UInt8.max {
                var changed = state
                changed[position] = byte
                _ = try? sections(changed)
            }
        }
    }

    @Test func capturesARunningGuestsState() throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-m", "64", "-display", "none", "-nic", "none"], in: directory)
        let monitor = try qemu.connect()
        let before = try monitor.execute("query-fdsets")
        let capture = try DeviceStateCapture.install(monitor)
        var layouts: [DeviceLayout] = []
        for round in 0..<4 {
            try capture.rewind()
            let batch = [
                DeviceStateCapture.stop, capture.save, DeviceStateCapture.memorySize, DeviceStateCapture.resume,
            ]
            let ids = try monitor.send(batch)
            let size = MemorySize(try monitor.awaitValue(ids.lowerBound + 2))
            #expect(size == MemorySize(base: 64 << 20, plugged: 0))
            for id in [ids.lowerBound, ids.lowerBound + 1, ids.lowerBound + 3] { try monitor.awaitReply(id) }
            var bytes = [UInt8](repeating: 0, count: capture.length())
            #expect(bytes.count > 10_000)
            _ = try bytes.withUnsafeMutableBytes { try capture.read(into: $0) }
            let names = try sections(bytes).map(\.name)
            #expect(names.contains("cpu") && names.contains("globalstate"))
            layouts.append(
                try bytes.span.withUnsafeBytes { bytes throws(DeviceStateError) in try DeviceState.layout(of: bytes) })
            if round == 2 { try monitor.execute("device_add", ["driver": "virtio-rng-pci", "id": "late"]) }
        }
        #expect(layouts[0] == layouts[1])
        #expect(layouts[0] == layouts[2])
        let difference = try #require(layouts[2].difference(to: layouts[3]))
        #expect(difference.contains("added") && difference.contains("virtio-rng"))
        try capture.remove(monitor)
        #expect(try monitor.execute("query-fdsets") == before)
    }

    private static func length(_ monitor: QMPConnection) throws -> Int {
        let capture = try DeviceStateCapture.install(monitor)
        try monitor.awaitReplies(
            try monitor.send([DeviceStateCapture.stop, capture.save, DeviceStateCapture.resume]))
        defer { try? capture.remove(monitor) }
        return capture.length()
    }

    private static func waitUntilHeld(_ pipe: borrowing DeviceStatePipe) throws {
        for _ in 1...5000 {
            if try pipe.isFull() { return }
            usleep(1000)
        }
        Issue.record("QEMU does not wait in its pipe")
    }

    /// One command: the guest stands still until the pipe is made wider, and runs again after it.
    @Test func oneCommandHoldsTheGuestUntilItIsReleased() throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-m", "64", "-display", "none", "-nic", "none"], in: directory)
        let monitor = try qemu.connect()
        let before = try monitor.execute("query-fdsets")
        let length = try Self.length(monitor)
        var pipe = try DeviceStatePipe.install(monitor)
        #expect(try !pipe.narrow(for: 8192) && !pipe.narrow(for: 1 << 20))
        for _ in 1...4 {
            _ = try monitor.takeEvents()
            #expect(try pipe.narrow(for: length))
            #expect(try !pipe.isBegun() && !pipe.isFull())
            let id = try monitor.send(pipe.save)
            try Self.waitUntilHeld(pipe)
            // All that QEMU says before it waits is here by now.
            #expect(try monitor.takeEvents().map(\.name) == ["STOP"])
            usleep(20_000)
            #expect(!monitor.isAnswered(id))
            try pipe.release()
            try monitor.awaitReply(id)
            #expect(try monitor.takeEvents().map(\.name) == ["RESUME"])
            var state: [UInt8] = []
            try pipe.read(into: &state)
            // Firmware that still boots may have a device in the middle of a transfer, whose state is longer then.
            #expect(state.count > length / 2 && pipe.held(state.count))
            #expect(try sections(state).map(\.name).contains("cpu"))
        }
        try pipe.remove(monitor)
        #expect(try monitor.execute("query-fdsets") == before)
    }

    /// An agent that ends within a checkpoint leaves a guest that runs.
    @Test func aPipeThatBreaksLetsTheGuestRunOn() throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-m", "64", "-display", "none", "-nic", "none"], in: directory)
        let monitor = try qemu.connect()
        let length = try Self.length(monitor)
        let id: UInt64
        do {
            var pipe = try DeviceStatePipe.install(monitor)
            #expect(try pipe.narrow(for: length))
            id = try monitor.send(pipe.save)
            try Self.waitUntilHeld(pipe)
        }
        #expect(throws: QMPError.self) { try monitor.awaitReply(id) }
        #expect(try monitor.execute("query-status")["running"]?.bool == true)
    }

    /// A guest that somebody paused is saved as it stands, and stays so.
    @Test func oneCommandLeavesAPausedGuestPaused() throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-m", "64", "-display", "none", "-nic", "none"], in: directory)
        let monitor = try qemu.connect()
        let length = try Self.length(monitor)
        try monitor.execute("stop")
        _ = try monitor.takeEvents()
        var pipe = try DeviceStatePipe.install(monitor)
        #expect(try pipe.narrow(for: length))
        let id = try monitor.send(pipe.save)
        try Self.waitUntilHeld(pipe)
        try pipe.release()
        try monitor.awaitReply(id)
        #expect(try monitor.takeEvents().isEmpty)
        #expect(try monitor.execute("query-status")["running"]?.bool == false)
    }
}
