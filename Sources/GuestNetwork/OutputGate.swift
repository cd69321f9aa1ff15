/// The gate that a guest's network output passes: held by epoch, released in order.
///
/// Owns the agent's ends of the two sockets that QEMU's filter-redirectors `hold` and `rel` are connected to, and the
/// frames that are held. May call System and Model. Upholds: output of an epoch leaves only when `release(through:)`
/// was called for it; frames leave in the order in which the guest sent them; an agent that is dead, frozen or out of
/// memory lets nothing out, because QEMU itself has no way past the redirectors.

import Glibc
import LinuxSystem
import Model
import Synchronization

/// What left the gate for one epoch.
public struct ReleasedOutput: Sendable {
    public var epoch: Epoch
    public var frames: Int
    public var bytes: Int
    /// From the first frame reaching the gate to its release, in nanoseconds; 0 when there was no frame.
    public var held: UInt64
}

/// One epoch's output of one NIC, in the redirector's format: big-endian 32-bit length, then the frame, repeated
/// (QEMU: net/filter-mirror.c, `filter_send`).
public struct HeldOutput: Sendable {
    public var nic: UInt16
    public var epoch: Epoch
    public var bytes: [UInt8] = []
    public var frames = 0
    var firstAt: UInt64 = 0

    public init(nic: UInt16, epoch: Epoch) {
        self.nic = nic
        self.epoch = epoch
    }
}

public enum GateError: Error, Equatable, CustomStringConvertible {
    /// QEMU closed its end, or the operating system refused the socket.
    case closed(nic: UInt16)
    /// The guest stands still and yet a frame is incomplete, or a length is out of range.
    case tornFrame(nic: UInt16, detail: String)

    public var description: String {
        switch self {
        case .closed(let nic): "QEMU closed the output filter of NIC \(nic)"
        case .tornFrame(let nic, let detail): "the output filter of NIC \(nic) delivered a torn frame: \(detail)"
        }
    }
}

/// One NIC's gate. A thread of its own moves the bytes; `cut` may be called from another thread while the guest stands
/// still.
public final class OutputGate: Sendable {
    public let nic: UInt16

    private struct State {
        var holding = false
        var current: HeldOutput
        var sealed: [HeldOutput] = []
        var outgoing: [UInt8] = []
        var outgoingOffset = 0
        var parser = FrameCounter()
        var mender: HeaderMender?
        var closed = false
        var failure: GateError?
        var heldBytes: Int { current.bytes.count + sealed.reduce(0) { $0 + $1.bytes.count } }
    }

    /// What is not released yet, over all epochs.
    public struct Held: Sendable {
        public var bytes = 0
        public var frames = 0
    }

    private let state: Mutex<State>
    /// Called on the gate's thread, when the first output of an epoch is held.
    private let firstHeld: @Sendable () -> Void
    private let hold: Int32
    private let release: Int32
    private let wake: EventDescriptor
    private let thread: Mutex<NamedThread?>
    private let stopping = Atomic(false)

