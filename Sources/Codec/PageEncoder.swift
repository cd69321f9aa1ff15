import CKernels
import Model

/// What became of the pages of one or more `encode` calls.
public struct EncodeStatistics: Sendable, Equatable {
    /// Pages looked at; the sum of the four kinds below.
    public var pages = 0
    public var zero = 0
    /// Pages that the standby holds already; they are not in the body.
    public var unchanged = 0
    public var delta = 0
    public var raw = 0
    /// Bytes of the page streams before the second stage.
    public var stageOneBytes = 0
    /// Bytes of the bodies.
    public var bytes = 0
    /// Bytes of page stream that went out compressed.
    public var compressedStageOneBytes = 0

    public init() {}

    public static func += (sum: inout EncodeStatistics, part: EncodeStatistics) {
        sum.pages += part.pages
        sum.zero += part.zero
        sum.unchanged += part.unchanged
        sum.delta += part.delta
        sum.raw += part.raw
        sum.stageOneBytes += part.stageOneBytes
        sum.bytes += part.bytes
        sum.compressedStageOneBytes += part.compressedStageOneBytes
    }
}

/// Makes the bodies of `pages` frames. One per thread; it allocates at first use and not again.
public struct PageEncoder: ~Copyable {
    /// How to encode; the defaults suit a LAN.
    public struct Options: Sendable, Equatable {
        /// zstd's level; negative ones are faster and compress less.
        public var zstdLevel: Int32 = 1

        public init() {}
    }

    /// The most pages of one call; their body stays below 4 MiB.
    public static let pagesMax = 512
    /// The longest body of a call in bytes.
    public static let bodyMax = PageBody.headSize + pagesMax * (pageSize + PageBody.rawTagMax)

    /// Page streams shorter than this are not worth a second stage.
    private static let secondStageMin = 64
    /// Page streams of at least this many bytes, and of more than half of their pages' bytes, are sampled first.
    private static let sampledMin = 64 << 10

    private var compressor: Compressor
    private var scratch = ByteSink(capacity: 64 << 10)

    public init(_ options: Options = Options()) {
        compressor = Compressor(level: options.zstdLevel)
    }

    /// Appends one body with those of `pages` that the standby does not hold; appends nothing when there are none.
    ///
    /// - Parameters:
    ///   - block: the RAM block's index.
    ///   - pageNumbers: at most `pagesMax`, strictly rising.
    ///   - pages: their contents in the same order, 4096 bytes each; a private copy that nobody writes meanwhile.
    ///   - reference: the whole block as the standby holds it once all earlier bodies are applied. It is brought up to
    ///     date here, so after a body that never reached the standby it is no longer true: `known` must then be emptied.
    ///     Nil when no copy is kept; every page is then sent whole.
    ///   - known: which pages of `reference` are true. A standby whose memory is all zero can be described by a fresh
    ///     mapping and a full bitmap: zero pages are then not sent at all.
    ///   - codec: the second stage to try; it is left out where it gains nothing.
    /// - Returns: what became of the pages, and the bytes appended.
    public mutating func encode(
        block: UInt16, pageNumbers: UnsafeBufferPointer<UInt32>, pages: UnsafeRawBufferPointer,
        reference: UnsafeMutableRawBufferPointer?, known: inout PageBitmap, codec: SecondStage,
        into sink: inout ByteSink
    ) -> EncodeStatistics {
        precondition(pageNumbers.count <= Self.pagesMax, "a body holds at most PageEncoder.pagesMax pages")
        precondition(pages.count == pageNumbers.count * pageSize, "4096 bytes are given for each page")
        if let reference {
            precondition(reference.count >= known.pages * pageSize, "the reference covers the pages of its bitmap")
        }
        var statistics = EncodeStatistics()
        statistics.pages = pageNumbers.count
        guard let source = pages.baseAddress else { return statistics }

        let start = sink.count
        let room = sink.reserve(
            PageBody.headSize + pageNumbers.count * (pageSize + PageBody.rawTagMax) + Int(CK_SLACK))
        var out = room + PageBody.headSize
        var next: UInt64 = 0
        withUnsafeTemporaryAllocation(byteCount: Int(CK_LINES), alignment: 64) { masks in
            for index in pageNumbers.indices {
                let number = pageNumbers[index]
                precondition(UInt64(number) >= next, "page numbers rise strictly within a body")
                let written = encodePage(
                    source + index * pageSize, number: Int(number), gap: UInt64(number) - next, reference: reference,
                    known: &known, masks: masks.baseAddress, statistics: &statistics, out: out)
                if written > 0 {
                    out += written
                    next = UInt64(number) + 1
                }
            }
        }

        let emitted = statistics.pages - statistics.unchanged
        guard emitted > 0 else { return statistics }
        let length = out - (room + PageBody.headSize)
        sink.commit(PageBody.headSize + length)
        statistics.stageOneBytes = length
        let used = compress(from: start + PageBody.headSize, pages: emitted, with: codec, in: &sink)
        if used != .none { statistics.compressedStageOneBytes = length }
        sink.overwrite(at: start, with: block)
        sink.overwrite(at: start + 2, with: used.rawValue)
        sink.overwrite(at: start + 3, with: UInt8(0))
        sink.overwrite(at: start + 4, with: UInt32(emitted))
        sink.overwrite(at: start + 8, with: UInt32(length))
        statistics.bytes = sink.count - start
        return statistics
    }

