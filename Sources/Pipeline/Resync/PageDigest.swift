import Crypto
import Glibc
import Model
import Wire

/// The digest by which two hosts find out that a page is equal: the first 16 bytes of SHA-256, because a page whose digest
/// is the same is not sent, and a guest that writes what it likes must not be able to make two contents collide.
package enum PageDigest {
    /// In bytes.
    package static let size = PageDigestsReply.digestSize

    package static let zeroPage: [UInt8] = Array(
        SHA256.hash(data: [UInt8](repeating: 0, count: pageSize)).prefix(size))

    /// Writes the digest of the page of `pageSize` bytes at `page` to the first 16 bytes of `target`.
    package static func make(of page: UnsafeRawPointer, into target: UnsafeMutableRawPointer) {
        if isZero(page) {
            zeroPage.withUnsafeBytes { target.copyMemory(from: $0.baseAddress!, byteCount: size) }
            return
        }
        var hash = SHA256()
        hash.update(bufferPointer: UnsafeRawBufferPointer(start: page, count: pageSize))
        hash.finalize().withUnsafeBytes { target.copyMemory(from: $0.baseAddress!, byteCount: size) }
    }

    static func isZero(_ page: UnsafeRawPointer) -> Bool {
        // Equal to itself one byte on, and it starts with zero.
        page.load(as: UInt8.self) == 0 && memcmp(page, page + 1, pageSize - 1) == 0
    }
}
