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
        let ours = PageDigest.make(ofPages: source.pages.baseAddress!, count: source.runs.pages)
        var walk = TouchedPages(source)
        for number in window.first..<window.first + window.count {
            let index = Int(number - window.first)
            let expected = digests[index * PageDigest.size..<(index + 1) * PageDigest.size]
            if let position = walk.position(of: number) {
                if expected.elementsEqual(ours[position * PageDigest.size..<(position + 1) * PageDigest.size]) {
                    if !expected.elementsEqual(PageDigest.zeroPage) { present += 1 }
                } else {
                    target.append(block: window.block, number, source.pages.baseAddress! + position * pageSize)
                    sent += 1
                }
            } else if !expected.elementsEqual(PageDigest.zeroPage) {
                target.append(block: window.block, number, nil)
                sent += 1
            }
        }
    }
}

/// Goes through the pages of a slab once, by rising numbers.
private struct TouchedPages {
    private let slab: Slab
    private var run = 0
    private var before = 0

    init(_ slab: Slab) { self.slab = slab }

    /// Its place in the slab; nil when the page is not among them.
    mutating func position(of number: UInt32) -> Int? {
        while run < slab.runs.count, slab.runs[run].first + slab.runs[run].count <= number { run += 1 }
        guard run < slab.runs.count, slab.runs[run].first <= number else { return nil }
        defer { before += 1 }
        return before
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
