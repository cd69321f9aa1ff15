import Glibc
import LinuxSystem

/// The server's side of one connection, from the greeting to its end. Runs on a thread of its own.
///
/// Requests are carried out one after the other, in the order in which they came. Each is answered before the next is
/// read, but for those whose ticket has to come true: they are answered then. What the client sends is checked
/// before it is used; what cannot be followed any further ends the conversation, with the reason.
struct NBDConversation: ~Copyable {
    /// Why a conversation ended otherwise than by the client's wish.
    enum Ending: Error {
        case brokenByClient(String)
        case socket(SystemError)
    }

    private let export: NBDServer.Export
    private let sink: any DiskSink
    private let counters: NBDCounters
    private let threadName: String
    private let descriptor: Int32
    private var socket: NBDSocket
    /// Nil until the first reply has to wait.
    private var later: NBDLaterReplies?
    /// A reply header and up to 32 MiB of data, or the payload of a write that is longer than the socket's buffer.
    /// Reserved whole, but the kernel gives pages only as far as they are used.
    private let payload: UnsafeMutableRawBufferPointer

    /// Borrows the descriptor: the caller keeps it open until this value is gone. `threadName` names the second thread.
    init(
        _ export: NBDServer.Export, sink: any DiskSink, counters: NBDCounters, threadName: String,
        borrowing descriptor: Int32
    ) {
        self.export = export
        self.sink = sink
        self.counters = counters
        self.threadName = threadName
        self.descriptor = descriptor
        socket = NBDSocket(borrowing: descriptor)
        payload = .allocate(byteCount: NBD.replySize + NBD.payloadMax, alignment: 4096)
    }

    deinit { payload.deallocate() }

    /// Returns when every request that was carried out is answered, or cannot be.
    mutating func run() throws(Ending) {
        defer { later?.end() }
        do {
            guard try NBDHandshake.serve(&socket, name: export.name, size: export.size) else { return }
            while let request = try NBDRequest.next(&socket) {
                if request.type == NBD.Command.disconnect { return }
                try serve(request)
            }
        } catch let ending as Ending {
            throw ending
        } catch let error as SystemError {
            throw .socket(error)
        } catch {
            preconditionFailure("an NBD conversation ends with \(type(of: error))")
        }
    }

    // MARK: - Requests

    private mutating func serve(_ request: NBDRequest) throws {
        switch request.type {
        case NBD.Command.write: try write(request)
        case NBD.Command.read: try read(request)
        case NBD.Command.writeZeroes:
            let known = NBD.CommandFlag.fua | NBD.CommandFlag.noHole
            try zero(request, known: known, mayUnmap: request.flags & NBD.CommandFlag.noHole == 0)
        case NBD.Command.trim: try zero(request, known: NBD.CommandFlag.fua, mayUnmap: true)
        case NBD.Command.flush:
            counters.flushes.add(1, ordering: .relaxed)
            guard request.flags & ~NBD.CommandFlag.fua == 0 else { return try refuse(request) }
            try carryOut(request) { [sink, export] () throws(StorageError) in try sink.flush(disk: export.disk) }
        case NBD.Command.cache:
            // A hint; there is nothing to fetch ahead.
            guard request.flags == 0, request.isInside(export.size) else { return try refuse(request) }
            try reply(request, NBD.Failure.none)
        default:
            try refuse(request)
        }
    }

