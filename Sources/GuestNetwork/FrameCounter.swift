/// Counts whole frames in the redirector's byte stream (big-endian 32-bit length, then that many bytes), however the
/// stream is cut into reads.
public struct FrameCounter: Sendable {
    /// QEMU's own bound: NET_BUFSIZE (include/net/net.h) is 4096 + 65536.
    public static let frameMax = 4096 + 65536

    /// Bytes of the length field that were seen so far (0-3), and their value.
    private var lengthBytes = 0
    private var length = 0
    /// Bytes of the frame's body that are still to come.
    private var remaining = 0
    /// Set once the stream made no sense; nothing is counted afterwards.
    public private(set) var problem: String?

    public init() {}

    /// Feeds the next bytes; returns how many frames ended in them.
    public mutating func count(_ bytes: UnsafeRawBufferPointer) -> Int {
        var frames = 0
        var index = 0
        while index < bytes.count, problem == nil {
            if remaining > 0 {
                let taken = min(remaining, bytes.count - index)
                remaining -= taken
                index += taken
                if remaining == 0 { frames += 1 }
                continue
            }
            length = length << 8 | Int(bytes[index])
            lengthBytes += 1
            index += 1
            if lengthBytes == 4 {
                if length == 0 || length > Self.frameMax {
                    problem = "a frame of \(length) bytes (1 to \(Self.frameMax) are possible)"
                }
                remaining = length
                length = 0
                lengthBytes = 0
            }
        }
        return frames
    }

    /// Bytes that the present frame still lacks; 0 between two frames.
    public var missing: Int { lengthBytes == 0 ? remaining : 4 - lengthBytes }
}
