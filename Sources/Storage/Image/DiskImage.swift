import CLinux
import Dispatch
import Glibc
import LinuxSystem
import Synchronization

/// How the bytes of a guest's disk lie in its image.
public enum ImageFormat: String, Sendable, Codable, CaseIterable {
    /// A regular file or a block device with the disk's bytes as they are.
    case raw
    /// QEMU's own format; opened by qemu-nbd.
    case qcow2
}

/// A standby's disk image, open for reading and writing by the agent alone.
///
/// It holds the locks that a running QEMU would hold on the image: opening fails with `inUse` while a QEMU writes it, and
/// a QEMU that wants to write it fails while it is open here. A standby QEMU in `-incoming` state does not count: it
/// holds no locks, and takes them, and reads a qcow2's metadata anew, when its disks are activated at the end of the
/// incoming migration (measured with QEMU 7.2; no `file.locking` option is needed). So `close` must have returned before
/// the last byte of the resume stream is sent. If it has not, `cont` fails with `Failed to get "write" lock`; with a raw
/// image it can be repeated after `close`, with a qcow2 that QEMU has old metadata from then on and must be started anew.
///
/// What was written here is seen by that QEMU without a flush, also with `cache=none`: the host has one page cache. Give
/// the standby's drives `file.drop-cache=off`: else QEMU's activation waits for all of it to be written out (20 ms per
/// 60 MiB here). Use by several threads at once is fine.
public final class DiskImage: Sendable {
    public let path: String
    public let format: ImageFormat
    /// The guest disk's size in bytes.
    public let size: UInt64

    private enum Store {
        case raw(RawImage)
        case exported(ExportedImage)
    }
    private let store: Store
    /// Of the file, for nothing but flushes: no lock is taken by it. A failed write is told to each open file once (errseq_t).
    private let file: OwnedDescriptor
    private let gate = OperationGate()
    private let flushFailure = Mutex<StorageError?>(nil)
    /// Nil where digests cannot be kept.
    private let table: Mutex<ChunkTable?>

    /// Opens and locks the image. `expectedSize` is what the guest's disk has, in bytes; nil takes any. Digests of it that are
    /// among `kept` need not be made again.
    public init(
        path: String, format: ImageFormat, expectedSize: UInt64?, kept: KeptDigests? = nil
    ) throws(StorageError) {
        switch format {
        case .raw:
            let raw = try RawImage(path: path)
            (store, size) = (.raw(raw), raw.size)
            let known = raw.identity.flatMap { identity in kept?.take(path, identity) }
            table = Mutex(known ?? ChunkTable(diskSize: raw.size))
        case .qcow2:
            let exported = try ExportedImage(path: path, format: format.rawValue)
            (store, size) = (.exported(exported), exported.size)
            table = Mutex(nil)
        }
        do throws(SystemError) {
            file = try OwnedDescriptor.open(path, O_RDONLY)
        } catch {
            throw .cannotOpen(path: path, reason: String(cString: strerror(error.errno)))
        }
        self.path = path
        self.format = format
        if let expectedSize, expectedSize != size {
            try? close()
            throw .wrongSize(path: path, bytes: size, expected: expectedSize)
        }
    }

    deinit { try? close() }

