/// One bit for each page of a RAM block.
// SAFETY: the memory is reached through this one value only, which cannot be copied; whoever holds it may use it.
public struct PageBitmap: ~Copyable, @unchecked Sendable {
    /// Pages that it has a bit for.
    public let pages: Int
    private let words: UnsafeMutableBufferPointer<UInt64>
    /// Bits that are set.
    public private(set) var count = 0
    /// Neighbours whose bits are looked at and cleared together.
    public static let groupPages = 64

    /// All bits clear.
    public init(pages: Int) {
        precondition(pages >= 0, "a bitmap has no negative number of pages")
        self.pages = pages
        words = .allocate(capacity: (pages + 63) / 64)
        words.initialize(repeating: 0)
    }

    deinit { words.deallocate() }

    public func contains(_ page: Int) -> Bool {
        precondition(page >= 0 && page < pages, "a page number lies within its block")
        return words[page >> 6] & (1 << UInt64(page & 63)) != 0
    }

    public mutating func insert(_ page: Int) {
        precondition(page >= 0 && page < pages, "a page number lies within its block")
        let bit: UInt64 = 1 << UInt64(page & 63)
        if words[page >> 6] & bit == 0 { count += 1 }
        words[page >> 6] |= bit
    }

    public mutating func remove(_ page: Int) {
        precondition(page >= 0 && page < pages, "a page number lies within its block")
        let bit: UInt64 = 1 << UInt64(page & 63)
        if words[page >> 6] & bit != 0 { count -= 1 }
        words[page >> 6] &= ~bit
    }

    /// Whether a bit of pages 64 * `group` and the 63 that follow is set.
    public func containsAny(inGroup group: Int) -> Bool { words[group] != 0 }

    /// Clears those bits.
    public mutating func removeGroup(_ group: Int) {
        count -= words[group].nonzeroBitCount
        words[group] = 0
    }

    public mutating func insertAll() {
        words.update(repeating: .max)
        if pages & 63 != 0 { words[words.count - 1] = 1 << UInt64(pages & 63) - 1 }
        count = pages
    }

    public mutating func removeAll() {
        words.update(repeating: 0)
        count = 0
    }
}
