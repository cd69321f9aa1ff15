import Model

/// The checked head of a `pages` body.
struct PageBodyHead {
    let block: UInt16
    let codec: Compression
    let pages: Int
    /// Bytes of the two parts of the stream.
    let contents: Int
    let list: Int
    let stored: Int

    var stream: Int { contents + list }

    init(parsing body: UnsafeRawBufferPointer) throws(CodecError) {
        func malformed(_ offset: Int, _ reason: String) -> CodecError {
            .malformed(part: "pages body", offset: offset, reason: reason)
        }
        func field(_ offset: Int) -> Int {
            Int(body.loadUnaligned(fromByteOffset: offset, as: UInt32.self).littleEndian)
        }
        guard body.count >= PageBody.headSize else {
            throw .truncated(part: "pages body", offset: body.count, needed: PageBody.headSize)
        }
        block = body.loadUnaligned(as: UInt16.self).littleEndian
        guard let codec = Compression(rawValue: body[2]) else {
            throw malformed(2, "codec \(body[2]) does not exist")
        }
        self.codec = codec
        guard body[3] == 0 else { throw malformed(3, "the reserved byte is not zero") }
        (pages, contents, list, stored) = (field(4), field(8), field(12), field(16))
        guard (1...PageDecoder.pagesMax).contains(pages) else {
            throw malformed(4, "\(pages) pages are not 1...\(PageDecoder.pagesMax)")
        }
        guard list >= pages, contents + list <= PageBody.streamMax else {
            throw malformed(8, "\(contents) and \(list) bytes are no page stream of \(pages) pages")
        }
        guard stored <= pages, stored * pageSize <= body.count - PageBody.headSize else {
            throw malformed(16, "\(stored) stored pages are not in a body of \(body.count) bytes and \(pages) pages")
        }
    }
}

/// Walks a page stream and checks every step; what it returns lies within the stream, the stored pages and the block.
struct PageStreamReader {
    enum Content {
        case zero
        /// 4096 bytes.
        case raw(UnsafeRawPointer)
        /// As many masks as `lines` has bits, as many words as the masks have bits.
        case delta(lines: UInt64, masks: UnsafeRawPointer, words: UnsafeRawPointer)
        /// The position in the body of an earlier page.
        case copy(Int)
    }

    struct Page {
        let number: Int
        let content: Content
    }

    private let contents: UnsafeRawBufferPointer
    private let list: UnsafeRawBufferPointer
    private let stored: UnsafeRawBufferPointer
    private let pages: Int
    private let blockPages: Int
    private var position = 0
    private var nextNumber = 0
    /// How far each of the three was read.
    private var contentsOffset = 0
    private var offset = 0
    private var storedOffset = 0

    /// - Parameters:
    ///   - stream: contents and list, as long as `head` says.
    ///   - stored: the stored pages, as many as `head` says.
    init(
        _ stream: UnsafeRawBufferPointer, stored: UnsafeRawBufferPointer, head: PageBodyHead, blockPages: Int
    ) {
        contents = UnsafeRawBufferPointer(rebasing: stream[..<head.contents])
        list = UnsafeRawBufferPointer(rebasing: stream[head.contents...])
        self.stored = stored
        pages = head.pages
        self.blockPages = blockPages
    }

    /// The next page; nil after the last, when everything ended with it.
    @inline(__always)
    mutating func next() throws(CodecError) -> Page? {
        guard position < pages else {
            guard offset == list.count else {
                throw malformed(at: offset, "\(list.count - offset) bytes follow the last page")
            }
            guard contentsOffset == contents.count, storedOffset == stored.count else {
                throw malformed(
                    at: offset,
                    "\(contents.count - contentsOffset) bytes of contents and \(stored.count - storedOffset) of stored "
                        + "pages belong to no page")
            }
            return nil
        }
        guard let base = list.baseAddress else { throw .truncated(part: "page list", offset: 0, needed: 1) }
        let at = offset
        let tag = try readTag()
        let (number, overflow) = nextNumber.addingReportingOverflow(Int(tag >> 3))
        guard !overflow, number < blockPages else {
            throw malformed(at: at, "page \(number) is not in a block of \(blockPages) pages")
        }
        defer { position += 1 }
        nextNumber = number + 1
        let kind = UInt8(tag & 7)
        switch PageKind(rawValue: kind) {
        case .zero: return Page(number: number, content: .zero)
        case .raw: return Page(number: number, content: .raw(try takeContents(pageSize)))
        case .delta: return Page(number: number, content: try readDelta(base))
        case .stored: return Page(number: number, content: .raw(try takeStored()))
        case .copy:
            let source = Int((base + (try take(2))).loadUnaligned(as: UInt16.self).littleEndian)
            guard source < position else {
                throw malformed(at: at, "page \(position) of the body cannot be a copy of page \(source)")
            }
            return Page(number: number, content: .copy(source))
        case nil: throw malformed(at: at, "page kind \(kind) does not exist")
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
        return .delta(lines: lines, masks: masks, words: try takeContents(8 * words))
    }

    /// LEB128 of at most 35 bits, in its shortest form.
    @inline(__always)
    private mutating func readTag() throws(CodecError) -> UInt64 {
        let start = offset
        var tag: UInt64 = 0
        for position in 0..<PageBody.tagMax {
            let byte = UInt64(list[try take(1)])
            tag |= (byte & 0x7f) << (7 * UInt64(position))
            guard byte < 0x80 else { continue }
            guard byte != 0 || position == 0 else { break }
            return tag
        }
        throw malformed(at: start, "a page's tag is not a number of at most 35 bits in its shortest form")
    }

    /// Steps over `count` bytes of the list and returns where they begin.
    @inline(__always)
    private mutating func take(_ count: Int) throws(CodecError) -> Int {
        guard list.count - offset >= count else {
            throw .truncated(part: "page list", offset: list.count, needed: offset + count)
        }
        defer { offset += count }
        return offset
    }

    /// Steps over `count` bytes of the contents, more than none.
    @inline(__always)
    private mutating func takeContents(_ count: Int) throws(CodecError) -> UnsafeRawPointer {
        guard let base = contents.baseAddress, contents.count - contentsOffset >= count else {
            throw .truncated(part: "page contents", offset: contents.count, needed: contentsOffset + count)
        }
        defer { contentsOffset += count }
        return base + contentsOffset
    }

    @inline(__always)
    private mutating func takeStored() throws(CodecError) -> UnsafeRawPointer {
        guard let base = stored.baseAddress, stored.count - storedOffset >= pageSize else {
            throw .truncated(part: "stored pages", offset: stored.count, needed: storedOffset + pageSize)
        }
        defer { storedOffset += pageSize }
        return base + storedOffset
    }

    private func malformed(at offset: Int, _ reason: String) -> CodecError {
        .malformed(part: "page list", offset: offset, reason: reason)
    }
}
