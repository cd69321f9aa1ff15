import Glibc
import LinuxSystem
import Model

/// Room for a copy of every page of the guest in the version that was encoded last, so that the next one travels as a
/// difference. Address space only: a page of it becomes memory when the guest's page is encoded for the first time.
final class PageReferences: @unchecked Sendable {
    // SAFETY: the list never changes; what it points to is the encoder's, which is used by one thread at a time.

    /// By block; empty for those that are not tracked.
    let blocks: [UnsafeMutableRawBufferPointer]

    init(_ blocks: [RAMBlock]) throws(SystemError) {
        var mapped: [UnsafeMutableRawBufferPointer] = []
        for block in blocks {
            guard block.tracked else {
                mapped.append(UnsafeMutableRawBufferPointer(start: nil, count: 0))
                continue
            }
            guard
                let base = mmap(
                    nil, Int(block.length), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
                base != MAP_FAILED
            else {
                let code = errno
                for region in mapped { _ = munmap(region.baseAddress, region.count) }
                throw SystemError(operation: "mmap", errno: code, subject: "the reference of RAM block \(block.name)")
            }
            mapped.append(UnsafeMutableRawBufferPointer(start: base, count: Int(block.length)))
        }
        self.blocks = mapped
    }

    deinit {
        for region in blocks where region.count > 0 { _ = munmap(region.baseAddress, region.count) }
    }
}
