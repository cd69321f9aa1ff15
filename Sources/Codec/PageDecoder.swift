import CKernels
import Model

/// What one body held.
public struct DecodeStatistics: Sendable, Equatable {
    /// Pages in the body; the sum of the three kinds below.
    public var pages = 0
    public var zero = 0
    public var delta = 0
    public var raw = 0

    public init() {}

    public static func += (sum: inout DecodeStatistics, part: DecodeStatistics) {
        sum.pages += part.pages
        sum.zero += part.zero
        sum.delta += part.delta
        sum.raw += part.raw
    }
}

/// Reads the bodies of `pages` frames. One per thread; its scratch memory is at most 4.2 MiB and is kept.
public struct PageDecoder: ~Copyable {
    /// The most pages that a body may hold.
    public static let pagesMax = 1024

    private var decompressor = Decompressor()
    private var scratch = ByteSink(capacity: 0, capacityMax: PageBody.stageOneMax)

    public init() {}

    /// Applies a body to the memory of its block. Throws before anything is written when the body is not a valid one.
    /// - Parameters:
    ///   - body: the frame's body; nobody may write it meanwhile.
    ///   - block: the memory of the block with an index, or nil when there is none. Its length is a multiple of 4096.
    public mutating func decode(
        body: UnsafeRawBufferPointer, block: (UInt16) -> UnsafeMutableRawBufferPointer?
    ) throws(CodecError) -> DecodeStatistics {
        let head = try PageBodyHead(parsing: body)
        guard let target = block(head.block) else { throw .unknownBlock(head.block) }
        let stream = try pageStream(of: body, head: head)
        let statistics = try check(stream, head: head, blockPages: target.count / pageSize)
        guard let memory = target.baseAddress else { return statistics }
        var reader = PageStreamReader(stream, pages: head.pageCount, blockPages: target.count / pageSize)
        while let page = try reader.next() {
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
        return try check(try pageStream(of: body, head: head), head: head, blockPages: length / pageSize)
    }

    /// The page stream, where it lies if it is not compressed, else in `scratch`.
    private mutating func pageStream(
        of body: UnsafeRawBufferPointer, head: PageBodyHead
    ) throws(CodecError) -> UnsafeRawBufferPointer {
        let payload = UnsafeRawBufferPointer(rebasing: body[PageBody.headSize...])
        guard head.codec != .none else {
            guard payload.count == head.stageOneLength else {
                throw .malformed(
                    part: "pages body", offset: 8,
                    reason: "a page stream of \(head.stageOneLength) bytes is announced, \(payload.count) are there")
            }
            return payload
        }
        scratch.reset()
        let target = scratch.reserve(head.stageOneLength)
        try decompressor.decompress(payload, with: head.codec, to: target, length: head.stageOneLength)
        scratch.commit(head.stageOneLength)
        return scratch.bytes
    }

    private func check(
        _ stream: UnsafeRawBufferPointer, head: PageBodyHead, blockPages: Int
    ) throws(CodecError) -> DecodeStatistics {
        var statistics = DecodeStatistics()
        var reader = PageStreamReader(stream, pages: head.pageCount, blockPages: blockPages)
        while let page = try reader.next() {
            statistics.pages += 1
            switch page.content {
            case .zero: statistics.zero += 1
            case .raw: statistics.raw += 1
            case .delta: statistics.delta += 1
            }
        }
        return statistics
    }
}
