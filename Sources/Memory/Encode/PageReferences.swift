import Codec
import Glibc
import LinuxSystem
import Model

/// Copies of the guest's pages in the version that was encoded last, so that the next one travels as a difference.
///
/// There is address space for all of them; a page of it becomes memory when the guest's page is encoded for the first time.
/// With a bound, pages that were not written for long are forgotten again, 64 neighbours at a time, by the second-chance rule
/// (a clock's hand passes over groups that were used since it came by last). A page without a reference travels whole:
/// forgetting one needs no word to the standby.
///
/// SAFETY of `@unchecked Sendable`: it belongs to the encoder, which is used by one thread at a time.
package final class PageReferences: @unchecked Sendable {
    /// Pages that are forgotten together: a word of the bitmap.
    package static let groupPages = PageBitmap.groupPages

    /// The references of one RAM block; empty where it is not tracked.
    package final class Block {
        package let memory: UnsafeMutableRawBufferPointer
        /// Which pages of `memory` are true.
        package var known: PageBitmap
        /// Groups that were used since the hand came by.
        fileprivate var used: PageBitmap

        package init(_ block: RAMBlock) throws(SystemError) {
            let pages = block.tracked ? block.pages : 0
            known = PageBitmap(pages: pages)
            used = PageBitmap(pages: (pages + groupPages - 1) / groupPages)
            guard pages > 0 else {
                memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
                return
            }
            guard
                let base = mmap(
                    nil, Int(block.length), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
                base != MAP_FAILED
            else {
                throw SystemError(operation: "mmap", errno: errno, subject: "the reference of RAM block \(block.name)")
            }
            memory = UnsafeMutableRawBufferPointer(start: base, count: Int(block.length))
        }

        deinit {
            if memory.count > 0 { _ = munmap(memory.baseAddress, memory.count) }
        }

        fileprivate func forget(_ group: Int) {
            known.removeGroup(group)
            let start = group * groupPages * pageSize
            _ = madvise(memory.baseAddress! + start, min(groupPages * pageSize, memory.count - start), MADV_DONTNEED)
        }
    }

    package let blocks: [Block]
    /// The most pages that are kept; nil is no bound.
    private let pagesMax: Int?
    /// The group that the hand comes to next.
    private var hand = (block: 0, group: 0)

    /// A bound of less than the pages of one group is that.
    package init(_ blocks: [RAMBlock], pagesMax: Int? = nil) throws(SystemError) {
        var made: [Block] = []
        for block in blocks { made.append(try Block(block)) }
        self.blocks = made
        self.pagesMax = pagesMax.map { max($0, Self.groupPages) }
    }

    /// Pages that have a reference.
    package var pages: Int { blocks.reduce(0) { $0 + $1.known.count } }

    /// These pages of a block were encoded just now; call it before `trim`.
    package func use(_ numbers: [UInt32], of block: UInt16) {
        guard pagesMax != nil else { return }
        for number in numbers { blocks[Int(block)].used.insert(Int(number) / Self.groupPages) }
    }

    /// Forgets what exceeds the bound, and a sixteenth more, so that it need not be looked at after every piece.
    package func trim() {
        guard let pagesMax, pages > pagesMax else { return }
        let goal = pagesMax - pagesMax / 16
        let groups = blocks.reduce(0) { $0 + $1.used.pages }
        // In the second round nothing counts as used any more.
        for _ in 0..<2 * groups where pages > goal {
            while hand.group >= blocks[hand.block].used.pages { hand = ((hand.block + 1) % blocks.count, 0) }
            let block = blocks[hand.block]
            if block.used.contains(hand.group) {
                block.used.remove(hand.group)
            } else if block.known.containsAny(inGroup: hand.group) {
                block.forget(hand.group)
            }
            hand.group += 1
        }
    }
}
