import Glibc
import LinuxSystem
import Model
import Wire

/// Finds the pages of the guest's memory that the standby does not hold, by the digests that it told.
package struct MemoryComparison {
    /// Pages that have to be sent.
    package private(set) var sent = 0
    /// Pages with contents that the standby holds already.
    package private(set) var present = 0

    package init() {}

    /// Copies the pages of `window` that differ from the standby's into `target`, which is empty.
    ///
    /// - Parameters:
    ///   - digests: the standby's, 16 bytes for each page of the window.
    ///   - source: the pages of the window that were ever touched, in order; the others are zero.
    package mutating func compare(_ window: PageDigests, _ digests: [UInt8], _ source: Slab, into target: Slab) {
        precondition(digests.count == Int(window.count) * PageDigest.size, "a digest is there for each page")
        digests.withUnsafeBytes { digests in
            withUnsafeTemporaryAllocation(byteCount: PageDigest.size, alignment: 16) { own in
                var walk = TouchedPages(source)
                var (expected, ours) = (digests.baseAddress!, own.baseAddress!)
                for number in window.first..<window.first + window.count {
                    defer { expected += PageDigest.size }
                    if let page = walk.contents(of: number) {
                        PageDigest.make(of: page, into: ours)
                        if memcmp(ours, expected, PageDigest.size) == 0 {
                            if !PageDigest.isZero(page) { present += 1 }
                        } else {
                            target.append(block: window.block, number, page)
                            sent += 1
                        }
                    } else if memcmp(zeroDigest, expected, PageDigest.size) != 0 {
                        target.append(block: window.block, number, nil)
                        sent += 1
                    }
                }
            }
        }
    }

    private var zeroDigest: [UInt8] { PageDigest.zeroPage }
}

/// Goes through the pages of a slab once, by rising numbers.
private struct TouchedPages {
    private let slab: Slab
    private var run = 0
    private var position = 0

    init(_ slab: Slab) { self.slab = slab }

    /// Nil when the page is not among them.
    mutating func contents(of number: UInt32) -> UnsafeRawPointer? {
        while run < slab.runs.count, slab.runs[run].first + slab.runs[run].count <= number { run += 1 }
        guard run < slab.runs.count, slab.runs[run].first <= number else { return nil }
        defer { position += 1 }
        return UnsafeRawPointer(slab.pages.baseAddress! + position * pageSize)
    }
}

extension Slab {
    /// Adds one page; nil stands for a page of zeros.
    fileprivate func append(block: UInt16, _ number: UInt32, _ contents: UnsafeRawPointer?) {
        let place = pages.baseAddress! + runs.pages * pageSize
        if let contents {
            place.copyMemory(from: contents, byteCount: pageSize)
        } else {
            memset(place, 0, pageSize)
        }
        runs.append(TrackedRun(block: block, first: number, count: 1))
    }
}
