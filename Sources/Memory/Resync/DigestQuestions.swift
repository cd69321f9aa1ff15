import LinuxSystem
import Model
import Wire

/// The questions for the digests of the standby's memory, window by window, some of them ahead of their use, so that both
/// sides compute at the same time.
package struct DigestQuestions {
    /// Windows asked for and not yet used.
    private static let ahead = 8

    private var windows: [PageDigests]
    private var asked = 0
    private var used = 0

    /// Windows of at most a slab of pages, in the order of `blocks`.
    package init(_ blocks: [TrackedBlock]) {
        windows = blocks.flatMap { block in
            let pages = Int(block.length) / pageSize
            return stride(from: 0, to: pages, by: Slab.pagesMax).map { first in
                PageDigests(
                    block: block.index, first: UInt32(first), count: UInt32(min(Slab.pagesMax, pages - first)))
            }
        }
    }

    /// The window that is to be compared next, after new questions were put to `ask`; nil at the end.
    package mutating func next(_ ask: (PageDigests) -> Void) -> PageDigests? {
        while asked < min(windows.count, used + Self.ahead) {
            ask(windows[asked])
            asked += 1
        }
        guard used < windows.count else { return nil }
        defer { used += 1 }
        return windows[used]
    }
}
