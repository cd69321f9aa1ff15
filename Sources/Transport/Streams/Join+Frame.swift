import Model
import NIOCore
import Wire

extension Join {
    /// Of a connection's first frame.
    init(_ header: FrameHeader, _ body: ByteBuffer) throws(LinkError.Cause) {
        guard header.type == .join else { throw .unexpected("a further connection began with a \(header.type) frame") }
        let parsed = body.withUnsafeReadableBytes { bytes in
            Result { () throws(WireError) in try Join(parsing: bytes) }
        }
        do throws(WireError) { self = try parsed.get() } catch { throw .header(error) }
    }

    /// As a whole frame.
    var frame: ByteBuffer {
        var sink = ByteSink(capacity: 64)
        sink.append(frame: self, epoch: .firstCopy, sequence: 0)
        return ByteBuffer(bytes: sink.bytes)
    }
}
