import Glibc
import LinuxSystem
import Model

/// The device state of the last applied checkpoint, in the memory directory, so that it outlives the agent.
///
/// Two places are written in turn, each with its epoch last: a reader takes the newest that is whole, so a write that
/// was cut short leaves the one before.
///
///     place: epoch u64 (0: empty) · length u64 · bytes
package final class DeviceStateFile {
    /// Far above what QEMU's devices write (15 to 150 KB were seen), far below what would hurt.
    package static let lengthMax = 16 << 20
    private static let placeSize = lengthMax + 4096
    private let base: UnsafeMutableRawPointer
    private let descriptor: Int32
    private var turn: Int

    package init(path: String) throws(SystemError) {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SystemError(operation: "open", errno: errno, subject: path) }
        self.descriptor = descriptor
        guard ftruncate(descriptor, off_t(2 * Self.placeSize)) == 0,
            let mapped = mmap(nil, 2 * Self.placeSize, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0),
            mapped != MAP_FAILED
        else {
            let code = errno
            close(descriptor)
            throw SystemError(operation: "map", errno: code, subject: path)
        }
        base = mapped
        // The older place is written first.
        turn = mapped.load(as: UInt64.self) <= (mapped + Self.placeSize).load(as: UInt64.self) ? 0 : 1
    }

    deinit {
        munmap(base, 2 * Self.placeSize)
        close(descriptor)
    }

    package func store(_ epoch: Epoch, _ deviceState: [UInt8]) throws(SystemError) {
        guard deviceState.count <= Self.lengthMax else {
            throw SystemError(
                operation: "keep \(deviceState.count) bytes of device state", errno: EFBIG, subject: "a replica")
        }
        let offset = turn * Self.placeSize
        let code = posix_fallocate(descriptor, off_t(offset), off_t(16 + deviceState.count))
        guard code == 0 else { throw SystemError(operation: "keep device state", errno: code, subject: "a replica") }
        let place = base + offset
        place.storeBytes(of: 0, as: UInt64.self)
        place.storeBytes(of: UInt64(deviceState.count), toByteOffset: 8, as: UInt64.self)
        deviceState.withUnsafeBytes { (place + 16).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        place.storeBytes(of: epoch.number, as: UInt64.self)
        turn = 1 - turn
    }

    /// The newest state that is whole, or the newest of an epoch before `limit`.
    package func load(before limit: Epoch = Epoch(.max)) -> (epoch: Epoch, deviceState: [UInt8])? {
        let places = (0..<2).map { base + $0 * Self.placeSize }.filter { place in
            (1..<limit.number).contains(place.load(as: UInt64.self))
        }
        guard let newest = places.max(by: { $0.load(as: UInt64.self) < $1.load(as: UInt64.self) }) else { return nil }
        let length = newest.load(fromByteOffset: 8, as: UInt64.self)
        guard length <= UInt64(Self.lengthMax) else { return nil }
        return (
            Epoch(newest.load(as: UInt64.self)),
            Array(UnsafeRawBufferPointer(start: newest + 16, count: Int(length)))
        )
    }
}
