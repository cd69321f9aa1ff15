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

/// Recognises `{"return": {}, "id": 123}`, which is how QEMU answers `stop`, `cont` and most others.
enum SimpleReply {
    private static let prefix: StaticString = "{\"return\": {}, \"id\": "

    static func id(_ line: UnsafeRawBufferPointer) -> UInt64? {
        let count = prefix.utf8CodeUnitCount
        guard line.count > count, let base = line.baseAddress, memcmp(base, prefix.utf8Start, count) == 0 else {
            return nil
        }
        var value: UInt64 = 0
        var position = count
        while position < line.count, case let digit = line[position] &- UInt8(ascii: "0"), digit < 10 {
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            guard !overflow, case (let sum, false) = product.addingReportingOverflow(UInt64(digit)) else { return nil }
            value = sum
            position += 1
        }
        // Only the carriage return may follow; anything else is for the parser to judge.
        guard position > count, position < line.count, line[position] == UInt8(ascii: "}"),
            position + 1 == line.count || (position + 2 == line.count && line[position + 1] == 0x0d)
        else { return nil }
        return value
    }
}
