import CLZ4
import CZstd
import Model

/// The compression of a page stream. The numbers are those on the wire.
public enum Compression: UInt8, Sendable, CaseIterable, CustomStringConvertible {
    case none = 0
    case lz4 = 1
    case zstd = 2

    public var description: String {
        switch self {
        case .none: "none"
        case .lz4: "LZ4"
        case .zstd: "zstd"
        }
    }
}

/// Owns the state of both compressors, which is made once and used again for every call.
struct Compressor: ~Copyable {
    private let lz4: UnsafeMutableRawPointer
    private let zstd: OpaquePointer

    /// - Parameter level: zstd's, 1 the fastest of the positive ones.
    init(level: Int32) {
        lz4 = .allocate(byteCount: Int(LZ4_sizeofState()), alignment: 8)
        guard let context = ZSTD_createCCtx() else { preconditionFailure("no memory for a zstd context") }
        zstd = context
        // The length stands in front of the data already, and the frame has a checksum.
        ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level)
        ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, 0)
        ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 0)
    }

    /// Another level for what follows.
    mutating func setLevel(_ level: Int32) { ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level) }

    deinit {
        ZSTD_freeCCtx(zstd)
        lz4.deallocate()
    }

    /// Compresses to `target`, which holds `room` bytes; nil when that is not enough, or for `none`.
    /// - Parameter prefix: for zstd, earlier contents to refer to; the decompressor needs the same.
    mutating func compress(
        _ source: UnsafeRawBufferPointer, with codec: Compression, to target: UnsafeMutableRawPointer, room: Int,
        prefix: UnsafeRawBufferPointer? = nil
    ) -> Int? {
        guard let start = source.baseAddress, room > 0 else { return nil }
        switch codec {
        case .none:
            return nil
        case .lz4:
            let written = LZ4_compress_fast_extState(
                lz4, start.assumingMemoryBound(to: CChar.self), target.assumingMemoryBound(to: CChar.self),
                Int32(source.count), Int32(room), 1)
            return written > 0 ? Int(written) : nil
        case .zstd:
            if let prefix {
                // The window must span both, or the start of a large prefix is out of reach.
                let window = max(10, min(27, Int.bitWidth - (source.count + prefix.count).leadingZeroBitCount))
                ZSTD_CCtx_setParameter(zstd, ZSTD_c_windowLog, Int32(window))
                ZSTD_CCtx_refPrefix(zstd, prefix.baseAddress, prefix.count)
            }
            defer { if prefix != nil { ZSTD_CCtx_setParameter(zstd, ZSTD_c_windowLog, 0) } }
            let written = ZSTD_compress2(zstd, target, room, start, source.count)
            return ZSTD_isError(written) == 0 ? written : nil
        }
    }

    /// Whether compressing is worth its time, told from four slices that make a sixteenth of `source`: they must shrink
    /// by a sixteenth. Needs room for a slice, `source.count / 64` bytes, at `scratch`.
    mutating func sampleShrinks(
        _ source: UnsafeRawBufferPointer, with codec: Compression, scratch: UnsafeMutableRawPointer
    ) -> Bool {
        let slice = source.count / 64
        var compressed = 0
        for part in 0..<4 {
            let start = part * (source.count / 4)
            let piece = UnsafeRawBufferPointer(rebasing: source[start..<start + slice])
            compressed += compress(piece, with: codec, to: scratch, room: slice) ?? slice
        }
        return compressed <= slice * 4 * 15 / 16
    }
}

/// Owns the state of the decompressors.
struct Decompressor: ~Copyable {
    private let zstd: OpaquePointer

    init() {
        guard let context = ZSTD_createDCtx() else { preconditionFailure("no memory for a zstd context") }
        zstd = context
    }

    deinit { ZSTD_freeDCtx(zstd) }

    /// Decompresses to exactly `length` bytes at `target`, and never writes beyond them.
    mutating func decompress(
        _ source: UnsafeRawBufferPointer, with codec: Compression, to target: UnsafeMutableRawPointer, length: Int,
        prefix: UnsafeRawBufferPointer? = nil
    ) throws(CodecError) {
        guard let start = source.baseAddress, source.count > 0, source.count <= Int(Int32.max) else {
            throw .decompression(codec: codec, reason: "\(source.count) bytes are not a compressed stream")
        }
        switch codec {
        case .none:
            throw .decompression(codec: codec, reason: "it is not compressed")
        case .lz4:
            let written = LZ4_decompress_safe(
                start.assumingMemoryBound(to: CChar.self), target.assumingMemoryBound(to: CChar.self),
                Int32(source.count), Int32(length))
            guard written >= 0 else {
                throw .decompression(
                    codec: codec, reason: "it is damaged, or longer than the \(length) bytes announced")
            }
            guard Int(written) == length else { throw Self.wrongLength(codec, Int(written), announced: length) }
        case .zstd:
            if let prefix { ZSTD_DCtx_refPrefix(zstd, prefix.baseAddress, prefix.count) }
            let written = ZSTD_decompressDCtx(zstd, target, length, start, source.count)
            guard ZSTD_isError(written) == 0 else {
                throw .decompression(codec: codec, reason: String(cString: ZSTD_getErrorName(written)))
            }
            guard written == length else { throw Self.wrongLength(codec, written, announced: length) }
        }
    }

    private static func wrongLength(_ codec: Compression, _ found: Int, announced: Int) -> CodecError {
        .decompression(codec: codec, reason: "it holds \(found) bytes, announced were \(announced)")
    }
}
