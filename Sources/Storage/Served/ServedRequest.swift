import LinuxSystem

/// One request of the hypervisor's to a served disk. Its bytes stay as long as anybody may still touch them: an operation that
/// does not return keeps them.
// SAFETY: `bytes` are written by one operation, the one that answers the request, or before it is shared.
final class ServedRequest: @unchecked Sendable {
    enum Kind: Sendable, Hashable {
        case read, write, flush
        case zero(mayUnmap: Bool)
    }

    let kind: Kind
    let offset: UInt64
    let length: UInt64
    let fua: Bool
    let cookie: UInt64
    /// Who is answered; hears nothing once it is gone.
    let replies: ServedReplies
    /// A reply's header, then the data of a read or a write.
    private let bytes: UnsafeMutableRawBufferPointer

    init(
        _ kind: Kind, offset: UInt64, length: UInt64, fua: Bool = false, cookie: UInt64, to replies: ServedReplies
    ) {
        self.kind = kind
        self.offset = offset
        self.length = length
        self.fua = fua
        self.cookie = cookie
        self.replies = replies
        let data = kind == .read || kind == .write ? Int(length) : 0
        bytes = .allocate(byteCount: NBD.replySize + data, alignment: 16)
    }

    deinit { bytes.deallocate() }

    /// The same once more, for a read whose first one may still write into its bytes.
    func again() -> ServedRequest {
        ServedRequest(kind, offset: offset, length: length, fua: fua, cookie: cookie, to: replies)
    }

    var range: Range<UInt64> { offset..<offset + length }

    var data: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(rebasing: bytes[NBD.replySize...]) }

    var changes: Bool { kind != .read && kind != .flush }

    /// It is done when storage has what was written.
    var flushes: Bool { kind == .flush || fua }

    var write: ImageWrite {
        if case .zero(let mayUnmap) = kind { return ImageWrite(offset: offset, length: length, mayUnmap: mayUnmap) }
        return ImageWrite(offset: offset, length: length, data: UnsafeRawPointer(data.baseAddress))
    }

    /// Answers it, once.
    func answer(_ failure: UInt32 = NBD.Failure.none) {
        bytes.putReply(failure, to: cookie)
        let sent = failure == NBD.Failure.none && kind == .read ? bytes.count : NBD.replySize
        replies.send(UnsafeRawBufferPointer(rebasing: bytes[..<sent]))
    }
}

/// The way back of one connection of the hypervisor's: one reply at a time, from whatever thread.
final class ServedReplies: Sendable {
    private struct State {
        var descriptor: Int32?
    }

    private let state: Monitor<State>

    /// Borrows the descriptor until `end`.
    init(borrowing descriptor: Int32) { state = Monitor(State(descriptor: descriptor)) }

    func send(_ bytes: UnsafeRawBufferPointer) {
        // A client that has hung up asks again over its next connection.
        state.look { state in if let descriptor = state.descriptor { try? NBDSocket.send(bytes, to: descriptor) } }
    }

    func end() { state.look { $0.descriptor = nil } }
}
