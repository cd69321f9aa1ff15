/// The buffer into which frames and their contents are written: bytes in a row, owned, appended at the end.
///
/// `reset()` forgets the bytes and keeps the memory, so that a buffer that went once around its pool does not allocate
/// again. Numbers are written little-endian. The buffer grows up to `capacityMax` bytes; wanting more is a mistake of
/// the caller, who knows the caps of what is written, and traps.
// SAFETY: the memory is reached through this one value only, which cannot be copied; whoever holds it may use it.
public struct ByteSink: ~Copyable, @unchecked Sendable {
    /// Bytes written so far.
    public private(set) var count = 0
    /// Bytes that fit without allocating.
    public private(set) var capacity: Int
    public let capacityMax: Int
    private var base: UnsafeMutableRawPointer

    /// - Parameters:
    ///   - capacity: bytes to allocate at once.
    ///   - capacityMax: bytes beyond which the buffer refuses to grow; 1 GiB unless given.
    public init(capacity: Int = 4096, capacityMax: Int = 1 << 30) {
        precondition(capacity >= 0 && capacity <= capacityMax, "a buffer's capacity lies in 0...capacityMax")
        self.capacity = max(capacity, 64)
        self.capacityMax = max(capacityMax, 64)
        base = .allocate(byteCount: self.capacity, alignment: 64)
    }

    deinit { base.deallocate() }

    public var isEmpty: Bool { count == 0 }

    /// What was written; valid until the next mutation.
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    /// What was written, to be changed in place; valid until the next mutation.
    public var mutableBytes: UnsafeMutableRawBufferPointer {
        mutating get { UnsafeMutableRawBufferPointer(start: base, count: count) }
    }

    /// Forgets the contents and keeps the memory.
    public mutating func reset() { count = 0 }

    /// Forgets what was written from `newCount` on.
    public mutating func truncate(to newCount: Int) {
        precondition(newCount >= 0 && newCount <= count, "a buffer is truncated to at most what it holds")
        count = newCount
    }

    /// Makes room for `additional` bytes after the contents and returns where they go. Writing there becomes part of the
    /// contents with `commit`; until the next mutation the pointer stays valid.
    @discardableResult
    public mutating func reserve(_ additional: Int) -> UnsafeMutableRawPointer {
        precondition(additional >= 0 && additional <= capacityMax - count, "a buffer outgrew its capacityMax")
        if additional > capacity - count { grow(to: count + additional) }
        return base + count
    }

    /// Counts `written` bytes at the place that `reserve` returned as contents.
    public mutating func commit(_ written: Int) {
        precondition(written >= 0 && written <= capacity - count, "more bytes were committed than reserved")
        count += written
    }

    public mutating func append<Number: FixedWidthInteger & BitwiseCopyable>(_ number: Number) {
        reserve(MemoryLayout<Number>.size).storeBytes(of: number.littleEndian, as: Number.self)
        count += MemoryLayout<Number>.size
    }

    public mutating func append(contentsOf source: UnsafeRawBufferPointer) {
        guard let start = source.baseAddress, source.count > 0 else { return }
        reserve(source.count).copyMemory(from: start, byteCount: source.count)
        count += source.count
    }

    public mutating func append(zeros: Int) {
        reserve(zeros).initializeMemory(as: UInt8.self, repeating: 0, count: zeros)
        count += zeros
    }

    /// Overwrites the number at `offset`, which must lie within the contents.
    public mutating func overwrite<Number: FixedWidthInteger & BitwiseCopyable>(at offset: Int, with number: Number) {
        precondition(offset >= 0 && offset <= count - MemoryLayout<Number>.size, "a number is overwritten in place")
        (base + offset).storeBytes(of: number.littleEndian, as: Number.self)
    }

    @inline(never)
    private mutating func grow(to needed: Int) {
        let larger = min(max(needed, capacity * 2), capacityMax)
        let moved = UnsafeMutableRawPointer.allocate(byteCount: larger, alignment: 64)
        moved.copyMemory(from: base, byteCount: count)
        base.deallocate()
        base = moved
        capacity = larger
    }
}
