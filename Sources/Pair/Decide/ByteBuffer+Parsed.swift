import Model
import NIOCore
import Wire

extension ByteBuffer {
    /// The body of a frame that came from the `sender`, parsed; what is not valid breaks the protocol.
    func parsed<Value>(
        from sender: String, _ parse: (UnsafeRawBufferPointer) throws(WireError) -> Value
    ) throws(SessionError) -> Value {
        do {
            return try withUnsafeReadableBytes { try parse($0) }
        } catch {
            throw SessionError(.protocolBroken, "the \(sender) sent a frame that is not valid: \(error)")
        }
    }
}
