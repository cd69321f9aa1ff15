import CLZ4
import CZstd
import Codec
import Model
import TestBed

/// One way to carry pages, over an arena.
protocol CodecContender: AnyObject {
    var name: String { get }
    /// Encodes all pages and returns the bytes of the bodies; the block is up to date afterwards where the codec needs it.
    /// With `keeping`, the bodies stay for `decode`.
    func encode(_ arena: CodecArena, keeping: Bool) -> Int
    /// Applies what was kept.
    func decode(_ arena: CodecArena) throws
}

/// The codec of the product, with the second stage given, or as the agent chooses it for a link.
final class OurCodec: CodecContender {
    enum Stage {
        case fixed(Compression)
        /// Bytes a second.
        case chosen(link: Double)
    }
    let name: String
    private let stage: Stage
    private var encoder = PageEncoder()
    private var decoder = PageDecoder()
    private var sink = ByteSink(capacity: PageEncoder.bodyMax + 64)
    private var rates = CompressionRates()
    private var kept: [[UInt8]] = []

    init(_ name: String, _ stage: Stage) {
        self.name = name
        self.stage = stage
    }

    func encode(_ arena: CodecArena, keeping: Bool) -> Int {
        var known = PageBitmap(pages: arena.blockPages)
        known.insertAll()
        var bytes = 0
        var current = Compression.lz4
        var streamBytes = 0
        kept.removeAll()
        for (index, batch) in arena.batches.enumerated() {
            switch stage {
            case .fixed(let stage): current = stage
            case .chosen(let link):
                current = Compression.choose(
                    linkBytesPerSecond: link, rates: rates, stageOneBytes: streamBytes, epoch: UInt64(index) + 1,
                    current: current)
            }
            sink.reset()
            let statistics = arena.numbers[batch].withUnsafeBufferPointer { numbers in
                encoder.encode(
                    block: 0, pageNumbers: numbers,
                    pages: UnsafeRawBufferPointer(start: arena.new(batch.lowerBound), count: batch.count * pageSize),
                    reference: arena.block, known: &known, codec: current, into: &sink)
            }
            streamBytes = statistics.stageOneBytes
            if statistics.compressedStageOneBytes > 0 {
                rates.record(
                    current, input: statistics.compressedStageOneBytes, output: statistics.compressedBytes,
                    nanoseconds: statistics.compressionTime)
            }
            bytes += sink.count
            if keeping { kept.append(Array(sink.bytes)) }
        }
        return bytes
    }

    func decode(_ arena: CodecArena) throws {
        let block = arena.block
        for body in kept where !body.isEmpty {
            try body.withUnsafeBytes { body in _ = try decoder.decode(body: body) { _ in block } }
        }
    }
}

/// A compressor on whole pages, 2 MiB at once: what a product does that knows nothing of the pages' past. The libraries
/// are the ones that the product links.
final class RawCodec: CodecContender {
    enum Library {
        case lz4
        case zstd(level: Int32)
    }
    let name: String
    private let library: Library
    private let lz4 = UnsafeMutableRawPointer.allocate(byteCount: Int(LZ4_sizeofState()), alignment: 8)
    private let compressor = ZSTD_createCCtx()
    private let decompressor = ZSTD_createDCtx()
    private let room = 3 << 20
    private let target = UnsafeMutableRawPointer.allocate(byteCount: 3 << 20, alignment: 64)
    private var kept: [[UInt8]] = []

    init(_ name: String, _ library: Library) {
        self.name = name
        self.library = library
        target.initializeMemory(as: UInt8.self, repeating: 1, count: room)
        if case .zstd(let level) = library { ZSTD_CCtx_setParameter(compressor, ZSTD_c_compressionLevel, level) }
    }

    deinit {
        ZSTD_freeCCtx(compressor)
        ZSTD_freeDCtx(decompressor)
        lz4.deallocate()
        target.deallocate()
    }

