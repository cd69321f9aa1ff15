import LinuxSystem

/// The server's side of one connection to a served disk: requests are answered in whatever order they are done.
struct ServedConversation: ~Copyable {
    private let disk: ServedDisk
    private let replies: ServedReplies
    private var socket: NBDSocket

    /// Borrows the descriptor: the caller keeps it open until this value is gone.
    init(_ disk: ServedDisk, borrowing descriptor: Int32) {
        self.disk = disk
        replies = ServedReplies(borrowing: descriptor)
        socket = NBDSocket(borrowing: descriptor)
    }

    mutating func run() throws(NBDConversation.Ending) {
        defer { replies.end() }
        do {
            guard try NBDHandshake.serve(&socket, name: "", size: disk.size) else { return }
            while let request = try NBDRequest.next(&socket) {
                if request.type == NBD.Command.disconnect { return }
                try take(request)
            }
        } catch let ending as NBDConversation.Ending {
            throw ending
        } catch let error as SystemError {
            throw .socket(error)
        } catch {
            preconditionFailure("an NBD conversation ends with \(type(of: error))")
        }
    }

    private mutating func take(_ request: NBDRequest) throws {
        let isWrite = request.type == NBD.Command.write
        guard !isWrite || request.length <= NBD.payloadMax else {
            throw NBDConversation.Ending.brokenByClient("a write of \(request.length) bytes is longer than the limit")
        }
        guard let kind = kind(request), isWrite || request.isInside(disk.size),
            request.type != NBD.Command.read || request.length <= NBD.payloadMax
        else { return refuse(request, NBD.Failure.invalid) }
        let served = ServedRequest(
            kind, offset: request.offset, length: UInt64(request.length),
            fua: request.flags & NBD.CommandFlag.fua != 0, cookie: request.cookie, to: replies)
        if isWrite {
            guard try socket.fill(served.data) else {
                throw NBDConversation.Ending.brokenByClient("the client hung up within a write")
            }
            guard request.isInside(disk.size) else { return served.answer(NBD.Failure.noSpace) }
        }
        if request.length == 0, kind != .flush { return served.answer() }
        disk.take(served)
    }

    /// Nil when it is none that can be served.
    private func kind(_ request: NBDRequest) -> ServedRequest.Kind? {
        let others = request.flags & ~NBD.CommandFlag.fua
        switch request.type {
        case NBD.Command.read where others == 0: return .read
        case NBD.Command.write where others == 0: return .write
        case NBD.Command.flush where others == 0 && request.length == 0: return .flush
        case NBD.Command.trim where others == 0: return .zero(mayUnmap: true)
        case NBD.Command.writeZeroes where others & ~NBD.CommandFlag.noHole == 0:
            return .zero(mayUnmap: others & NBD.CommandFlag.noHole == 0)
        default: return nil
        }
    }

    private func refuse(_ request: NBDRequest, _ failure: UInt32) {
        ServedRequest(.flush, offset: 0, length: 0, cookie: request.cookie, to: replies).answer(failure)
    }
}