    /// Borrows both descriptors until `close` returned: connected stream sockets, `hold` the one that QEMU writes the
    /// guest's output to, `release` the one that QEMU reads what may leave from. `mac` is the NIC's own address.
    public init(
        nic: UInt16, mac: String? = nil, hold: Int32, release: Int32, firstHeld: @escaping @Sendable () -> Void = {}
    ) throws(SystemError) {
        self.nic = nic
        self.firstHeld = firstHeld
        self.hold = hold
        self.release = release
        wake = try EventDescriptor()
        var first = State(current: HeldOutput(nic: nic, epoch: .firstCopy))
        first.mender = mac.flatMap { HeaderMender(mac: $0) }
        state = Mutex(first)
        thread = Mutex(nil)
        for descriptor in [hold, release] {
            let flags = fcntl(descriptor, F_GETFL)
            _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK)
        }
        var started: NamedThread? = try NamedThread.start("gate-\(nic)") { [self] in run() }
        thread.withLock { $0 = started.take() }
    }

    /// From now on output is held; call while the guest stands still at the checkpoint that begins protection.
    /// What was sent before still leaves. The next output belongs to `epoch`.
    public func startHolding(next epoch: Epoch) throws(GateError) {
        let failure = state.withLock { state -> GateError? in
            drain(&state)
            state.holding = true
            state.current = HeldOutput(nic: nic, epoch: epoch)
            return state.failure ?? state.parser.torn(nic: nic)
        }
        if let failure { throw failure }
    }

    /// Ends `epoch` for this NIC; call while the guest stands still. Returns the epoch's output to ship it.
    public func cut(_ epoch: Epoch) throws(GateError) -> HeldOutput {
        let (output, failure) = state.withLock { state -> (HeldOutput, GateError?) in
            drain(&state)
            var output = state.current
            output.epoch = epoch
            state.sealed.append(output)
            state.current = HeldOutput(nic: nic, epoch: epoch.next)
            return (output, state.failure ?? state.parser.torn(nic: nic))
        }
        if let failure { throw failure }
        return output
    }

    /// Lets the output of all epochs up to and including `epoch` leave. What QEMU takes at once is with it when this
    /// returns; the gate's thread sees to the rest.
    public func release(through epoch: Epoch) -> [ReleasedOutput] {
        let (released, isAllOut) = state.withLock { state -> ([ReleasedOutput], Bool) in
            let now = MonotonicClock.now()
            var released: [ReleasedOutput] = []
            while let first = state.sealed.first, first.epoch <= epoch {
                released.append(Self.let(first, leave: &state, at: now))
                state.sealed.removeFirst()
            }
            write(&state)
            return (released, state.outgoing.isEmpty)
        }
        if !isAllOut { wake.signal() }
        return released
    }

    /// Lets everything leave, held or not, and holds nothing from now on.
    public func releaseEverything() -> [ReleasedOutput] {
        let released = state.withLock { state -> [ReleasedOutput] in
            let now = MonotonicClock.now()
            state.holding = false
            let all = state.sealed + [state.current]
            state.sealed = []
            state.current = HeldOutput(nic: nic, epoch: state.current.epoch)
            return all.map { Self.let($0, leave: &state, at: now) }
        }
        wake.signal()
        return released
    }

    /// Forgets what is held, and goes on holding. Returns the frames that were dropped.
    public func drop() -> Int {
        state.withLock { state in
            let frames = state.current.frames + state.sealed.reduce(0) { $0 + $1.frames }
            state.sealed = []
            state.current = HeldOutput(nic: nic, epoch: state.current.epoch)
            state.holding = true
            return frames
        }
    }

    /// When the first output of the epoch that runs reached the gate, in nanoseconds of `MonotonicClock`; nil while there is
    /// none.
    public var firstHeldAt: UInt64? {
        state.withLock { $0.holding && $0.current.frames > 0 ? $0.current.firstAt : nil }
    }

    public var held: Held {
        state.withLock { state in
            Held(
                bytes: state.heldBytes,
                frames: state.current.frames + state.sealed.reduce(0) { $0 + $1.frames })
        }
    }

    /// Waits until QEMU has read everything that may leave, so that taking the filter out loses no frame.
    /// Returns false when `deadline` (monotonic nanoseconds) passed first.
    public func waitUntilDelivered(deadline: UInt64) -> Bool {
        while MonotonicClock.now() < deadline {
            let done = state.withLock { state in
                if !state.closed { drain(&state) }
                return state.closed || state.outgoing.isEmpty
            }
            var unread: Int32 = 0
            if done, ioctl(release, UInt(TIOCOUTQ), &unread) != 0 || unread == 0 { return true }
            wake.signal()
            MonotonicClock.sleep(until: MonotonicClock.now() + 200_000)
        }
        return false
    }

    /// Ends the thread; what is still held is dropped. The sockets stay the caller's. Idempotent.
    public func close() {
        guard !stopping.exchange(true, ordering: .sequentiallyConsistent) else { return }
        wake.signal()
        thread.withLock { $0.take() }?.join()
    }

    // MARK: - The gate's thread

    private func run() {
        while !stopping.load(ordering: .relaxed) {
            let (closed, wantsWrite) = state.withLock { ($0.closed, !$0.outgoing.isEmpty) }
            var descriptors = [
                pollfd(fd: wake.number, events: Int16(POLLIN), revents: 0),
                pollfd(fd: closed ? -1 : hold, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wantsWrite && !closed ? release : -1, events: Int16(POLLOUT), revents: 0),
            ]
            _ = poll(&descriptors, 3, -1)
            _ = wake.take()
            let isFirst = state.withLock { state in
                let wasEmpty = state.current.frames == 0
                drain(&state)
                write(&state)
                return wasEmpty && state.holding && state.current.frames > 0
            }
            if isFirst { firstHeld() }
        }
    }

    private static func `let`(_ output: HeldOutput, leave state: inout State, at now: UInt64) -> ReleasedOutput {
        state.outgoing.append(contentsOf: output.bytes)
        return ReleasedOutput(
            epoch: output.epoch, frames: output.frames, bytes: output.bytes.count,
            held: output.frames > 0 ? now - output.firstAt : 0)
    }

    /// Reads all that QEMU has written, without waiting. Frames go into the current epoch, or straight on when nothing
    /// is held.
    private func drain(_ state: inout State) {
        guard !state.closed, state.failure == nil else { return }
        withUnsafeTemporaryAllocation(byteCount: 256 * 1024, alignment: 16) { buffer in
            while true {
                let count = read(hold, buffer.baseAddress, buffer.count)
                if count < 0, errno == EINTR { continue }
                if count < 0, errno == EAGAIN { return }
                guard count > 0 else {
                    state.closed = true
                    state.failure = .closed(nic: nic)
                    return
                }
                let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
                let frames = state.parser.count(bytes)
                if let problem = state.parser.problem {
                    state.failure = .tornFrame(nic: nic, detail: problem)
                    return
                }
                if state.holding {
                    if state.current.bytes.isEmpty { state.current.firstAt = MonotonicClock.now() }
                    Self.pass(bytes, &state.mender, to: &state.current.bytes)
                    state.current.frames += frames
                } else {
                    Self.pass(bytes, &state.mender, to: &state.outgoing)
                }
            }
        }
    }

    private static func pass(
        _ bytes: UnsafeRawBufferPointer, _ mender: inout HeaderMender?, to target: inout [UInt8]
    ) {
        if mender == nil { target.append(contentsOf: bytes) } else { mender?.pass(bytes, to: &target) }
    }

    private func write(_ state: inout State) {
        while state.outgoingOffset < state.outgoing.count, !state.closed {
            let count = state.outgoing.withUnsafeBytes { bytes in
                send(
                    release, bytes.baseAddress! + state.outgoingOffset, bytes.count - state.outgoingOffset,
                    Int32(MSG_NOSIGNAL))
            }
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN { return }
            guard count > 0 else {
                state.closed = true
                return
            }
            state.outgoingOffset += count
        }
        state.outgoing.removeAll(keepingCapacity: state.outgoing.capacity < 4 << 20)
        state.outgoingOffset = 0
    }
}
