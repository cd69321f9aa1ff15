import Glibc
import Hypervisor
import LinuxSystem
import Model
import Synchronization

/// A NIC's output filter: two pairs of sockets, and a thread that takes what leaves.
final class FakeTap: NICTap, Sendable {
    private let guest: GuestReference
    private let nic: UInt16
    private let hold: (guest: OwnedNumber, ours: OwnedNumber)
    private let release: (guest: OwnedNumber, ours: OwnedNumber)
    private let arrived = Mutex<[UInt8]>([])
    private let thread = Mutex<NamedThread?>(nil)
    private let attached = Atomic(true)

    init(_ guest: FakeGuest, _ nic: UInt16) throws(SystemError) {
        self.guest = GuestReference(guest)
        self.nic = nic
        let hold = try DescriptorPair.sockets()
        let release = try DescriptorPair.sockets()
        self.hold = (try OwnedNumber(copying: hold.first), try OwnedNumber(copying: hold.second))
        self.release = (try OwnedNumber(copying: release.first), try OwnedNumber(copying: release.second))
        var started: NamedThread? = try NamedThread.start("network-\(nic)") { [self] in listen() }
        thread.withLock { $0 = started.take() }
    }

    var heldDescriptor: Int32 { hold.ours.number }
    var releaseDescriptor: Int32 { release.ours.number }
    let isDevice = false
    var isAttached: Bool { attached.load(ordering: .acquiring) }

    func output(_ frame: [UInt8]) {
        outputRaw(withUnsafeBytes(of: UInt32(frame.count).bigEndian) { Array($0) } + frame)
    }

    func outputRaw(_ bytes: [UInt8]) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(hold.guest.number, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return }
            sent += count
        }
    }

    private func listen() {
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(release.guest.number, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            arrived.withLock { $0.append(contentsOf: buffer[..<count]) }
        }
    }

    /// The frames that left.
    var left: [[UInt8]] {
        arrived.withLock { bytes in
            var frames: [[UInt8]] = []
            var position = 0
            while position + 4 <= bytes.count {
                let length = bytes[position..<position + 4].reduce(0) { $0 << 8 | Int($1) }
                guard position + 4 + length <= bytes.count else { break }
                frames.append(Array(bytes[position + 4..<position + 4 + length]))
                position += 4 + length
            }
            return frames
        }
    }

    func shutDown() { _ = shutdown(hold.guest.number, Int32(SHUT_RDWR)) }

    /// Returns when all that left is known.
    func close() {
        attached.store(false, ordering: .releasing)
        _ = shutdown(release.ours.number, Int32(SHUT_WR))
        thread.withLock { $0.take() }?.join()
    }

    func remove() throws(SessionError) { try guest.value?.untap(nic) }
}

/// A disk's mirror: nothing is written through it.
final class FakeMirror: DiskTap {
    private let guest: FakeGuest
    let socket: OwnedNumber
    private var isHeld = false

    init(_ guest: FakeGuest, _ descriptor: Int32) {
        self.guest = guest
        socket = OwnedNumber(fcntl(descriptor, F_DUPFD_CLOEXEC, 0))
    }

    func progress() throws(SessionError) -> Double {
        let (progress, failure) = guest.locked { ($0.progress, $0.mirrorFailure) }
        if let failure { throw failure }
        return progress
    }

    func hold(_ descriptor: Int32) throws(SessionError) {
        if !isHeld { guest.locked { $0.heldMirrors += 1 } }
        isHeld = true
    }

    func letGo() {
        if isHeld { guest.locked { $0.heldMirrors -= 1 } }
        isHeld = false
    }

    func remove() throws(SessionError) {
        letGo()
        try guest.step(.unmirror) { state in
            state.mirrors -= 1
            if state.stopsNested == 0 { state.violations.append("a mirror was taken out while the guest ran") }
        }
    }
}

/// A descriptor that is closed with its last user.
final class OwnedNumber: Sendable {
    let number: Int32
    init(_ number: Int32) { self.number = number }
    convenience init(copying descriptor: borrowing OwnedDescriptor) throws(SystemError) {
        self.init(try descriptor.duplicate().release())
    }
    deinit { _ = Glibc.close(number) }
}

/// A guest keeps its taps, and not the other way round.
struct GuestReference: @unchecked Sendable {
    // SAFETY: the reference is never changed, and a guest may be used from any thread.
    weak var value: FakeGuest?
    init(_ value: FakeGuest) { self.value = value }
}
