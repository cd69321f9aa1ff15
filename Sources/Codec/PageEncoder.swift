import CKernels
import Glibc
import Model

/// What became of the pages of one or more `encode` calls.
public struct EncodeStatistics: Sendable, Equatable {
    /// Pages looked at; the sum of the five kinds below.
    public var pages = 0
    public var zero = 0
    /// Pages that the standby holds already; they are not in the body.
    public var unchanged = 0
    public var delta = 0
    /// Sent whole, whether a compressor saw them or not.
    public var raw = 0
    /// Pages that hold what another page of their body holds.
    public var copied = 0
    /// Bytes of the page streams before the second stage.
    public var stageOneBytes = 0
    /// Bytes of the bodies.
    public var bytes = 0
    /// Bytes of page stream that went out compressed, and what became of them.
    public var compressedStageOneBytes = 0
    public var compressedBytes = 0
    /// The time that the second stage took, in nanoseconds, whether its result was used or not.
    public var compressionTime: UInt64 = 0

    public init() {}

    public static func += (sum: inout EncodeStatistics, part: EncodeStatistics) {
        sum.pages += part.pages
        sum.zero += part.zero
        sum.unchanged += part.unchanged
        sum.delta += part.delta
        sum.raw += part.raw
        sum.copied += part.copied
        sum.stageOneBytes += part.stageOneBytes
        sum.bytes += part.bytes
        sum.compressedStageOneBytes += part.compressedStageOneBytes
        sum.compressedBytes += part.compressedBytes
        sum.compressionTime += part.compressionTime
    }
}

/// Makes the bodies of `pages` frames. One per thread; it allocates at first use and not again.
public struct PageEncoder: ~Copyable {
    /// How to encode; the defaults suit a LAN.
    public struct Options: Sendable, Equatable {
        /// zstd's level; negative ones are faster and compress less.
        public var zstdLevel: Int32 = 1
        /// Its level for short page streams, where nobody feels the time that it takes.
        public var zstdLevelOfShort: Int32 = 3

        public init() {}
    }

    /// The most pages of one call; their body stays below 4 MiB.
    public static let pagesMax = 512
    /// The longest body of a call in bytes.
    public static let bodyMax = PageBody.headSize + pagesMax * (pageSize + PageBody.tagMax)

    /// Page streams shorter than this are not worth a second stage.
    private static let compressionMin = 64
    /// Page streams up to so many bytes are short.
    private static let shortMax = 64 << 10
    /// Page streams of at least this many bytes, and of more than half of their pages' bytes, are sampled first.
    private static let sampledMin = 64 << 10
    /// So many pages before its turn the address of a page's reference is looked up; measured, 2 to 4 are alike.
    private static let pagesAhead = 4
    /// A page with more changed words than this is compared with the others of its body.
    private static let heavyWords = 256

    private let options: Options
    private var compressor: Compressor
    private var scratch = ByteSink(capacity: 64 << 10)
    private var pages = SeenPages()
    /// The list, until it is appended to the contents.
    private let list = UnsafeMutableRawPointer.allocate(byteCount: pagesMax * PageBody.entryMax, alignment: 64)
    /// Stored pages by where they lie, until they are appended.
    private var stored: [UnsafeRawPointer] = []

    public init(_ options: Options = Options()) {
        self.options = options
        compressor = Compressor(level: options.zstdLevel)
        stored.reserveCapacity(Self.pagesMax)
    }

