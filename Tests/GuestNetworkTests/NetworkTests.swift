import Glibc
import GuestNetwork
import LinuxSystem
import Model
import Synchronization
import Testing

/// QEMU's side of a gate: what the redirectors `hold` and `rel` are connected to.
private final class FakeFilter {
    let hold: Int32
    let release: Int32
    private let ours: [Int32]
    let gate: OutputGate

    init(nic: UInt16 = 0) throws {
        var pair: [Int32] = [0, 0]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        var second: [Int32] = [0, 0]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &second) == 0)
        hold = pair[1]
        release = second[1]
        ours = [pair[0], second[0]]
        gate = try OutputGate(nic: nic, mac: "52:54:00:00:00:01", hold: pair[0], release: second[0])
    }

    deinit {
        gate.close()
        for descriptor in ours { close(descriptor) }
        close(hold)
        close(release)
    }

    func emit(_ frame: [UInt8]) {
        let bytes = withUnsafeBytes(of: UInt32(frame.count).bigEndian) { Array($0) } + frame
        #expect(write(hold, bytes, bytes.count) == bytes.count)
    }

    /// What left the gate, after waiting for `count` bytes; fewer when they do not come.
    func left(_ count: Int, milliseconds: Int32 = 2000) -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while bytes.count < count {
            var slot = pollfd(fd: release, events: Int16(POLLIN), revents: 0)
            guard poll(&slot, 1, milliseconds) == 1 else { break }
            let got = read(release, &buffer, min(buffer.count, count - bytes.count))
            guard got > 0 else { break }
            bytes += buffer[..<got]
        }
        return bytes
    }

    var nothingLeft: Bool {
        var slot = pollfd(fd: release, events: Int16(POLLIN), revents: 0)
        return poll(&slot, 1, 30) == 0
    }
}

private func framed(_ frames: [UInt8]...) -> [UInt8] {
    frames.flatMap { frame in withUnsafeBytes(of: UInt32(frame.count).bigEndian) { Array($0) } + frame }
}

@Suite struct OutputGateTests {
    @Test func passesEverythingBeforeHolding() throws {
        let filter = try FakeFilter()
        filter.emit([1, 2, 3])
        #expect(filter.left(7) == framed([1, 2, 3]))
    }

    @Test func holdsUntilReleasedAndKeepsTheOrder() throws {
        let filter = try FakeFilter()
        try filter.gate.startHolding(next: Epoch(2))
        filter.emit([1])
        filter.emit([2, 2])
        let second = try filter.gate.cut(Epoch(2))
        #expect(second.frames == 2)
        #expect(second.bytes == framed([1], [2, 2]))
        filter.emit([3])
        let third = try filter.gate.cut(Epoch(3))
        #expect(third.frames == 1)
        filter.emit([4])
        #expect(filter.nothingLeft)
        #expect(filter.gate.release(through: Epoch(2)).map(\.frames) == [2])
        #expect(filter.left(11) == framed([1], [2, 2]))
        #expect(filter.nothingLeft)
        #expect(filter.gate.release(through: Epoch(3)).map(\.frames) == [1])
        #expect(filter.left(5) == framed([3]))
        #expect(filter.nothingLeft)
    }

    @Test func whatWasSentBeforeHoldingStillLeaves() throws {
        let filter = try FakeFilter()
        filter.emit([9])
        try filter.gate.startHolding(next: Epoch(2))
        filter.emit([8])
        #expect(filter.left(5) == framed([9]))
        #expect(filter.nothingLeft)
    }

    @Test func releasingEverythingEndsTheHolding() throws {
        let filter = try FakeFilter()
        try filter.gate.startHolding(next: Epoch(2))
        filter.emit([1])
        _ = try filter.gate.cut(Epoch(2))
        filter.emit([2])
        _ = filter.gate.releaseEverything()
        #expect(filter.left(10) == framed([1], [2]))
        filter.emit([3])
        #expect(filter.left(5) == framed([3]))
        #expect(filter.gate.held.frames == 0)
    }

