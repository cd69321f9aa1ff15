import Glibc

/// Bytes from the monitor, cut into lines. The memory is reused; a line stays valid until the next call.
struct LineBuffer: ~Copyable {
    private var storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
    private var start = 0
    private var end = 0
    /// Up to where no line end was found.
    private var searched = 0

    init() {}
    deinit { storage.deallocate() }

    var isEmpty: Bool { start == end }
    var preview: String { Self.preview(UnsafeRawBufferPointer(rebasing: storage[start..<end])) }

    /// The beginning of `bytes` as one printable line.
    static func preview(_ bytes: UnsafeRawBufferPointer) -> String {
        String(decoding: bytes.prefix(60).map { $0 < 0x20 || $0 == 0x7f ? 0x20 : $0 }, as: UTF8.self)
    }

    /// The next whole line without its end, or nil.
    mutating func takeLine() -> UnsafeRawBufferPointer? {
        guard let base = storage.baseAddress, searched < end,
            let found = memchr(base + searched, 0x0a, end - searched)
        else {
            searched = end
            return nil
        }
        let stop = UnsafeRawPointer(found) - UnsafeRawPointer(base)
        let line = UnsafeRawBufferPointer(rebasing: storage[start..<stop])
        start = stop + 1
        searched = start
        return line
    }

    /// Where to read more into: never empty; nil when an unfinished line already takes `max` bytes.
    mutating func room(max: Int) -> UnsafeMutableRawBufferPointer? {
        if start == end {
            start = 0
            end = 0
            searched = 0
        }
        if end == storage.count {
            if start > 0 {
                // Source and target may overlap, which copyMemory allows.
                storage.copyMemory(from: UnsafeRawBufferPointer(rebasing: storage[start..<end]))
            } else {
                guard storage.count < max else { return nil }
                let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: storage.count * 2, alignment: 16)
                larger.copyMemory(from: UnsafeRawBufferPointer(storage))
                storage.deallocate()
                storage = larger
            }
            searched -= start
            end -= start
            start = 0
        }
        return UnsafeMutableRawBufferPointer(rebasing: storage[end...])
    }

    mutating func filled(_ count: Int) { end += count }
}
