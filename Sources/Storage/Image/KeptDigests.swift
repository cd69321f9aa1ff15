import Glibc
import Synchronization

/// Digests of disk images that were made before, for images that have not changed since: a standby that becomes one again need
/// not read its images again. In memory: 16 bytes for each 64 KiB of disk.
public final class KeptDigests: Sendable {
    /// What changes when a file is written, by anybody.
    struct Identity: Equatable {
        var device: UInt64
        var inode: UInt64
        var size: Int64
        var modified: [Int]

        /// Nil for what is no regular file: a block device does not tell when it was written.
        init?(of descriptor: Int32) {
            var status = stat()
            guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
            device = UInt64(status.st_dev)
            inode = UInt64(status.st_ino)
            size = Int64(status.st_size)
            modified = [
                status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec,
            ]
        }

        /// It may have been written since.
        func isSameFile(as other: Identity?) -> Bool { device == other?.device && inode == other?.inode }
    }

    private let entries = Mutex<[String: (identity: Identity, table: ChunkTable)]>([:])

    public init() {}

    /// Gives the table out, once.
    func take(_ path: String, _ identity: Identity) -> ChunkTable? {
        guard let entry = entries.withLock({ $0.removeValue(forKey: path) }), entry.identity == identity else {
            return nil
        }
        return entry.table
    }

    func keep(_ table: ChunkTable, of path: String, _ identity: Identity) {
        entries.withLock { $0[path] = (identity, table) }
    }
}

/// The digests of an image's chunks as far as they are known.
struct ChunkTable: Sendable {
    /// Grows with every change of the image: a digest counts only if none came while it was made.
    private(set) var changes = 0
    private var digests: [UInt8]
    private var isKnown: [Bool]

    init(diskSize: UInt64) {
        let chunks = Int(ChunkDigest.chunks(diskSize: diskSize))
        digests = [UInt8](repeating: 0, count: chunks * ChunkDigest.size)
        isKnown = [Bool](repeating: false, count: chunks)
    }

    var knownCount: Int { isKnown.count { $0 } }

    /// False where it is not known; then `target` stays as it is.
    func copy(_ chunk: Int, into target: UnsafeMutableRawBufferPointer) -> Bool {
        guard isKnown[chunk] else { return false }
        digests.withUnsafeBytes {
            target.copyMemory(
                from: UnsafeRawBufferPointer(rebasing: $0[chunk * ChunkDigest.size..<(chunk + 1) * ChunkDigest.size]))
        }
        return true
    }

    /// Notes the digest of a chunk that was read when there had been `changes` changes.
    mutating func note(_ chunk: Int, _ digest: UnsafeRawBufferPointer, changes: Int) {
        guard changes == self.changes else { return }
        digests.replaceSubrange(
            chunk * ChunkDigest.size..<(chunk + 1) * ChunkDigest.size, with: digest.prefix(ChunkDigest.size))
        isKnown[chunk] = true
    }

    /// The range is being written.
    mutating func forget(offset: UInt64, length: UInt64) {
        changes += 1
        guard length > 0 else { return }
        let size = UInt64(ChunkDigest.chunkSize)
        for chunk in Int(offset / size)...Int((offset + length - 1) / size) { isKnown[chunk] = false }
    }
}