    func encode(_ arena: CodecArena, keeping: Bool) -> Int {
        kept.removeAll()
        var bytes = 0
        for batch in arena.batches {
            let source = arena.new(batch.lowerBound)
            let length = batch.count * pageSize
            let written: Int
            switch library {
            case .lz4:
                written = Int(
                    LZ4_compress_fast_extState(
                        lz4, source.assumingMemoryBound(to: CChar.self), target.assumingMemoryBound(to: CChar.self),
                        Int32(length), Int32(room), 1))
            case .zstd: written = ZSTD_compress2(compressor, target, room, source, length)
            }
            bytes += written
            if keeping { kept.append(Array(UnsafeRawBufferPointer(start: target, count: written))) }
        }
        return bytes
    }

    func decode(_ arena: CodecArena) throws {
        for (body, batch) in zip(kept, arena.batches) {
            let length = batch.count * pageSize
            let read = body.withUnsafeBytes { body in
                switch library {
                case .lz4:
                    Int(
                        LZ4_decompress_safe(
                            body.baseAddress!.assumingMemoryBound(to: CChar.self),
                            target.assumingMemoryBound(to: CChar.self), Int32(body.count), Int32(length)))
                case .zstd: ZSTD_decompressDCtx(decompressor, target, length, body.baseAddress, body.count)
                }
            }
            guard read == length else { throw BedError("\(name) does not give back what it took.") }
            for page in batch {
                arena.place(page).copyMemory(from: target + (page - batch.lowerBound) * pageSize, byteCount: pageSize)
            }
        }
    }
}

/// Each page copied over its old contents: the least that anyone does who keeps them.
final class CopyOnly: CodecContender {
    let name = "memcpy"

    func encode(_ arena: CodecArena, keeping: Bool) -> Int {
        for page in 0..<arena.pages { arena.place(page).copyMemory(from: arena.new(page), byteCount: pageSize) }
        return arena.rawBytes
    }

    func decode(_ arena: CodecArena) throws { _ = encode(arena, keeping: false) }
}

/// QEMU's page delta, page by page, and the copy into its cache that keeps the old contents. What QEMU puts around each
/// page in its stream is not counted, and zero pages, which it tells apart before, cost nothing here.
final class XbzrleCodec: CodecContender {
    let name = "xbzrle"
    private let xbzrle: Xbzrle
    private let target = UnsafeMutableRawPointer.allocate(byteCount: CodecArena.batch * pageSize, alignment: 64)
    private var kept: [UInt8] = []
    /// Of each page that is not zero; negative for one that is kept whole.
    private var lengths: [Int32] = []

    init(_ xbzrle: Xbzrle) {
        self.xbzrle = xbzrle
        target.initializeMemory(as: UInt8.self, repeating: 1, count: CodecArena.batch * pageSize)
    }
    deinit { target.deallocate() }

    func encode(_ arena: CodecArena, keeping: Bool) -> Int {
        kept.removeAll()
        lengths.removeAll()
        var bytes = 0
        for batch in arena.batches {
            var at = 0
            for page in batch where !arena.isZero[page] {
                let (old, new) = (arena.place(page), arena.new(page))
                let written = xbzrle.encode(old, new, Int32(pageSize), target + at, Int32(pageSize))
                if written < 0 { (target + at).copyMemory(from: new, byteCount: pageSize) }
                if written != 0 { old.copyMemory(from: new, byteCount: pageSize) }
                at += written < 0 ? pageSize : Int(written)
                if keeping { lengths.append(written) }
            }
            bytes += at
            if keeping { kept.append(contentsOf: UnsafeRawBufferPointer(start: target, count: at)) }
        }
        return bytes
    }

    func decode(_ arena: CodecArena) throws {
        var index = 0
        var at = 0
        let (lengths, kept, xbzrle) = (lengths, kept, xbzrle)
        try kept.withUnsafeBytes { kept in
            for page in 0..<arena.pages {
                let target = arena.place(page)
                if arena.isZero[page] {
                    target.initializeMemory(as: UInt8.self, repeating: 0, count: pageSize)
                    continue
                }
                let written = lengths[index]
                let source = UnsafeMutableRawPointer(mutating: kept.baseAddress! + at)
                if written < 0 {
                    target.copyMemory(from: source, byteCount: pageSize)
                } else if xbzrle.decode(source, written, target, Int32(pageSize)) < 0 {
                    throw BedError("xbzrle does not read what it wrote.")
                }
                at += written < 0 ? pageSize : Int(written)
                index += 1
            }
        }
    }
}
