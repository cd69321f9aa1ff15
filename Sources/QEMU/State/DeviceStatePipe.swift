import Glibc
import LinuxSystem

/// The way by which QEMU hands over its device state in one command, with the guest standing still for as long as this
/// side wants: a pipe that is too small for the state.
///
/// `xen-save-devices-state` stops a guest that runs, saves its devices and lets it run on (migration/savevm.c,
/// `qmp_xen_save_devices_state`), which drains the disks once instead of twice and wakes QEMU once instead of three times.
/// Writing into a full pipe QEMU waits, and the guest with it; `release` makes room for all the rest at once. When this
/// side ends, the pipe breaks and QEMU lets the guest run on by itself.
///
/// QEMU opens the pipe by `/proc/self/fd`, as it would shorten a file of a descriptor set, which a pipe refuses
/// (util/osdep.c, `qemu_dup_flags`).
public struct DeviceStatePipe: ~Copyable {
    /// Room for what QEMU still writes once it is released, in bytes; the most that a pipe gets without privileges.
    private static let wide = 1 << 20

    private let reader: OwnedDescriptor
    private let set: DescriptorSet
    /// Saves the state of a guest that runs, once `narrow` has made the pipe small.
    public let save: QMPCommand
    /// What the pipe takes until QEMU has to wait, in bytes.
    private var capacity = 0

    private init(reader: consuming OwnedDescriptor, set: DescriptorSet) {
        self.reader = reader
        self.set = set
        save = QMPCommand(
            "xen-save-devices-state", ["filename": .string("/proc/self/fd/\(set.number)"), "live": false])
    }

    /// Gives QEMU the pipe's end for writing. `remove` takes it away again.
    public static func install(_ monitor: QMPConnection) throws(DeviceError) -> DeviceStatePipe {
        let pair = try DeviceError.folding(DescriptorPair.pipe)
        return try pair.split { (reader, writer) throws(DeviceError) in
            try DeviceError.folding { () throws(SystemError) in
                try reader.setNonBlocking(true)
                // QEMU often has a user of its own. Only who holds an end can reach the pipe at all.
                try writer.changeMode(to: 0o666)
            }
            let set = try DescriptorSet(writer.number, monitor)
            return DeviceStatePipe(reader: reader, set: set)
        }
    }

    /// For `poll`: readable once QEMU has written the first part of a state.
    public var pollDescriptor: Int32 { reader.number }

    /// Empties the pipe and makes it too small for a state of about `size` bytes; false when a state is so short that the
    /// smallest pipe may hold it whole, or so long that the widest may not.
    public mutating func narrow(for size: Int) throws(SystemError) -> Bool {
        guard size >= 3 * trackedPageSize, size <= Self.wide / 2 else { return false }
        var leftover: [UInt8] = []
        try read(into: &leftover)
        // The largest power of two that leaves at least a page of such a state outside: QEMU writes in parts of 32 KiB
        // (migration/qemu-file.c), so all or nearly all is serialised by the time it waits.
        let most = size - trackedPageSize
        capacity = try reader.resizePipe(to: 1 << (Int.bitWidth - 1 - most.leadingZeroBitCount))
        return true
    }

    /// True once QEMU has begun to write.
    public func isBegun() throws(SystemError) -> Bool { try reader.pipedBytes() > 0 }

    /// True while QEMU waits for room, and the guest stands still.
    public func isFull() throws(SystemError) -> Bool { try reader.pipedBytes() >= capacity }

    /// Lets QEMU write the rest, which lets the guest run on.
    public func release() throws(SystemError) { _ = try reader.resizePipe(to: Self.wide) }

    /// Appends what QEMU has written so far to `state`.
    public func read(into state: inout [UInt8]) throws(SystemError) {
        while true {
            let count = try reader.pipedBytes()
            if count == 0 { return }
            let start = state.count
            state.append(contentsOf: repeatElement(0, count: count))
            // There is as much, and nobody else reads.
            _ = try state.withUnsafeMutableBufferPointer { (bytes) throws(SystemError) in
                try reader.readAll(
                    into: UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: bytes[start...])))
            }
        }
    }

    /// Whether QEMU waited while it wrote a state of `size` bytes: one that fitted into the pipe did not hold it.
    public func held(_ size: Int) -> Bool { size > capacity }

    /// Takes the pipe away from QEMU again.
    public borrowing func remove(_ monitor: QMPConnection) throws(DeviceError) { try set.remove(monitor) }
}