    /// The guest disk's size in bytes, from a look at an image that somebody else may have open; nil when it cannot be told.
    public static func size(of path: String, format: ImageFormat) -> UInt64? {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY) else { return nil }
        switch format {
        case .raw:
            let end = lseek(file.number, 0, SEEK_END)
            return end >= 0 ? UInt64(end) : nil
        case .qcow2:
            // docs/interop/qcow2.txt: the magic first, the size as be64 at byte 24.
            var header = [UInt8](repeating: 0, count: 32)
            guard pread(file.number, &header, header.count, 0) == header.count,
                header.starts(with: [0x51, 0x46, 0x49, 0xfb])
            else { return nil }
            return header[24...].reduce(0) { $0 << 8 | UInt64($1) }
        }
    }

    /// Fills `target` from `offset`.
    public func read(offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(StorageError) {
        guard offset <= size, UInt64(target.count) <= size - offset else {
            throw .outOfBounds(path: path, offset: offset, length: UInt64(target.count), size: size)
        }
        try use { () throws(StorageError) in
            switch store {
            case .raw(let image): try image.read(offset: offset, into: target)
            case .exported(let image): try image.read(offset: offset, into: target)
            }
        }
    }

    public func write(offset: UInt64, data: UnsafeRawBufferPointer) throws(StorageError) {
        try write([ImageWrite(offset: offset, length: UInt64(data.count), data: data.baseAddress)])
    }

    /// Makes the range read as zeros; `mayUnmap` gives its space back where the storage can.
    public func zero(offset: UInt64, length: UInt64, mayUnmap: Bool) throws(StorageError) {
        try write([ImageWrite(offset: offset, length: length, data: nil, mayUnmap: mayUnmap)])
    }

    /// Carries out changes with the outcome of one after the other. When it throws, any of them may be in the image.
    func write(_ writes: ArraySlice<ImageWrite>) throws(StorageError) {
        for write in writes {
            guard write.offset <= size, write.length <= size - write.offset else {
                throw .outOfBounds(path: path, offset: write.offset, length: write.length, size: size)
            }
        }
        // Before and after: a digest that is made meanwhile may be that of either.
        forget(writes)
        defer { forget(writes) }
        try use { () throws(StorageError) in
            try refuseAfterFailedFlush()
            switch store {
            case .raw(let image): for write in writes { try image.write(write) }
            case .exported(let image): try image.write(writes)
            }
        }
    }

    /// How many chunks' digests would be told without reading the image.
    public var knownDigests: Int { table.withLock { $0?.knownCount ?? 0 } }

    private func forget(_ writes: ArraySlice<ImageWrite>) {
        table.withLock { table in
            for write in writes { table?.forget(offset: write.offset, length: write.length) }
        }
    }

    /// Leaves the digests that are known now in `kept`, for the next time that the image is opened. Takes 20 ms: a later change
    /// must have a later time.
    public func keepDigests(in kept: KeptDigests) {
        guard case .raw(let image) = store, let table = table.withLock({ $0 }), table.knownCount > 0, gate.enter()
        else {
            return
        }
        defer { gate.leave() }
        usleep(20_000)
        if let identity = image.identity { kept.keep(table, of: path, identity) }
    }

    /// Returns when everything written before is on stable storage (fdatasync). A failure is final: the kernel forgets
    /// which pages it lost, so a repeated flush would claim success. Every later flush and write fails the same way.
    public func flush() throws(StorageError) {
        try use { () throws(StorageError) in
            try refuseAfterFailedFlush()
            try noteFailedFlush { () throws(StorageError) in
                switch store {
                case .raw(let image): try image.flush()
                case .exported(let image): try image.flush()
                }
            }
        }
    }

    /// Has the kernel write out what it gathered of the file, like `flush`, but by a descriptor of its own: neither writes nor
    /// `close` wait for it, however long the storage takes.
    public func writeOut() throws(StorageError) {
        try use { () throws(StorageError) in try refuseAfterFailedFlush() }
        try noteFailedFlush { () throws(StorageError) in
            let result = rml_sync_data(file.number)
            guard result < 0 else { return }
            throw .failed(path: path, operation: "write out", reason: String(cString: strerror(-result)))
        }
    }

    /// Rises with what is written: while it does, a long write is under way and does not hang.
    public var progress: UInt64 {
        switch store {
        case .raw(let image): image.progress.load(ordering: .relaxed)
        case .exported(let image): image.progress
        }
    }

    private func noteFailedFlush(_ flush: () throws(StorageError) -> Void) throws(StorageError) {
        do throws(StorageError) {
            try flush()
        } catch {
            let failure = StorageError.flushFailed(path: path, reason: error.description)
            flushFailure.withLock { $0 = failure }
            throw failure
        }
    }

    /// Returns when everything that this host wrote to the image at `path`, which is closed, is on stable storage (fdatasync).
    public static func makeDurable(_ path: String) throws(StorageError) {
        do throws(SystemError) {
            let file = try OwnedDescriptor.open(path, O_RDONLY)
            let result = rml_sync_data(file.number)
            try file.close()
            guard result == 0 else { throw SystemError(operation: "fdatasync", errno: -result, subject: path) }
        } catch {
            throw .flushFailed(path: path, reason: String(cString: strerror(error.errno)))
        }
    }

    /// `ChunkDigest`s of up to `count` chunks from `firstChunk` on, 16 bytes each; fewer when the disk ends before.
    public func digests(firstChunk: UInt64, count: Int) throws(StorageError) -> [UInt8] {
        let chunks = ChunkDigest.chunks(diskSize: size)
        guard count >= 0, firstChunk <= chunks else {
            throw .outOfBounds(
                path: path,
                offset: firstChunk.multipliedReportingOverflow(by: UInt64(ChunkDigest.chunkSize)).partialValue,
                length: 0, size: size)
        }
        let wanted = Int(min(UInt64(count), chunks - firstChunk))
        let workers = max(1, min(Self.digestWorkersMax, sysconf(Int32(_SC_NPROCESSORS_ONLN)), wanted / 64))
        let failure = Mutex<StorageError?>(nil)
        let digests = [UInt8](unsafeUninitializedCapacity: wanted * ChunkDigest.size) { digests, length in
            // SAFETY: the workers write to parts that do not meet, and have ended when this returns.
            nonisolated(unsafe) let target = UnsafeMutableRawBufferPointer(digests)
            DispatchQueue.concurrentPerform(iterations: workers) { worker in
                let part = wanted * worker / workers..<wanted * (worker + 1) / workers
                do throws(StorageError) {
                    try makeDigests(
                        firstChunk: firstChunk + UInt64(part.lowerBound), count: part.count,
                        into: UnsafeMutableRawBufferPointer(rebasing: target[(part.lowerBound * ChunkDigest.size)...]))
                } catch {
                    failure.withLock { $0 = error }
                }
            }
            length = wanted * ChunkDigest.size
        }
        if let failure = failure.withLock({ $0 }) { throw failure }
        return digests
    }

    /// Cores that one host takes at most for digests: the guests need them too.
    private static let digestWorkersMax = 4

    private func makeDigests(
        firstChunk: UInt64, count: Int, into digests: UnsafeMutableRawBufferPointer
    ) throws(StorageError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: ChunkDigest.chunkSize, alignment: 4096)
        defer { buffer.deallocate() }
        var nextData: UInt64 = 0
        for index in 0..<count {
            let offset = (firstChunk + UInt64(index)) * UInt64(ChunkDigest.chunkSize)
            let length = Int(min(UInt64(ChunkDigest.chunkSize), size - offset))
            if case .raw(let image) = store, nextData <= offset {
                try use { () throws(StorageError) in nextData = image.nextData(from: offset) }
            }
            let (number, digest) = (
                Int(firstChunk) + index,
                UnsafeMutableRawBufferPointer(rebasing: digests[(index * ChunkDigest.size)...])
            )
            let changes = table.withLock { table -> Int? in
                table?.copy(number, into: digest) == true ? nil : table?.changes ?? 0
            }
            guard let changes else { continue }
            let chunk = UnsafeMutableRawBufferPointer(rebasing: buffer[..<length])
            if nextData >= offset + UInt64(length) {
                chunk.initializeMemory(as: UInt8.self, repeating: 0)
            } else {
                try read(offset: offset, into: chunk)
            }
            ChunkDigest.make(of: UnsafeRawBufferPointer(chunk), into: digest)
            table.withLock { $0?.note(number, UnsafeRawBufferPointer(digest), changes: changes) }
        }
    }

    /// Waits for operations under way, then gives the image and its locks back; for qcow2 the metadata is flushed and
    /// qemu-nbd has ended when this returns. A raw image is not flushed: on this host everybody sees what was written.
    /// Idempotent; every later use fails with `closed`.
    public func close() throws(StorageError) {
        guard gate.close() else { return }
        switch store {
        case .raw(let image): try image.close()
        case .exported(let image): try image.close()
        }
    }

    // MARK: -

    private func use(_ body: () throws(StorageError) -> Void) throws(StorageError) {
        guard gate.enter() else { throw .closed(path: path) }
        defer { gate.leave() }
        try body()
    }

    private func refuseAfterFailedFlush() throws(StorageError) {
        if let failure = flushFailure.withLock({ $0 }) { throw failure }
    }
}