    /// Writes one page of the stream to `out` and returns its bytes: 0 when the standby holds the page already.
    @inline(__always)
    private func encodePage(
        _ page: UnsafeRawPointer, number: Int, gap: UInt64, reference: UnsafeMutableRawBufferPointer?,
        known: inout PageBitmap, masks: UnsafeMutableRawPointer?, statistics: inout EncodeStatistics,
        out: UnsafeMutableRawPointer
    ) -> Int {
        guard let reference = reference?.baseAddress.map({ $0 + number * pageSize }), let masks else {
            return encodeWhole(page, gap: gap, reference: nil, statistics: &statistics, out: out)
        }
        guard known.contains(number) else {
            known.insert(number)
            return encodeWhole(page, gap: gap, reference: reference, statistics: &statistics, out: out)
        }
        let masksOfLines = masks.assumingMemoryBound(to: UInt8.self)
        let lines = ck_page_difference(page, reference, masksOfLines)
        guard lines != 0 else {
            statistics.unchanged += 1
            return 0
        }
        var words = 0
        for group in 0..<8 { words += masks.load(fromByteOffset: 8 * group, as: UInt64.self).nonzeroBitCount }
        let length = 8 + lines.nonzeroBitCount + 8 * words
        // A page that becomes zero changed all that was not; testing it costs one line otherwise.
        guard length < pageSize, !ck_page_is_zero(page) else {
            return encodeWhole(page, gap: gap, reference: reference, statistics: &statistics, out: out)
        }
        let tagLength = writeTag(gap, .delta, to: out)
        var at = out + tagLength
        at.storeBytes(of: lines.littleEndian, as: UInt64.self)
        at += 8
        var left = lines
        while left != 0 {
            at.storeBytes(of: masksOfLines[left.trailingZeroBitCount], as: UInt8.self)
            at += 1
            left &= left - 1
        }
        ck_page_gather(page, lines, masksOfLines, at)
        ck_page_copy_lines(reference, page, lines)
        statistics.delta += 1
        return tagLength + length
    }

    /// Writes a page as zero or raw.
    @inline(__always)
    private func encodeWhole(
        _ page: UnsafeRawPointer, gap: UInt64, reference: UnsafeMutableRawPointer?, statistics: inout EncodeStatistics,
        out: UnsafeMutableRawPointer
    ) -> Int {
        reference?.copyMemory(from: page, byteCount: pageSize)
        if ck_page_is_zero(page) {
            statistics.zero += 1
            return writeTag(gap, .zero, to: out)
        }
        statistics.raw += 1
        let tagLength = writeTag(gap, .raw, to: out)
        (out + tagLength).copyMemory(from: page, byteCount: pageSize)
        return tagLength + pageSize
    }

    @inline(__always)
    private func writeTag(_ gap: UInt64, _ kind: PageKind, to out: UnsafeMutableRawPointer) -> Int {
        var rest = gap << 2 | UInt64(kind.rawValue)
        var length = 0
        while rest >= 0x80 {
            out.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: length, as: UInt8.self)
            rest >>= 7
            length += 1
        }
        out.storeBytes(of: UInt8(rest), toByteOffset: length, as: UInt8.self)
        return length + 1
    }

    /// Replaces the page stream at the end of `sink`, which begins at `start`, by its compression, if that is shorter.
    private mutating func compress(
        from start: Int, pages: Int, with codec: SecondStage, in sink: inout ByteSink
    ) -> SecondStage {
        let stream = UnsafeRawBufferPointer(rebasing: sink.bytes[start...])
        guard codec != .none, stream.count >= Self.secondStageMin else { return .none }
        scratch.reset()
        let target = scratch.reserve(stream.count)
        if stream.count >= Self.sampledMin, stream.count > pages * pageSize / 2,
            !compressor.sampleShrinks(stream, with: codec, scratch: target)
        {
            return .none
        }
        guard let written = compressor.compress(stream, with: codec, to: target, room: stream.count - 1) else {
            return .none
        }
        scratch.commit(written)
        sink.truncate(to: start)
        sink.append(contentsOf: scratch.bytes)
        return codec
    }
}
