/// Which parts of a disk's copy are not, or may not be, what the guest wrote: one bit for each chunk of `ChunkDigest.chunkSize`.
package struct StaleChunks: Sendable, Hashable {
    private static let chunkSize = UInt64(ChunkDigest.chunkSize)

    /// Of the disk, in bytes.
    let size: UInt64
    package private(set) var count = 0
    private var words: [UInt64]

    package init(size: UInt64) {
        self.size = size
        words = [UInt64](repeating: 0, count: Int((ChunkDigest.chunks(diskSize: size) + 63) / 64))
    }

    package var isEmpty: Bool { count == 0 }

    /// Of bytes; empty where there are none.
    package static func chunks(_ range: Range<UInt64>) -> Range<Int> {
        guard !range.isEmpty else { return 0..<0 }
        return Int(range.lowerBound / chunkSize)..<Int((range.upperBound - 1) / chunkSize) + 1
    }

    package mutating func mark(_ range: Range<UInt64>) {
        for chunk in Self.chunks(range) where !has(chunk) { set(chunk) }
    }

    package mutating func markAll() { mark(0..<size) }

    package mutating func clear(_ chunk: Int) {
        guard has(chunk) else { return }
        words[chunk / 64] &= ~(1 << UInt64(chunk % 64))
        count -= 1
    }

    package func has(anyOf range: Range<UInt64>) -> Bool { Self.chunks(range).contains(where: has) }

    /// The first that is at or after that one.
    package func next(from chunk: Int) -> Int? {
        var index = chunk / 64
        guard index < words.count else { return nil }
        var word = words[index] & (.max << UInt64(chunk % 64))
        while word == 0 {
            index += 1
            guard index < words.count else { return nil }
            word = words[index]
        }
        return index * 64 + word.trailingZeroBitCount
    }

    /// Its place on the disk, in bytes.
    package func range(of chunk: Int) -> Range<UInt64> {
        let start = UInt64(chunk) * Self.chunkSize
        return start..<min(start + Self.chunkSize, size)
    }

    private func has(_ chunk: Int) -> Bool { words[chunk / 64] & (1 << UInt64(chunk % 64)) != 0 }

    private mutating func set(_ chunk: Int) {
        words[chunk / 64] |= 1 << UInt64(chunk % 64)
        count += 1
    }
}