    deinit { list.deallocate() }

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
        reference: UnsafeMutableRawBufferPointer?, known: inout PageBitmap, codec: Compression,
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
            PageBody.headSize + pageNumbers.count * (pageSize + PageBody.entryMax) + Int(CK_SLACK))
        var out = Output(contents: room + PageBody.headSize, list: list)
        self.pages.removeAll()
        stored.removeAll(keepingCapacity: true)
        withUnsafeTemporaryAllocation(byteCount: Int(CK_LINES), alignment: 64) { masks in
            for index in pageNumbers.indices {
                let number = pageNumbers[index]
                precondition(UInt64(number) >= out.next, "page numbers rise strictly within a body")
                let page = source + index * pageSize
                guard let reference = reference?.baseAddress, let masks = masks.baseAddress else {
                    encodeWhole(page, number, reference: nil, codec, &out, &statistics)
                    continue
                }
                let place = reference + Int(number) * pageSize
                guard known.contains(Int(number)) else {
                    known.insert(Int(number))
                    encodeWhole(page, number, reference: place, codec, &out, &statistics)
                    continue
                }
                let last = pageNumbers.count - 1
                let next = reference + Int(pageNumbers[min(index + 1, last)]) * pageSize
                let later = reference + Int(pageNumbers[min(index + Self.pagesAhead, last)]) * pageSize
                let lines = ck_page_difference(page, place, masks.assumingMemoryBound(to: UInt8.self), next, later)
                encodeChanged(page, number, reference: place, lines, masks, codec, &out, &statistics)
            }
        }

        guard out.pages > 0 else { return statistics }
        let contents = out.contents - (room + PageBody.headSize)
        let listed = out.list - UnsafeMutableRawPointer(list)
        out.contents.copyMemory(from: list, byteCount: listed)
        sink.commit(PageBody.headSize + contents + listed)
        statistics.stageOneBytes = contents + listed
        let began = codec == .none ? 0 : now()
        let used = compress(from: start + PageBody.headSize, pages: out.pages, with: codec, in: &sink)
        if codec != .none { statistics.compressionTime = now() - began }
        if used != .none {
            statistics.compressedStageOneBytes = contents + listed
            statistics.compressedBytes = sink.count - start - PageBody.headSize
        }
        for page in stored { sink.append(contentsOf: UnsafeRawBufferPointer(start: page, count: pageSize)) }
        sink.overwrite(at: start, with: block)
        sink.overwrite(at: start + 2, with: used.rawValue)
        sink.overwrite(at: start + 3, with: UInt8(0))
        sink.overwrite(at: start + 4, with: UInt32(out.pages))
        sink.overwrite(at: start + 8, with: UInt32(contents))
        sink.overwrite(at: start + 12, with: UInt32(listed))
        sink.overwrite(at: start + 16, with: UInt32(stored.count))
        statistics.bytes = sink.count - start
        return statistics
    }

    /// Where the next page goes.
    private struct Output {
        var contents: UnsafeMutableRawPointer
        var list: UnsafeMutableRawPointer
        /// Pages so far, and the least number that the next one may have.
        var pages = 0
        var next: UInt64 = 0

        @inline(__always)
        mutating func begin(_ number: UInt32, _ kind: PageKind) {
            var rest = (UInt64(number) - next) << 3 | UInt64(kind.rawValue)
            while rest >= 0x80 {
                list.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, as: UInt8.self)
                list += 1
                rest >>= 7
            }
            list.storeBytes(of: UInt8(rest), as: UInt8.self)
            list += 1
            next = UInt64(number) + 1
            pages += 1
        }
    }

    /// A page whose old contents are known. Nothing is written when they are the new ones, too.
    @inline(__always)
    private mutating func encodeChanged(
        _ page: UnsafeRawPointer, _ number: UInt32, reference: UnsafeMutableRawPointer, _ lines: UInt64,
        _ masks: UnsafeMutableRawPointer, _ codec: Compression, _ out: inout Output,
        _ statistics: inout EncodeStatistics
    ) {
        guard lines != 0 else {
            statistics.unchanged += 1
            return
        }
        var words = 0
        for group in 0..<8 { words += masks.load(fromByteOffset: 8 * group, as: UInt64.self).nonzeroBitCount }
        // A page that becomes zero changed all that was not; testing it costs a line or two otherwise.
        if ck_page_is_zero(page) || 8 + lines.nonzeroBitCount + 8 * words >= pageSize {
            return encodeWhole(page, number, reference: reference, codec, &out, &statistics)
        }
        if words > Self.heavyWords, let source = pages.find(page, as: out.pages) {
            reference.copyMemory(from: page, byteCount: pageSize)
            return encodeCopy(of: source, number, &out, &statistics)
        }
        statistics.delta += 1
        out.begin(number, .delta)
        out.list.storeBytes(of: lines.littleEndian, as: UInt64.self)
        out.contents += ck_page_take(
            page, reference, lines, masks.assumingMemoryBound(to: UInt8.self),
            (out.list + 8).assumingMemoryBound(to: UInt8.self), out.contents)
        out.list += 8 + lines.nonzeroBitCount
    }

    /// A page that travels whole, or as zero, or as a copy.
    @inline(__always)
    private mutating func encodeWhole(
        _ page: UnsafeRawPointer, _ number: UInt32, reference: UnsafeMutableRawPointer?, _ codec: Compression,
        _ out: inout Output, _ statistics: inout EncodeStatistics
    ) {
        if ck_page_is_zero(page) {
            reference?.initializeMemory(as: UInt8.self, repeating: 0, count: pageSize)
            statistics.zero += 1
            return out.begin(number, .zero)
        }
        if let source = pages.find(page, as: out.pages) {
            reference?.copyMemory(from: page, byteCount: pageSize)
            return encodeCopy(of: source, number, &out, &statistics)
        }
        statistics.raw += 1
        if codec != .none, ck_page_looks_random(page) {
            reference?.copyMemory(from: page, byteCount: pageSize)
            stored.append(page)
            return out.begin(number, .stored)
        }
        out.begin(number, .raw)
        if let reference {
            ck_page_copy(page, reference, out.contents)
        } else {
            out.contents.copyMemory(from: page, byteCount: pageSize)
        }
        out.contents += pageSize
    }

    private func encodeCopy(
        of source: Int, _ number: UInt32, _ out: inout Output, _ statistics: inout EncodeStatistics
    ) {
        statistics.copied += 1
        out.begin(number, .copy)
        out.list.storeBytes(of: UInt16(source).littleEndian, as: UInt16.self)
        out.list += 2
    }

    /// Replaces the page stream at the end of `sink`, which begins at `start`, by its compression, if that is shorter.
    private mutating func compress(
        from start: Int, pages: Int, with codec: Compression, in sink: inout ByteSink
    ) -> Compression {
        let stream = UnsafeRawBufferPointer(rebasing: sink.bytes[start...])
        guard codec != .none, stream.count >= Self.compressionMin else { return .none }
        compressor.setLevel(stream.count <= Self.shortMax ? options.zstdLevelOfShort : options.zstdLevel)
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

/// CLOCK_MONOTONIC in nanoseconds.
private func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// The pages of one body that changed much, to find another one with the same contents.
private struct SeenPages: ~Copyable {
    private struct Slot {
        var page: UnsafeRawPointer?
        var position: UInt16 = 0
    }
    /// Twice the pages of a body, so that few of them fall on one slot; the later one has it.
    private static let slots = 1024
    private let table = UnsafeMutablePointer<Slot>.allocate(capacity: slots)

    init() { table.initialize(repeating: Slot(), count: Self.slots) }
    deinit { table.deallocate() }

    mutating func removeAll() { table.update(repeating: Slot(), count: Self.slots) }

    /// The position in the body of a page with the same contents; where there is none, `page` is remembered as `position`.
    @inline(__always)
    mutating func find(_ page: UnsafeRawPointer, as position: Int) -> Int? {
        let slot = Int(ck_page_sample(page)) & (Self.slots - 1)
        if let other = table[slot].page, memcmp(other, page, pageSize) == 0 { return Int(table[slot].position) }
        table[slot] = Slot(page: page, position: UInt16(position))
        return nil
    }
}
