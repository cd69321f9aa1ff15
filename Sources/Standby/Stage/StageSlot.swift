import Glibc
import LinuxSystem
import Model

/// One epoch's frames at the standby, held whole in a file of the memory directory until they are applied.
///
/// A file in tmpfs, not private memory, because it must outlive the agent: an agent that is killed in the middle of an
/// apply finds the complete slots again and applies them once more. A page of header precedes the frames:
///
///     0 magic u64 · 8 state u32 (0 free, 1 filling, 2 complete) · 12 frames u32 · 16 epoch u64 · 24 length u64
///
/// The state is written last when a slot becomes complete, and first when it becomes free; the order in which one
/// process stores is the order in which its successor finds it.
package final class StageSlot {
    package enum Condition: UInt32 {
        case free = 0
        case filling = 1
        case complete = 2
    }

    package static let headerSize = 4096
    private static let magic: UInt64 = 0x3130_544f_4c53_4d52  // "RMSLOT01"
    /// What a file grows by, in bytes.
    static let growth = 4 << 20
    /// What a slot keeps reserved while it is free, in bytes.
    private static let keptWhenFree = 16 << 20

    package let path: String
    /// The most that the frames of one epoch may take, in bytes.
    package let capacity: Int
    private let descriptor: Int32
    private let base: UnsafeMutableRawPointer
    private var reserved = 0

    /// Creates the file, or opens it as it was left when `recovering`.
    package init(path: String, capacity: Int, recovering: Bool = false) throws(SystemError) {
        self.path = path
        self.capacity = (capacity + Self.growth - 1) / Self.growth * Self.growth
        let flags = O_RDWR | O_CLOEXEC | (recovering ? 0 : O_CREAT | O_EXCL)
        descriptor = open(path, flags, 0o600)
        guard descriptor >= 0 else { throw SystemError(operation: "open", errno: errno, subject: path) }
        // The mapping reaches beyond the file's end; `reserve` lets the file grow before anything is stored there.
        guard
            let mapped = mmap(
                nil, Self.headerSize + self.capacity, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, descriptor, 0),
            mapped != MAP_FAILED
        else {
            let code = errno
            _ = close(descriptor)
            throw SystemError(operation: "mmap", errno: code, subject: path)
        }
        base = mapped
        if recovering {
            var status = stat()
            guard fstat(descriptor, &status) == 0, status.st_size >= Self.headerSize else {
                throw SystemError(operation: "fstat", errno: EINVAL, subject: path)
            }
            reserved = Int(status.st_size) - Self.headerSize
        } else {
            try reserve(Self.growth)
            base.storeBytes(of: Self.magic, as: UInt64.self)
        }
    }

    deinit {
        _ = munmap(base, Self.headerSize + capacity)
        _ = close(descriptor)
    }

    package var condition: Condition {
        guard base.load(as: UInt64.self) == Self.magic else { return .free }
        return Condition(rawValue: base.load(fromByteOffset: 8, as: UInt32.self)) ?? .free
    }
    package var frames: UInt32 { base.load(fromByteOffset: 12, as: UInt32.self) }
    package var epoch: Epoch { Epoch(base.load(fromByteOffset: 16, as: UInt64.self)) }
    package var length: Int { min(Int(clamping: base.load(fromByteOffset: 24, as: UInt64.self)), reserved) }

    /// The frames as they came: header, body, header, body.
    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + Self.headerSize, count: length) }

    package func begin(_ epoch: Epoch) {
        base.storeBytes(of: 0, toByteOffset: 12, as: UInt32.self)
        base.storeBytes(of: epoch.number, toByteOffset: 16, as: UInt64.self)
        base.storeBytes(of: 0, toByteOffset: 24, as: UInt64.self)
        base.storeBytes(of: Condition.filling.rawValue, toByteOffset: 8, as: UInt32.self)
    }

    /// Stores one frame and returns where its body lies; it stays there until `free()`.
    package func append(
        header: UnsafeRawBufferPointer, body: UnsafeRawBufferPointer
    ) throws(SystemError) -> UnsafeRawBufferPointer {
        let start = length
        try reserve(start + header.count + body.count)
        let target = base + Self.headerSize + start
        target.copyMemory(from: header.baseAddress!, byteCount: header.count)
        if let source = body.baseAddress { (target + header.count).copyMemory(from: source, byteCount: body.count) }
        base.storeBytes(of: frames + 1, toByteOffset: 12, as: UInt32.self)
        base.storeBytes(of: UInt64(start + header.count + body.count), toByteOffset: 24, as: UInt64.self)
        return UnsafeRawBufferPointer(start: target + header.count, count: body.count)
    }

    package func complete() { base.storeBytes(of: Condition.complete.rawValue, toByteOffset: 8, as: UInt32.self) }

    package func free() {
        base.storeBytes(of: Condition.free.rawValue, toByteOffset: 8, as: UInt32.self)
        shrink(to: Self.keptWhenFree)
    }

    /// Gives back what a free slot keeps for the next epoch.
    package func giveRoom() { shrink(to: Self.growth) }

    private func shrink(to size: Int) {
        if reserved > size, ftruncate(descriptor, off_t(Self.headerSize + size)) == 0 { reserved = size }
    }

    private func reserve(_ wanted: Int) throws(SystemError) {
        guard wanted > reserved else { return }
        guard wanted <= capacity else {
            throw SystemError(operation: "stage an epoch of more than \(capacity) bytes", errno: EFBIG, subject: path)
        }
        let size = (wanted + Self.growth - 1) / Self.growth * Self.growth
        // posix_fallocate answers with the error itself; storing into a hole of a full tmpfs would be a SIGBUS.
        let code = posix_fallocate(descriptor, 0, off_t(Self.headerSize + size))
        guard code == 0 else { throw SystemError(operation: "reserve \(size) bytes", errno: code, subject: path) }
        reserved = size
    }
}
