import Glibc
import LinuxSystem

/// The way by which QEMU hands over its device state at each checkpoint: a file in memory that QEMU got once as a
/// descriptor set, so that no path, user id or mount namespace stands between.
///
/// QEMU writes through a copy of `writer` and so shares its offset: the offset is set to 0 before a save and tells the
/// length after it. Descriptor sets must be open for writing only, as that is how QEMU opens the file.
public struct DeviceStateCapture: ~Copyable {
    static let mark = "romulus-state"

    private let memory: OwnedDescriptor
    private let writer: OwnedDescriptor
    private let set: Int64
    /// Saves the state of a stopped guest; `rewind` comes before.
    ///
    /// With `live: true` QEMU would stop the guest and give up its disks by itself; with false it does neither.
    public let save: QMPCommand

    public static let stop = QMPCommand("stop")
    public static let resume = QMPCommand("cont")
    /// Its answer is read with `MemorySize`.
    public static let memorySize = QMPCommand("query-memory-size-summary")

    private init(memory: consuming OwnedDescriptor, writer: consuming OwnedDescriptor, set: Int64) {
        self.memory = memory
        self.writer = writer
        self.set = set
        save = QMPCommand("xen-save-devices-state", ["filename": .string("/dev/fdset/\(set)"), "live": false])
    }

    /// Gives QEMU the file. `remove` takes it away again.
    public static func install(_ monitor: QMPConnection) throws(DeviceError) -> DeviceStateCapture {
        let memory = try DeviceError.folding { () throws(SystemError) in try Files.memory(named: mark) }
        let writer = try DeviceError.folding { () throws(SystemError) in try memory.reopen(O_WRONLY) }
        let set: Int64
        do throws(QMPError) {
            let answer = try monitor.execute("add-fd", ["opaque": .string(mark)], descriptors: [writer.number])
            guard let number = answer["fdset-id"]?.int64 else {
                throw QMPError(path: monitor.path, reason: .malformed("add-fd gave no descriptor set"))
            }
            set = number
        } catch {
            throw DeviceError(error)
        }
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

    /// Takes the descriptor set away from QEMU. While the guest is stopped, QEMU only notes it and closes the file when
    /// it next looks after its sets with the guest running: at the next such command, or when a monitor client leaves.
    public borrowing func remove(_ monitor: QMPConnection) throws(DeviceError) {
        do throws(QMPError) {
            try monitor.execute("remove-fd", ["fdset-id": .integer(set)])
        } catch {
            throw DeviceError(error)
        }
    }

    /// Takes away what an agent left that ended without `remove`.
    static func removeLeftovers(_ monitor: QMPConnection) throws(QMPError) -> [String] {
        var removed: [String] = []
        for set in try monitor.execute("query-fdsets").array ?? [] {
            guard let id = set["fdset-id"]?.int64,
                (set["fds"]?.array ?? []).contains(where: { $0["opaque"]?.string == mark })
            else { continue }
            try monitor.execute("remove-fd", ["fdset-id": .integer(id)])
            removed.append("descriptor set \(id)")
        }
        return removed
    }
}
