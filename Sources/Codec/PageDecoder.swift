import CKernels
import Model

/// What one body held.
public struct DecodeStatistics: Sendable, Equatable {
    /// Pages in the body; the sum of the four kinds below.
    public var pages = 0
    public var zero = 0
    public var delta = 0
    public var raw = 0
    public var copied = 0

    public init() {}

    public static func += (sum: inout DecodeStatistics, part: DecodeStatistics) {
        sum.pages += part.pages
        sum.zero += part.zero
        sum.delta += part.delta
        sum.raw += part.raw
        sum.copied += part.copied
    }
}

/// Reads the bodies of `pages` frames. One per thread; its scratch memory is at most 4.2 MiB and is kept.
public struct PageDecoder: ~Copyable {
    /// The most pages that a body may hold.
    public static let pagesMax = 1024

    private var decompressor = Decompressor()
    private var scratch = ByteSink(capacity: 0, capacityMax: PageBody.streamMax)
    /// The numbers of the pages so far, by their positions in the body.
    private let numbers = UnsafeMutablePointer<Int>.allocate(capacity: pagesMax)

    public init() {}
    deinit { numbers.deallocate() }

    /// Applies a body to the memory of its block. Throws before anything is written when the body is not a valid one.
    /// - Parameters:
    ///   - body: the frame's body; nobody may write it meanwhile.
    ///   - block: the memory of the block with an index, or nil when there is none. Its length is a multiple of 4096.
    public mutating func decode(
        body: UnsafeRawBufferPointer, block: (UInt16) -> UnsafeMutableRawBufferPointer?
    ) throws(CodecError) -> DecodeStatistics {
        let head = try PageBodyHead(parsing: body)
        guard let target = block(head.block) else { throw .unknownBlock(head.block) }
        var reader = try self.reader(of: body, head: head, blockPages: target.count / pageSize)
        let statistics = try check(reader)
        guard let memory = target.baseAddress else { return statistics }
        var position = 0
        while let page = try reader.next() {
            numbers[position] = page.number
            position += 1
            let destination = memory + page.number * pageSize
            switch page.content {
            case .zero:
                // Writing zeros to a page that is zero would only make it resident.
                if !ck_page_is_zero(destination) {
                    destination.initializeMemory(as: UInt8.self, repeating: 0, count: pageSize)
                }
            case .raw(let bytes):
                destination.copyMemory(from: bytes, byteCount: pageSize)
            case .delta(let lines, let masks, let words):
                ck_page_scatter(destination, lines, masks.assumingMemoryBound(to: UInt8.self), words)
            case .copy(let source):
                // That page has its new contents by now, whichever kind it is of.
                destination.copyMemory(from: memory + numbers[source] * pageSize, byteCount: pageSize)
            }
        }
        return statistics
    }

    /// Checks a body as `decode` does, and applies nothing: what a standby does before it says that it holds a body.
    /// - Parameter blockLength: the bytes of the block with an index, or nil when there is none.
    public mutating func validate(
        body: UnsafeRawBufferPointer, blockLength: (UInt16) -> Int?
    ) throws(CodecError) -> DecodeStatistics {
        let head = try PageBodyHead(parsing: body)
        guard let length = blockLength(head.block) else { throw .unknownBlock(head.block) }
        return try check(try self.reader(of: body, head: head, blockPages: length / pageSize))
    }

    /// A reader of the body; the page stream lies in it if it is not compressed, else in `scratch`.
    private mutating func reader(
        of body: UnsafeRawBufferPointer, head: PageBodyHead, blockPages: Int
    ) throws(CodecError) -> PageStreamReader {
        let end = body.count - head.stored * pageSize
        let payload = UnsafeRawBufferPointer(rebasing: body[PageBody.headSize..<end])
        let stored = UnsafeRawBufferPointer(rebasing: body[end...])
        var stream = payload
        if head.codec == .none {
            guard payload.count == head.stream else {
                throw .malformed(
                    part: "pages body", offset: 8,
                    reason: "a page stream of \(head.stream) bytes is announced, \(payload.count) are there")
            }
        } else {
            scratch.reset()
            let target = scratch.reserve(head.stream)
            try decompressor.decompress(payload, with: head.codec, to: target, length: head.stream)
            scratch.commit(head.stream)
            stream = scratch.bytes
        }
        return PageStreamReader(stream, stored: stored, head: head, blockPages: blockPages)
    }

    private func check(_ reader: PageStreamReader) throws(CodecError) -> DecodeStatistics {
        var statistics = DecodeStatistics()
        var reader = reader
        while let page = try reader.next() {
            statistics.pages += 1
            switch page.content {
            case .zero: statistics.zero += 1
            case .raw: statistics.raw += 1
            case .delta: statistics.delta += 1
            case .copy: statistics.copied += 1
            }
        }
        return statistics
    }
}
