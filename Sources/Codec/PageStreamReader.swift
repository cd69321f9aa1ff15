import Model

/// The checked head of a `pages` body.
struct PageBodyHead {
    let block: UInt16
    let codec: SecondStage
    let pageCount: Int
    let stageOneLength: Int

    init(parsing body: UnsafeRawBufferPointer) throws(CodecError) {
        guard body.count >= PageBody.headSize else {
            throw .truncated(part: "pages body", offset: body.count, needed: PageBody.headSize)
        }
        block = body.loadUnaligned(as: UInt16.self).littleEndian
        guard let codec = SecondStage(rawValue: body[2]) else {
            throw .malformed(part: "pages body", offset: 2, reason: "codec \(body[2]) does not exist")
        }
        self.codec = codec
        guard body[3] == 0 else {
            throw .malformed(part: "pages body", offset: 3, reason: "the reserved byte is not zero")
        }
        let pageCount = body.loadUnaligned(fromByteOffset: 4, as: UInt32.self).littleEndian
        guard (1...UInt32(PageDecoder.pagesMax)).contains(pageCount) else {
            throw .malformed(
                part: "pages body", offset: 4, reason: "\(pageCount) pages are not 1...\(PageDecoder.pagesMax)")
        }
        self.pageCount = Int(pageCount)
        let length = body.loadUnaligned(fromByteOffset: 8, as: UInt32.self).littleEndian
        guard length >= pageCount, length <= UInt32(PageBody.stageOneMax) else {
            throw .malformed(
                part: "pages body", offset: 8, reason: "\(length) bytes are no page stream of \(pageCount) pages")
        }
        stageOneLength = Int(length)
    }
}

/// Walks a page stream and checks every step; what it returns lies within the stream and within the block.
struct PageStreamReader {
    enum Content {
        case zero
        /// 4096 bytes.
        case raw(UnsafeRawPointer)
        /// As many masks as `lines` has bits, as many words as the masks have bits.
        case delta(lines: UInt64, masks: UnsafeRawPointer, words: UnsafeRawPointer)
    }

    struct Page {
        let number: Int
        let content: Content
    }

    private let stream: UnsafeRawBufferPointer
    private let blockPages: Int
    private var left: Int
    private var offset = 0
    private var nextNumber = 0

    init(_ stream: UnsafeRawBufferPointer, pages: Int, blockPages: Int) {
        self.stream = stream
        self.blockPages = blockPages
        left = pages
    }

    /// The next page; nil after the last, when the stream ended with it.
    @inline(__always)
    mutating func next() throws(CodecError) -> Page? {
        guard left > 0 else {
            guard offset == stream.count else {
                throw malformed(at: offset, "\(stream.count - offset) bytes follow the last page")
            }
            return nil
        }
        guard let base = stream.baseAddress else {
            throw .truncated(part: "page stream", offset: 0, needed: 1)
        }
        left -= 1
        let at = offset
        let tag = try readTag()
        let (number, overflow) = nextNumber.addingReportingOverflow(Int(tag >> 2))
        guard !overflow, number < blockPages else {
            throw malformed(at: at, "page \(number) is not in a block of \(blockPages) pages")
        }
        nextNumber = number + 1
        switch PageKind(rawValue: UInt8(tag & 3)) {
        case .zero:
            return Page(number: number, content: .zero)
        case .raw:
            return Page(number: number, content: .raw(base + (try take(pageSize))))
        case .delta:
            return Page(number: number, content: try readDelta(base))
        case nil:
            throw malformed(at: at, "page kind 0 does not exist")
        }
    }

    @inline(__always)
    private mutating func readDelta(_ base: UnsafeRawPointer) throws(CodecError) -> Content {
        let lines = (base + (try take(8))).loadUnaligned(as: UInt64.self).littleEndian
        guard lines != 0 else { throw malformed(at: offset - 8, "a delta changes no line") }
        let count = lines.nonzeroBitCount
        let masks = base + (try take(count))
        var words = 0
        var hasEmpty = false
        for index in 0..<count {
            let mask = masks.load(fromByteOffset: index, as: UInt8.self)
            words += mask.nonzeroBitCount
            hasEmpty = hasEmpty || mask == 0
        }
        guard !hasEmpty else { throw malformed(at: offset - count, "a changed line changes no word") }
        return .delta(lines: lines, masks: masks, words: base + (try take(8 * words)))
    }

    /// LEB128 of at most 34 bits, in its shortest form.
    @inline(__always)
    private mutating func readTag() throws(CodecError) -> UInt64 {
        let start = offset
        var tag: UInt64 = 0
        for position in 0..<PageBody.rawTagMax {
            let byte = UInt64(stream[try take(1)])
            tag |= (byte & 0x7f) << (7 * UInt64(position))
            guard byte < 0x80 else { continue }
            guard byte != 0 || position == 0, tag < 1 << 34 else { break }
            return tag
        }
        throw malformed(at: start, "a page's tag is not a number of at most 34 bits")
    }

    /// Steps over `count` bytes and returns where they begin.
    @inline(__always)
    private mutating func take(_ count: Int) throws(CodecError) -> Int {
        guard stream.count - offset >= count else {
            throw .truncated(part: "page stream", offset: stream.count, needed: offset + count)
        }
        defer { offset += count }
        return offset
    }

    private func malformed(at offset: Int, _ reason: String) -> CodecError {
        .malformed(part: "page stream", offset: offset, reason: reason)
    }
}