    /// What `announce-self` sends comes without the header that the guest's frames have, and must leave with one.
    @Test(arguments: [0, 10, 12])
    func anAnnouncementLeavesWithTheHeaderOfTheNIC(length: Int) throws {
        let mac: [UInt8] = [0x52, 0x54, 0, 0, 0, 1]
        let header = [UInt8](repeating: 0, count: length)
        let own = header + [UInt8](repeating: 7, count: 6) + mac + [8, 0] + [UInt8](repeating: 9, count: 46)
        let announcement = [UInt8](repeating: 0xff, count: 6) + mac + [0x80, 0x35] + [UInt8](repeating: 1, count: 46)
        let filter = try FakeFilter()
        try filter.gate.startHolding(next: Epoch(2))
        // Before a frame of the guest nobody knows; and the second comes in pieces.
        filter.emit(announcement)
        filter.emit(own)
        let bytes = framed(announcement)
        #expect(write(filter.hold, bytes, 20) == 20)
        #expect(filter.nothingLeft)
        #expect(bytes.dropFirst(20).withUnsafeBytes { write(filter.hold, $0.baseAddress, $0.count) } == 44)
        filter.emit(own)
        let output = try filter.gate.cut(Epoch(2))
        let expected = framed(announcement, own, header + announcement, own)
        #expect(output.frames == 4)
        #expect(output.bytes == expected)
        _ = filter.gate.release(through: Epoch(2))
        #expect(filter.left(expected.count) == expected)
    }

    @Test func aTornFrameIsNotPassedOffAsWhole() throws {
        let filter = try FakeFilter()
        try filter.gate.startHolding(next: Epoch(2))
        #expect(write(filter.hold, [0, 0, 0, 5, 1, 2], 6) == 6)
        #expect(throws: GateError.self) { try filter.gate.cut(Epoch(2)) }
    }

    @Test func closingDropsWhatIsHeld() throws {
        let filter = try FakeFilter()
        try filter.gate.startHolding(next: Epoch(2))
        filter.emit([1])
        _ = try filter.gate.cut(Epoch(2))
        filter.gate.close()
        #expect(filter.left(5, milliseconds: 200).isEmpty)
    }

    @Test func deliveryIsWaitedFor() throws {
        let filter = try FakeFilter()
        filter.emit([1])
        #expect(filter.left(0).isEmpty)
        let soon = UInt64(100_000_000)
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        let start = UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
        // Nobody has read it yet, so it is not delivered within the time.
        while filter.left(0, milliseconds: 0).isEmpty {
            var slot = pollfd(fd: filter.release, events: Int16(POLLIN), revents: 0)
            if poll(&slot, 1, 1000) == 1 { break }
        }
        #expect(!filter.gate.waitUntilDelivered(deadline: start + soon))
        #expect(filter.left(5) == framed([1]))
        #expect(filter.gate.waitUntilDelivered(deadline: .max))
    }
}

/// A gate whose frames come one by one, as from a device; datagrams stand for it.
@Suite struct DeviceGateTests {
    private final class Device {
        let gate: OutputGate
        private let ours: Int32
        private let theirs: Int32

        init() throws {
            var pair: [Int32] = [0, 0]
            #expect(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &pair) == 0)
            (ours, theirs) = (pair[0], pair[1])
            gate = try OutputGate(nic: 0, device: ours)
        }

        deinit {
            gate.close()
            close(ours)
            close(theirs)
        }

        var guestEnd: Int32 { theirs }

        func emit(_ frame: [UInt8]) { #expect(write(theirs, frame, frame.count) == frame.count) }

        var left: [[UInt8]] {
            var frames: [[UInt8]] = []
            var buffer = [UInt8](repeating: 0, count: 70_000)
            while true {
                var slot = pollfd(fd: theirs, events: Int16(POLLIN), revents: 0)
                guard poll(&slot, 1, 50) == 1 else { return frames }
                let count = read(theirs, &buffer, buffer.count)
                guard count > 0 else { return frames }
                frames.append(Array(buffer[..<count]))
            }
        }
    }

