/// The gate that a guest's network output passes: held by epoch, released in order.
///
/// Owns the frames that are held. May call LinuxSystem and Model. Upholds: output of an epoch leaves only when
/// `release(through:)` was called for it; frames leave in the order in which the guest sent them; an agent that is dead, frozen
/// or out of memory lets nothing out, because there is no way past QEMU's redirectors, or the tap's detour.

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

/// One epoch's output of one NIC: big-endian 32-bit length, then the frame, repeated (as QEMU's net/filter-mirror.c,
/// `filter_send`, has it). Where the NIC's tap carries virtio-net headers, each frame begins with one.
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
        var ends: any FrameEnds
        var closed = false
        var failure: GateError?
        var heldBytes: Int { current.bytes.count + sealed.reduce(0) { $0 + $1.bytes.count } }
    }

    /// What is not released yet, over all epochs.
    public struct Held: Sendable {
        public var bytes = 0
        public var frames = 0
        /// When the oldest of it reached the gate, in nanoseconds of `MonotonicClock`; nil while there is none.
        public var since: UInt64?
    }

    /// What the gate's thread does at most before it lets others have the lock: a device of the kernel's may bring frames faster than
    /// they are read, and take each of them inline.
    private static let takesAtOnce = 64
    private static let bytesAtOnce = 256 * 1024

    private let state: Mutex<State>
    /// Called on the gate's thread, when the first output of an epoch is held.
    private let firstHeld: @Sendable () -> Void
    private let taking: Int32
    private let giving: Int32
    private let wake: EventDescriptor
    private let thread: Mutex<NamedThread?>
    private let stopping = Atomic(false)

    /// Borrows both descriptors until `close` returned: connected stream sockets, `hold` the one that QEMU writes the
    /// guest's output to, `release` the one that QEMU reads what may leave from. `mac` is the NIC's own address.
    public convenience init(
        nic: UInt16, mac: String? = nil, hold: Int32, release: Int32, firstHeld: @escaping @Sendable () -> Void = {}
    ) throws(SystemError) {
        try self.init(nic, RedirectorEnds(hold: hold, release: release, mac: mac), firstHeld)
    }

    /// Borrows the descriptor until `close` returned: of a read and of a write, each is one frame.
    public convenience init(
        nic: UInt16, device: Int32, firstHeld: @escaping @Sendable () -> Void = {}
    ) throws(SystemError) {
        try self.init(nic, DeviceEnds(device), firstHeld)
    }

    private init(
        _ nic: UInt16, _ ends: some FrameEnds, _ firstHeld: @escaping @Sendable () -> Void
    ) throws(SystemError) {
        self.nic = nic
        self.firstHeld = firstHeld
        taking = ends.taking
        giving = ends.giving
        wake = try EventDescriptor()
        state = Mutex(State(current: HeldOutput(nic: nic, epoch: .firstCopy), ends: ends))
        thread = Mutex(nil)
        for descriptor in [taking, giving] {
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
            return state.failure ?? torn(state)
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
            return (output, state.failure ?? torn(state))
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
                frames: state.current.frames + state.sealed.reduce(0) { $0 + $1.frames },
                since: (state.sealed + [state.current]).first { $0.frames > 0 }?.firstAt)
        }
    }

    private func torn(_ state: State) -> GateError? {
        let missing = state.ends.missing
        guard missing > 0 else { return nil }
        return .tornFrame(nic: nic, detail: "\(missing) bytes are missing at the end of the epoch")
    }

    /// Waits until QEMU has read everything that may leave, so that taking the filter out loses no frame.
    /// Returns false when `deadline` (monotonic nanoseconds) passed first.
    public func waitUntilDelivered(deadline: UInt64) -> Bool {
        while MonotonicClock.now() < deadline {
            let done = state.withLock { state in
                if !state.closed { drain(&state) }
                return (state.closed || state.outgoing.isEmpty) && state.ends.isDelivered
            }
            if done { return true }
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
                pollfd(fd: closed ? -1 : taking, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wantsWrite && !closed ? giving : -1, events: Int16(POLLOUT), revents: 0),
            ]
            _ = poll(&descriptors, 3, -1)
            _ = wake.take()
            let isFirst = state.withLock { state in
                let wasEmpty = state.current.frames == 0
                drain(&state, takes: Self.takesAtOnce)
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

    /// Takes what there is, without waiting. Frames go into the current epoch, or straight on when nothing is held. Without `takes`
    /// that is everything: for when the guest stands still.
    private func drain(_ state: inout State, takes: Int = .max) {
        guard !state.closed, state.failure == nil else { return }
        withUnsafeTemporaryAllocation(byteCount: takenMax, alignment: 16) { buffer in
            var left = takes
            while left > 0, takeOnce(&state, by: buffer) { left -= 1 }
        }
    }

    /// False when there is nothing more.
    private func takeOnce(_ state: inout State, by buffer: UnsafeMutableRawBufferPointer) -> Bool {
        let isFirst = state.holding && state.current.bytes.isEmpty
        let taken =
            state.holding
            ? state.ends.take(into: &state.current.bytes, by: buffer)
            : state.ends.take(into: &state.outgoing, by: buffer)
        switch taken {
        case .nothing: return false
        case .closed:
            end(&state)
            return false
        case .nonsense(let problem):
            state.failure = .tornFrame(nic: nic, detail: problem)
            return false
        case .frames(let frames):
            if isFirst { state.current.firstAt = MonotonicClock.now() }
            if state.holding { state.current.frames += frames }
            return true
        }
    }

    private func end(_ state: inout State) {
        state.closed = true
        state.failure = state.failure ?? .closed(nic: nic)
    }

    /// Lets some of what may leave do so.
    private func write(_ state: inout State) {
        let (ends, end) = (state.ends, state.outgoingOffset + Self.bytesAtOnce)
        while state.outgoingOffset < min(end, state.outgoing.count), !state.closed {
            let offset = state.outgoingOffset
            let given = state.outgoing.withUnsafeBytes { ends.give(UnsafeRawBufferPointer(rebasing: $0[offset...])) }
            switch given {
            case .bytes(let count): state.outgoingOffset += count
            case .full: return
            case .closed: self.end(&state)
            }
        }
        guard state.outgoingOffset >= state.outgoing.count else { return }
        state.outgoing.removeAll(keepingCapacity: state.outgoing.capacity < 4 << 20)
        state.outgoingOffset = 0
    }
}
