import Glibc
import LinuxSystem

/// The way by which QEMU hands over its device state at each checkpoint: a file in memory that QEMU got once as a
/// descriptor set, so that no path, user id or mount namespace stands between.
///
/// QEMU writes through a copy of `writer` and so shares its offset: the offset is set to 0 before a save and tells the
/// length after it.
public struct DeviceStateCapture: ~Copyable {
    private let memory: OwnedDescriptor
    private let writer: OwnedDescriptor
    private let set: DescriptorSet
    /// Saves the state of a stopped guest; `rewind` comes before.
    ///
    /// With `live: true` QEMU would stop the guest and give up its disks by itself; with false it does neither.
    public let save: QMPCommand

    public static let stop = QMPCommand("stop")
    public static let resume = QMPCommand("cont")
    /// Its answer is read with `MemorySize`.
    public static let memorySize = QMPCommand("query-memory-size-summary")

    private init(memory: consuming OwnedDescriptor, writer: consuming OwnedDescriptor, set: DescriptorSet) {
        self.memory = memory
        self.writer = writer
        self.set = set
        save = QMPCommand("xen-save-devices-state", ["filename": .string("/dev/fdset/\(set.id)"), "live": false])
    }

    /// Gives QEMU the file. `remove` takes it away again.
    public static func install(_ monitor: QMPConnection) throws(DeviceError) -> DeviceStateCapture {
        let memory = try DeviceError.folding { () throws(SystemError) in try Files.memory(named: "romulus-state") }
        let writer = try DeviceError.folding { () throws(SystemError) in try memory.reopen(O_WRONLY) }
        let set = try DescriptorSet(writer.number, monitor)
        return DeviceStateCapture(memory: memory, writer: writer, set: set)
    }

    /// Prepares for the next `save`.
    public borrowing func rewind() throws(SystemError) {
        try writer.seek(to: 0)
    }

    /// What the last `save` wrote, in bytes.
    public borrowing func length() -> Int {
        max(0, Int(lseek(writer.number, 0, SEEK_CUR)))
    }

    /// Copies the last state to the beginning of `buffer`, which must have room for `length()` bytes; returns the length.
    public borrowing func read(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
        let length = length()
        precondition(buffer.count >= length)
        guard try memory.readAll(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<length]), at: 0) else {
            throw SystemError(operation: "read", errno: EIO, subject: "QEMU's device state")
        }
        return length
    }

    /// Takes the file away from QEMU again.
    public borrowing func remove(_ monitor: QMPConnection) throws(DeviceError) { try set.remove(monitor) }
}
