import NIOCore
import Wire

/// Cuts a stream of bytes into frames. A header is checked as a whole before any of its body is buffered; a body is
/// checked against its checksum before it is handed out.
///
/// Total: any bytes give frames or one error, after which the decoder must not be used again.
struct FrameDecoder {
    private var chunk = ByteBuffer()
    /// The first bytes of a header that came in two chunks.
    private var partial = ByteBuffer()
    private var header: FrameHeader?
    private var body = ByteBuffer()

    /// True when the stream may end here.
    var isBetweenFrames: Bool { header == nil && partial.readableBytes == 0 && chunk.readableBytes == 0 }

    mutating func feed(_ bytes: ByteBuffer) {
        if chunk.readableBytes == 0 {
            chunk = bytes
        } else {
            // Only while reading is paused, so at most for what one read brings.
            chunk.writeImmutableBuffer(bytes)
        }
    }

    /// The next complete frame, or nil when more bytes are needed.
    mutating func next() throws(LinkError.Cause) -> (header: FrameHeader, body: ByteBuffer)? {
        guard let header = try nextHeader() else {
            releaseChunk()
            return nil
        }
        let length = Int(header.length)
        // A body gets storage of its own, exactly as long as it is: a session may keep it for many epochs, and a slice
        // would keep the whole chunk alive and make the TLS handler allocate a new one for each read.
        if body.readableBytes == 0, chunk.readableBytes > 0 {
            body = ByteBufferAllocator().buffer(capacity: length)
        }
        let missing = length - body.readableBytes
        if chunk.readableBytes < missing {
            body.writeBuffer(&chunk)
            releaseChunk()
            return nil
        }
        if var rest = chunk.readSlice(length: missing) { body.writeBuffer(&rest) }
        let whole = body
        self.header = nil
        body = ByteBuffer()
        guard whole.withUnsafeReadableBytes({ crc32c($0) }) == header.bodyCRC else {
            throw .body(header.type, epoch: header.epoch, sequence: header.sequence)
        }
        return (header, whole)
    }

    private mutating func nextHeader() throws(LinkError.Cause) -> FrameHeader? {
        if let header { return header }
        if partial.readableBytes == 0, let bytes = chunk.readSlice(length: FrameHeader.size) {
            header = try Self.parse(bytes)
            return header
        }
        let missing = min(FrameHeader.size - partial.readableBytes, chunk.readableBytes)
        if var piece = chunk.readSlice(length: missing) { partial.writeBuffer(&piece) }
        guard partial.readableBytes == FrameHeader.size else { return nil }
        header = try Self.parse(partial)
        partial.clear()
        return header
    }

    private static func parse(_ bytes: ByteBuffer) throws(LinkError.Cause) -> FrameHeader {
        let result: Result<FrameHeader, WireError> = bytes.withUnsafeReadableBytes { raw in
            do throws(WireError) {
                return .success(try FrameHeader(parsing: raw))
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .success(let header):
            return header
        case .failure(.versionMismatch(let ours, let theirs)):
            throw .version(ours: ours, theirs: theirs)
        case .failure(let error):
            throw .header(error)
        }
    }

    /// An emptied chunk is let go at once, so that the TLS handler can use its storage for the next read.
    private mutating func releaseChunk() {
        if chunk.readableBytes == 0 { chunk = ByteBuffer() }
    }
}