    @Test func framesAreHeldByEpochAndLeaveAsTheyCame() throws {
        let device = try Device()
        device.emit([9])
        #expect(device.left == [[9]])
        try device.gate.startHolding(next: Epoch(2))
        let long = (0..<65_562).map { UInt8(truncatingIfNeeded: $0) }
        device.emit([1, 2, 3])
        device.emit(long)
        let output = try device.gate.cut(Epoch(2))
        #expect(output.frames == 2)
        #expect(output.bytes == framed([1, 2, 3], long))
        device.emit([4])
        #expect(device.left == [])
        #expect(device.gate.release(through: Epoch(2)).map(\.frames) == [2])
        #expect(device.left == [[1, 2, 3], long])
        _ = device.gate.releaseEverything()
        #expect(device.left == [[4]])
        #expect(device.gate.waitUntilDelivered(deadline: .max))
    }

    /// Frames that come faster than they are read do not keep others from the gate, and those that leave do not either.
    @Test func aFloodLeavesTheGateToOthers() throws {
        let device = try Device()
        try device.gate.startHolding(next: Epoch(2))
        let stop = Atomic(false)
        let flood = try NamedThread.start("flood") { [end = device.guestEnd] in
            let frame = [UInt8](repeating: 7, count: 1500)
            while !stop.load(ordering: .relaxed) { _ = write(end, frame, frame.count) }
        }
        var looks = 0
        while device.gate.held.frames < 20_000 {
            looks += 1
            usleep(100)
        }
        stop.store(true, ordering: .relaxed)
        flood.join()
        #expect(looks > 10)
        let output = try device.gate.cut(Epoch(2))
        let arrived = Atomic(0)
        let reader = try NamedThread.start("network") { [end = device.guestEnd] in
            var buffer = [UInt8](repeating: 0, count: 2000)
            for _ in 0..<output.frames where read(end, &buffer, buffer.count) == 1500 {
                arrived.add(1, ordering: .relaxed)
            }
        }
        #expect(device.gate.release(through: Epoch(2)).map(\.frames) == [output.frames])
        reader.join()
        #expect(arrived.load(ordering: .relaxed) == output.frames)
        #expect(device.gate.waitUntilDelivered(deadline: MonotonicClock.now() + 10_000_000_000))
    }

    @Test func whatIsDroppedNeverLeaves() throws {
        let device = try Device()
        try device.gate.startHolding(next: Epoch(2))
        device.emit([1])
        _ = try device.gate.cut(Epoch(2))
        #expect(device.gate.drop() == 1)
        _ = device.gate.releaseEverything()
        #expect(device.left == [])
    }
}

@Suite struct FrameCounterTests {
    @Test(arguments: 1...12) func countsHoweverTheStreamIsCut(piece: Int) {
        let stream = framed([1, 2, 3], [], [4]).isEmpty ? [] : framed([1, 2, 3], [4], Array(repeating: 7, count: 300))
        var counter = FrameCounter()
        var frames = 0
        var rest = stream[...]
        while !rest.isEmpty {
            frames += Array(rest.prefix(piece)).withUnsafeBytes { counter.count($0) }
            rest = rest.dropFirst(piece)
        }
        #expect(frames == 3)
        #expect(counter.missing == 0)
    }

    @Test(arguments: [[0, 0, 0, 0], [0xff, 0, 0, 0], [0, 2, 0, 0]] as [[UInt8]])
    func impossibleLengthsAreNoticed(length: [UInt8]) {
        var counter = FrameCounter()
        _ = length.withUnsafeBytes { counter.count($0) }
        #expect(counter.problem != nil)
    }
}
