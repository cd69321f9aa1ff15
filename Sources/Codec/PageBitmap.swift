/// One bit for each page of a RAM block.
// SAFETY: the memory is reached through this one value only, which cannot be copied; whoever holds it may use it.
public struct PageBitmap: ~Copyable, @unchecked Sendable {
    /// Pages that it has a bit for.
    public let pages: Int
    private let words: UnsafeMutableBufferPointer<UInt64>

    /// All bits clear.
    public init(pages: Int) {
        precondition(pages >= 0, "a bitmap has no negative number of pages")
        self.pages = pages
        words = .allocate(capacity: (pages + 63) / 64)
        words.initialize(repeating: 0)
    }

    deinit { words.deallocate() }

    /// Bits that are set.
    public var count: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }

    public func contains(_ page: Int) -> Bool {
        precondition(page >= 0 && page < pages, "a page number lies within its block")
        return words[page >> 6] & (1 << UInt64(page & 63)) != 0
    }

    public mutating func insert(_ page: Int) {
        precondition(page >= 0 && page < pages, "a page number lies within its block")
        words[page >> 6] |= 1 << UInt64(page & 63)
    }

    public mutating func remove(_ page: Int) {
        precondition(page >= 0 && page < pages, "a page number lies within its block")
        words[page >> 6] &= ~(1 << UInt64(page & 63))
    }

    public mutating func insertAll() {
        words.update(repeating: .max)
        if pages & 63 != 0 { words[words.count - 1] = 1 << UInt64(pages & 63) - 1 }
    }

    public mutating func removeAll() { words.update(repeating: 0) }
}
