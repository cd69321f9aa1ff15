/// What a client asks for, as it came.
struct NBDRequest {
    var flags: UInt16
    var type: UInt16
    var cookie: UInt64
    /// In bytes, unchecked.
    var offset: UInt64
    var length: UInt32

    /// Nil when the client has hung up between two requests.
    static func next(_ socket: inout NBDSocket) throws -> NBDRequest? {
        guard let bytes = try socket.take(NBD.requestSize) else { return nil }
        guard bytes.number(at: 0, as: UInt32.self) == NBD.requestMagic else {
            throw NBDConversation.Ending.brokenByClient("a request does not start with its magic number")
        }
        return NBDRequest(
            flags: bytes.number(at: 4), type: bytes.number(at: 6), cookie: bytes.number(at: 8),
            offset: bytes.number(at: 16), length: bytes.number(at: 24))
    }

    /// Of a disk of so many bytes.
    func isInside(_ size: UInt64) -> Bool { offset <= size && UInt64(length) <= size - offset }
}
