import LinuxSystem

/// One checkpoint after the other by a single command each: QEMU stops the guest, saves its devices into a pipe that holds
/// it there, and lets the guest run on once it is released. See `DeviceStatePipe`.
final class SingleCommandSave {
    private let monitor: QMPConnection
    private var pipe: DeviceStatePipe
    private var poller = Poller(capacity: 2)
    /// The save, then the question for the memory's size, which QEMU gets to once the guest runs again.
    private var ids: Range<UInt64> = 0..<0

    /// Between two looks while QEMU fills the pipe, in nanoseconds: it takes some 100 us from the first byte until it has to
    /// wait.
    private static let glance: UInt64 = 20_000
    /// Otherwise the monitor or the pipe wakes us.
    private static let patience: UInt64 = 100_000_000

    init(_ monitor: QMPConnection) throws(DeviceError) {
        self.monitor = monitor
        pipe = try DeviceStatePipe.install(monitor)
        _ = poller.add(monitor.descriptor)
        _ = poller.add(pipe.pollDescriptor)
    }

    /// Makes ready for a state of about `size` bytes; false when one so short cannot be held.
    func prepare(for size: Int) throws(SystemError) -> Bool { try pipe.narrow(for: size) }

    func send() throws(QMPError) { ids = try monitor.send([pipe.save, DeviceStateCapture.memorySize]) }

    /// True when the command is over, whatever became of it, of what was received so far.
    var isAnswered: Bool { monitor.isAnswered(ids.lowerBound) }

    /// Waits until QEMU says something or writes; returns false, at once, when it waits for its release.
    func waitUnlessHolding() throws(SystemError) -> Bool {
        if try pipe.isFull() { return false }
        // What has begun to come is no news any more.
        let begun = try pipe.isBegun()
        poller.watch(1, reading: !begun, writing: false)
        _ = try poller.wait(timeout: begun ? Self.glance : Self.patience)
        return true
    }

    /// Waits until QEMU says something or writes; returns false, at once, when it has begun to write.
    func waitUnlessWriting() throws(SystemError) -> Bool {
        if try pipe.isBegun() { return false }
        poller.watch(1, reading: true, writing: false)
        _ = try poller.wait(timeout: Self.patience)
        return true
    }

    func release() throws(SystemError) { try pipe.release() }

    /// Waits until the guest runs again.
    func awaitEnd(_ timeout: Duration) throws(QMPError) { try monitor.awaitReply(ids.lowerBound, timeout: timeout) }

    /// After a command that was answered without a release: throws why, if it failed.
    func awaitAnswers(_ timeout: Duration) throws(QMPError) {
        _ = try monitor.awaitReplies(ids, timeout: timeout)
    }

    /// The state that was saved, after `awaitEnd`.
    func takeState() throws(SystemError) -> [UInt8] {
        var state: [UInt8] = []
        try pipe.read(into: &state)
        return state
    }

    /// QEMU's answer about the memory's size, for `MemorySize`.
    func memorySize(_ timeout: Duration) throws(QMPError) -> JSONValue {
        try monitor.awaitValue(ids.upperBound - 1, timeout: timeout)
    }

    /// Whether the pipe was too small for a state of `size` bytes, so that QEMU did wait.
    func held(_ size: Int) -> Bool { pipe.held(size) }

    func remove() throws(DeviceError) { try pipe.remove(monitor) }
}
