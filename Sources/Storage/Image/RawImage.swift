import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// A raw image: a regular file or a block device. Its caller sees to bounds and to closing.
final class RawImage: Sendable {
    let path: String
    let size: UInt64
    private let number: Int32
    private let file: Mutex<OwnedDescriptor?>
    /// What the file system or device said it cannot do is not asked for again.
    private let canPunch = Atomic(true)
    private let canZeroRange = Atomic(true)

    /// Counts what was written.
    let progress = Atomic<UInt64>(0)

    private static let zeros = [UInt8](repeating: 0, count: 1 << 20)

    /// - Parameter isLocked: false when `lock` follows.
    init(path: String, isLocked: Bool = true) throws(StorageError) {
        let file: OwnedDescriptor
        do throws(SystemError) {
            file = try OwnedDescriptor.open(path, O_RDWR)
        } catch {
            throw .cannotOpen(path: path, reason: String(cString: strerror(error.errno)))
        }
        var status = stat()
        guard fstat(file.number, &status) == 0 else {
            throw .cannotOpen(path: path, reason: String(cString: strerror(errno)))
        }
        let kind = status.st_mode & S_IFMT
        guard kind == S_IFREG || kind == S_IFBLK else {
            throw .cannotOpen(path: path, reason: "it is neither a regular file nor a block device")
        }
        if isLocked, !(try ImageLock.take(file, path: path)) { throw .inUse(path: path) }
        let end = rml_end(file.number)
        guard end >= 0 else { throw .cannotOpen(path: path, reason: String(cString: strerror(Int32(-end)))) }
        self.path = path
        size = UInt64(end)
        number = file.number
        self.file = Mutex(file)
    }

    /// Nil where it cannot be told whether the image was written; only while it is open.
    var identity: KeptDigests.Identity? { KeptDigests.Identity(of: number) }

    /// What a QEMU with a writable image takes.
    func lock() throws(StorageError) {
        let isTaken = try file.withLock { (file) throws(StorageError) -> Bool in
            switch file {
            case .some(let file): return try ImageLock.take(file, path: path)
            case nil: throw .closed(path: path)
            }
        }
        if !isTaken { throw .inUse(path: path) }
    }

    func unlock() { _ = rml_unlock(number) }

    /// True when all of it lay in memory; else nothing is known of `target`.
    func readNow(offset: UInt64, into target: UnsafeMutableRawBufferPointer) -> Bool {
        rml_pread_now(number, target.baseAddress, target.count, off_t(offset)) == target.count
    }

    /// What was read or written of it before is not answered from memory any more, but by the device.
    func forgetCached() { rml_forget_cached(number) }

    /// In bytes, at present.
    var sizeNow: UInt64? {
        var status = stat()
        guard fstat(number, &status) == 0 else { return nil }
        return status.st_mode & S_IFMT == S_IFREG ? UInt64(status.st_size) : size
    }

    /// Gives the locks back with it.
    func close() throws(StorageError) {
        guard let file = file.withLock({ $0.take() }) else { return }
        ImageLock.release(file)
        do throws(SystemError) {
            try file.close()
        } catch {
            throw .failed(path: path, operation: "close", reason: String(cString: strerror(error.errno)))
        }
    }

    func read(offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(StorageError) {
        var done = 0
        while done < target.count {
            let got = rml_pread(number, target.baseAddress! + done, target.count - done, off_t(offset) + done)
            if got == -Int(EINTR) { continue }
            if got < 0 { throw failure("read \(target.count) bytes at \(offset) of", Int32(-got)) }
            if got == 0 {
                throw .failed(
                    path: path, operation: "read \(target.count) bytes at \(offset) of", reason: "it became shorter")
            }
            done += got
        }
    }

    func write(_ write: ImageWrite) throws(StorageError) {
        if let data = write.data {
            try self.write(offset: write.offset, UnsafeRawBufferPointer(start: data, count: Int(write.length)))
        } else if write.length > 0 {
            try zero(offset: write.offset, length: write.length, mayUnmap: write.mayUnmap)
        }
        progress.add(1, ordering: .relaxed)
    }

    private func write(offset: UInt64, _ data: UnsafeRawBufferPointer) throws(StorageError) {
        var done = 0
        while done < data.count {
            let put = rml_pwrite(number, data.baseAddress! + done, data.count - done, off_t(offset) + done)
            if put == -Int(EINTR) { continue }
            if put < 0 { throw writeFailure(offset, UInt64(data.count), Int32(-put)) }
            done += put
        }
    }

    private func zero(offset: UInt64, length: UInt64, mayUnmap: Bool) throws(StorageError) {
        if mayUnmap, try zero(offset, length, ability: canPunch, rml_punch_hole) { return }
        if try zero(offset, length, ability: canZeroRange, rml_zero_range) { return }
        var done: UInt64 = 0
        while done < length {
            let part = Int(min(UInt64(Self.zeros.count), length - done))
            try Self.zeros.withUnsafeBufferPointer { (zeros) throws(StorageError) in
                try write(offset: offset + done, UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: zeros[..<part])))
            }
            done += UInt64(part)
        }
    }

    private func zero(
        _ offset: UInt64, _ length: UInt64, ability: borrowing Atomic<Bool>, _ call: (Int32, off_t, off_t) -> Int32
    ) throws(StorageError) -> Bool {
        guard ability.load(ordering: .relaxed) else { return false }
        while true {
            let result = call(number, off_t(offset), off_t(length))
            switch -result {
            case 0: return true
            case EINTR: continue
            case EOPNOTSUPP, ENOSYS, ENODEV:
                ability.store(false, ordering: .relaxed)
                return false
            case EINVAL: return false  // Not in whole blocks of the device.
            default: throw writeFailure(offset, length, -result)
            }
        }
    }

    func flush() throws(StorageError) {
        let result = rml_sync_data(number)
        if result < 0 { throw failure("flush", -result) }
    }

    /// Where the next bytes that may be other than zero start at or after `offset`; `size` when there are none.
    func nextData(from offset: UInt64) -> UInt64 {
        let next = rml_next_data(number, off_t(offset))
        if next >= 0 { return UInt64(next) }
        return next == -off_t(ENXIO) ? size : offset
    }

    private func failure(_ operation: String, _ number: Int32) -> StorageError {
        .failed(path: path, operation: operation, reason: String(cString: strerror(number)))
    }

    private func writeFailure(_ offset: UInt64, _ length: UInt64, _ number: Int32) -> StorageError {
        if number == ENOSPC || number == EDQUOT { return .outOfSpace(path: path, offset: offset, bytes: length) }
        return failure("write \(length) bytes at \(offset) of", number)
    }
}
