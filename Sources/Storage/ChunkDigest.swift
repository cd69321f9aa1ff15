import Crypto
import Glibc

/// Digests by which the two sides of a first copy find out which parts of a disk are equal already.
///
/// The first 16 bytes of SHA-256: equal digests are taken for equal contents and the chunk is not sent, so a guest that
/// writes what it likes must not be able to make two contents collide.
public enum ChunkDigest {
    /// In bytes; the disk's last chunk may be shorter.
    public static let chunkSize = 64 << 10
    /// In bytes.
    public static let size = 16

    /// How many chunks a disk of `diskSize` bytes has.
    public static func chunks(diskSize: UInt64) -> UInt64 {
        diskSize / UInt64(chunkSize) + (diskSize % UInt64(chunkSize) == 0 ? 0 : 1)
    }

    /// Writes the digest of one chunk to the first 16 bytes of `target`.
    public static func make(of chunk: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) {
        if chunk.count == chunkSize, isZero(chunk) { return target.copyBytes(from: zeroChunk) }
        var hash = SHA256()
        hash.update(bufferPointer: chunk)
        hash.finalize().withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<size])) }
    }

    /// The digest of a whole chunk of zeros.
    public static let zeroChunk: [UInt8] = {
        let zeros = [UInt8](repeating: 0, count: chunkSize)
        return Array(SHA256.hash(data: zeros).prefix(size))
    }()

    static func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let base = bytes.baseAddress, bytes[0] == 0 else { return bytes.isEmpty }
        // Equal to itself one byte on, and it starts with zero.
        return memcmp(base, base + 1, bytes.count - 1) == 0
    }
}
