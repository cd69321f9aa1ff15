import Crypto
import Dispatch
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

    /// Cores that one side takes at most: the guests need them too. One core does one to two GB/s (SHA instructions).
    private static let workersMax = 4
    /// Fewer pages are not worth a second thread.
    private static let pagesPerWorker = 512

    /// The digests of `count` pages, one after the other, from several threads.
    package static func make(ofPages first: UnsafeRawPointer, count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count * size) { digests, length in
            // SAFETY: the workers write to parts that do not meet, and have ended when this returns.
            nonisolated(unsafe) let (from, to) = (first, UnsafeMutableRawPointer(digests.baseAddress!))
            let cores = max(1, min(workersMax, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
            let workers = min(cores, (count + pagesPerWorker - 1) / pagesPerWorker)
            DispatchQueue.concurrentPerform(iterations: workers) { worker in
                for page in count * worker / workers..<count * (worker + 1) / workers {
                    make(of: from + page * pageSize, into: to + page * size)
                }
            }
            length = count * size
        }
    }

    package static func isZero(_ page: UnsafeRawPointer) -> Bool {
        // Equal to itself one byte on, and it starts with zero.
        page.load(as: UInt8.self) == 0 && memcmp(page, page + 1, pageSize - 1) == 0
    }
}