    private mutating func write(_ request: NBDRequest) throws {
        let length = Int(request.length)
        // What follows the request is as long as that, whatever is wrong with it; above the limit it is not even read.
        guard length <= NBD.payloadMax else {
            throw Ending.brokenByClient("a write of \(length) bytes is longer than the limit of \(NBD.payloadMax)")
        }
        let data: UnsafeRawBufferPointer
        if length <= NBDSocket.bufferSize {
            guard let taken = try socket.take(length) else { return try endedInside(request) }
            data = taken
        } else {
            let target = UnsafeMutableRawBufferPointer(rebasing: payload[..<length])
            guard try socket.fill(target) else { return try endedInside(request) }
            data = UnsafeRawBufferPointer(target)
        }
        guard request.flags & ~NBD.CommandFlag.fua == 0 else { return try refuse(request) }
        guard request.isInside(export.size) else { return try refuse(request, with: NBD.Failure.noSpace) }
        counters.writes.add(1, ordering: .relaxed)
        counters.bytesWritten.add(length, ordering: .relaxed)
        guard length > 0 else { return try reply(request, NBD.Failure.none) }
        let fua = request.flags & NBD.CommandFlag.fua != 0
        try carryOut(request) { [sink, export] () throws(StorageError) in
            try sink.write(disk: export.disk, offset: request.offset, data: data, fua: fua)
        }
    }

    private func read(_ request: NBDRequest) throws {
        let length = Int(request.length)
        guard request.flags & ~NBD.CommandFlag.fua == 0, length <= NBD.payloadMax, request.isInside(export.size) else {
            return try refuse(request)
        }
        counters.reads.add(1, ordering: .relaxed)
        let data = UnsafeMutableRawBufferPointer(rebasing: payload[NBD.replySize..<NBD.replySize + length])
        var failure = NBD.Failure.none
        if length > 0 {
            failure = counters.outcome { () throws(StorageError) in
                try sink.read(disk: export.disk, offset: request.offset, into: data)
            }
        }
        guard failure == NBD.Failure.none else { return try reply(request, failure) }
        counters.bytesRead.add(length, ordering: .relaxed)
        try reply(request, failure, dataLength: length)
    }

    private mutating func zero(_ request: NBDRequest, known: UInt16, mayUnmap: Bool) throws {
        guard request.flags & ~known == 0 else { return try refuse(request) }
        guard request.isInside(export.size) else { return try refuse(request, with: NBD.Failure.noSpace) }
        counters.zeroes.add(1, ordering: .relaxed)
        guard request.length > 0 else { return try reply(request, NBD.Failure.none) }
        let fua = request.flags & NBD.CommandFlag.fua != 0
        try carryOut(request) { [sink, export] () throws(StorageError) in
            try sink.zero(
                disk: export.disk, offset: request.offset, length: UInt64(request.length), mayUnmap: mayUnmap, fua: fua)
        }
    }

    private func endedInside(_ request: NBDRequest) throws {
        throw Ending.brokenByClient("the client hung up within a write of \(request.length) bytes")
    }

    private func refuse(_ request: NBDRequest, with failure: UInt32 = NBD.Failure.invalid) throws {
        counters.failures.add(1, ordering: .relaxed)
        counters.lastFailure.withLock {
            $0 = """
                request \(request.type) with flags \(request.flags) for \(request.length) bytes at \(request.offset) \
                is not one that the export “\(export.name)” of \(export.size) bytes can serve
                """
        }
        try reply(request, failure)
    }

    /// Replies when the sink has done it: now, or once the ticket has come true.
    private mutating func carryOut(_ request: NBDRequest, _ work: () throws(StorageError) -> DiskTicket) throws {
        var ticket = DiskTicket.done
        let failure = counters.outcome { () throws(StorageError) in ticket = try work() }
        guard failure == NBD.Failure.none, ticket != .done else { return try reply(request, failure) }
        let replies =
            later
            ?? NBDLaterReplies(threadName: "\(threadName)-late", sink: sink, counters: counters, borrowing: descriptor)
        later = replies
        replies.push(cookie: request.cookie, ticket)
    }

    /// Sends the reply, and `dataLength` bytes that lie behind the place of its header.
    private func reply(_ request: NBDRequest, _ failure: UInt32, dataLength: Int = 0) throws {
        payload.putReply(failure, to: request.cookie)
        let reply = UnsafeRawBufferPointer(rebasing: payload[..<(NBD.replySize + dataLength)])
        if let later { try later.send(reply) } else { try socket.send(reply) }
    }
}
