import Glibc
import LinuxSystem

/// Where a gate takes a guest's frames from and where it lets them leave, whatever carries them. Inside the gate a frame is
/// a big-endian 32-bit length and its bytes. Nothing here waits.
protocol FrameEnds: Sendable {
    /// Readable when there is a frame to take; writable when there is room again.
    var taking: Int32 { get }
    var giving: Int32 { get }
    /// Bytes of a frame whose rest is still to come.
    var missing: Int { get }
    /// Appends what there is now, or part of it, to `target`; `buffer` is scratch, of at least `takenMax` bytes.
    mutating func take(into target: inout [UInt8], by buffer: UnsafeMutableRawBufferPointer) -> Taken
    /// Lets the first of `bytes` leave. They begin with a frame, or where the last call ended.
    func give(_ bytes: UnsafeRawBufferPointer) -> Given
    /// Everything that was given is with whoever is at the other end.
    var isDelivered: Bool { get }
}

/// What one take brings at most, in bytes.
let takenMax = 256 * 1024

enum Taken: Equatable {
    /// So many frames ended in what was appended.
    case frames(Int)
    case nothing
    case closed
    /// What came makes no sense; why.
    case nonsense(String)
}

enum Given: Equatable {
    case bytes(Int)
    case full
    case closed
}

/// QEMU's filter-redirectors: two stream sockets.
struct RedirectorEnds: FrameEnds {
    let taking: Int32
    let giving: Int32
    private var counter = FrameCounter()
    private var mender: HeaderMender?

    /// `mac` is the NIC's own address.
    init(hold: Int32, release: Int32, mac: String?) {
        taking = hold
        giving = release
        mender = mac.flatMap { HeaderMender(mac: $0) }
    }

    var missing: Int { counter.missing }

    mutating func take(into target: inout [UInt8], by buffer: UnsafeMutableRawBufferPointer) -> Taken {
        let count = uninterrupted { read(taking, buffer.baseAddress, buffer.count) }
        if count < 0, errno == EAGAIN { return .nothing }
        guard count > 0 else { return .closed }
        let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
        let frames = counter.count(bytes)
        if let problem = counter.problem { return .nonsense(problem) }
        if mender == nil { target.append(contentsOf: bytes) } else { mender?.pass(bytes, to: &target) }
        return .frames(frames)
    }

    func give(_ bytes: UnsafeRawBufferPointer) -> Given {
        let count = uninterrupted { send(giving, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL)) }
        if count < 0, errno == EAGAIN { return .full }
        return count > 0 ? .bytes(count) : .closed
    }

    var isDelivered: Bool {
        var unread: Int32 = 0
        return ioctl(giving, UInt(TIOCOUTQ), &unread) != 0 || unread == 0
    }
}

/// A device that is read and written frame by frame: a tap's detour.
struct DeviceEnds: FrameEnds {
    private let device: Int32

    init(_ device: Int32) { self.device = device }

    var taking: Int32 { device }
    var giving: Int32 { device }
    var missing: Int { 0 }

    mutating func take(into target: inout [UInt8], by buffer: UnsafeMutableRawBufferPointer) -> Taken {
        let count = uninterrupted { read(device, buffer.baseAddress, buffer.count) }
        if count < 0, errno == EAGAIN { return .nothing }
        guard count > 0 else { return .closed }
        withUnsafeBytes(of: UInt32(count).bigEndian) { target.append(contentsOf: $0) }
        target.append(contentsOf: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        return .frames(1)
    }

    func give(_ bytes: UnsafeRawBufferPointer) -> Given {
        let length = Int(UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self)))
        let count = uninterrupted { write(device, bytes.baseAddress! + 4, length) }
        if count < 0, errno == EAGAIN { return .full }
        if count < 0, errno == EBADFD { return .closed }
        // One that the kernel does not take is lost, as a network may lose any.
        return .bytes(4 + length)
    }

    /// A write returns when the frame is on its way.
    var isDelivered: Bool { true }
}

private func uninterrupted(_ call: () -> Int) -> Int {
    while true {
        let count = call()
        if count >= 0 || errno != EINTR { return count }
    }
}
