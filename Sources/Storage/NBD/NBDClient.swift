import Glibc
import LinuxSystem
import Synchronization

/// The agent's own NBD client, for images that qemu-nbd opens for it. Callers on several threads take turns.
final class NBDClient: Sendable {
    let size: UInt64
    private let peer: String
    private let flags: UInt16
    private let lengthMax: Int

    private struct Channel: ~Copyable, Sendable {
        let descriptor: OwnedDescriptor
        var socket: NBDSocket
        var cookie: UInt64 = 0
        /// Requests of a batch that were not sent yet.
        var output: [UInt8] = []
        /// Set once the conversation cannot go on.
        var failure: StorageError?

        mutating func flushOutput() throws(SystemError) {
            if output.isEmpty { return }
            try socket.send(output)
            output.removeAll(keepingCapacity: true)
        }
    }
    private let channel: Mutex<Channel>
    /// Counts the writes that were answered.
    let progress = Atomic<UInt64>(0)

    /// Below 4 GiB, and a multiple of any block size.
    private static let zeroMax: UInt64 = 1 << 30
    /// Longest option reply that is read; qemu-nbd's are below 100 bytes.
    private static let replyDataMax = 65536

    /// Shakes hands on a connected socket and chooses the export. `peer` names the other side in errors.
    init(_ descriptor: consuming OwnedDescriptor, export: String, peer: String) throws(StorageError) {
        var socket = NBDSocket(borrowing: descriptor.number)
        let terms: Terms
        do {
            terms = try Self.shakeHands(&socket, export: export)
        } catch let error as StorageError {
            throw error
        } catch let fault as Fault {
            throw .nbd(peer: peer, reason: fault.reason)
        } catch {
            throw .nbd(peer: peer, reason: "\(error)")
        }
        self.peer = peer
        size = terms.size
        flags = terms.flags
        guard flags & NBD.Transmission.sendWriteZeroes != 0 else {
            throw .nbd(peer: peer, reason: "it cannot write zeros")
        }
        lengthMax = terms.lengthMax
        channel = Mutex(Channel(descriptor: descriptor, socket: socket))
    }

    // MARK: - Requests

    func read(offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(StorageError) {
        var done = 0
        while done < target.count {
            let part = UnsafeMutableRawBufferPointer(rebasing: target[done..<min(done + lengthMax, target.count)])
            try request(NBD.Command.read, offset: offset + UInt64(done), length: part.count, reading: part)
            done += part.count
        }
    }

    func write(offset: UInt64, _ data: UnsafeRawBufferPointer) throws(StorageError) {
        try write([ImageWrite(offset: offset, length: UInt64(data.count), data: data.baseAddress)])
    }

    func flush() throws(StorageError) {
        guard flags & NBD.Transmission.sendFlush != 0 else { return }
        try request(NBD.Command.flush, offset: 0, length: 0)
    }

    /// Says goodbye and hangs up; there is no answer to wait for.
    func disconnect() {
        channel.withLock { channel in
            if channel.failure == nil {
                try? channel.socket.send(Self.header(NBD.Command.disconnect, 0, channel.cookie, 0, 0))
                channel.failure = .closed(path: peer)
            }
            _ = shutdown(channel.descriptor.number, Int32(SHUT_RDWR))
        }
    }

    private func request(
        _ type: UInt16, offset: UInt64, length: Int, reading target: UnsafeMutableRawBufferPointer? = nil
    ) throws(StorageError) {
        let failure = channel.withLock { channel -> StorageError? in
            if let failure = channel.failure { return failure }
            do {
                try channel.socket.send(Self.header(type, 0, channel.cookie, offset, UInt32(length)))
                let (cookie, errorNumber) = try Self.takeReply(&channel)
                guard cookie == channel.cookie else {
                    throw Fault("it answered request \(cookie), not \(channel.cookie)")
                }
                channel.cookie += 1
                guard errorNumber == 0 else { return refusal(errorNumber, type, offset, UInt64(length)) }
                if let target, !(try channel.socket.fill(target)) {
                    throw Fault("it ended the connection within an answer")
                }
                return nil
            } catch {
                return giveUp(error, &channel)
            }
        }
        if let failure { throw failure }
    }

    private func refusal(_ errorNumber: UInt32, _ type: UInt16, _ offset: UInt64, _ length: UInt64) -> StorageError {
        if errorNumber == NBD.Failure.noSpace {
            return .outOfSpace(path: peer, offset: offset, bytes: length)
        }
        let operation =
            switch type {
            case NBD.Command.read: "read \(length) bytes at \(offset) of"
            case NBD.Command.flush: "flush"
            default: "write \(length) bytes at \(offset) of"
            }
        return .failed(
            path: peer, operation: operation, reason: String(cString: strerror(Int32(bitPattern: errorNumber))))
    }

    static func header(
        _ type: UInt16, _ flags: UInt16, _ cookie: UInt64, _ offset: UInt64, _ length: UInt32
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(NBD.requestSize)
        bytes.append(bigEndian: NBD.requestMagic)
        bytes.append(bigEndian: flags)
        bytes.append(bigEndian: type)
        bytes.append(bigEndian: cookie)
        bytes.append(bigEndian: offset)
        bytes.append(bigEndian: length)
        return bytes
    }

    // MARK: - Batches

    /// A request of a batch that was sent and not answered yet.
    private struct Pending {
        var cookie: UInt64
        var write: ImageWrite
    }
    /// As many requests as qemu-nbd works on at once.
    private static let pendingMax = 16
    private static let outputMax = 128 << 10

    /// Carries out writes and zeros as if one after the other, with up to `pendingMax` under way: those that overlap wait
    /// for each other. When it throws, any of them may have been carried out, and none is under way any more.
    func write(_ writes: ArraySlice<ImageWrite>) throws(StorageError) {
        let failure = channel.withLock { channel -> StorageError? in
            if let failure = channel.failure { return failure }
            var pending: [Pending] = []
            pending.reserveCapacity(Self.pendingMax)
            do {
                var refused: StorageError?
                for write in writes where refused == nil {
                    var rest = write
                    while rest.length > 0, refused == nil {
                        let piece = rest.removeFirst(write.data == nil ? Self.zeroMax : UInt64(lengthMax))
                        while refused == nil,
                            pending.count == Self.pendingMax || pending.contains(where: { $0.write.overlaps(piece) })
                        {
                            refused = try finishOne(&channel, &pending)
                        }
                        if refused == nil { try send(piece, &channel, &pending) }
                    }
                }
                while !pending.isEmpty {
                    let last = try finishOne(&channel, &pending)
                    refused = refused ?? last
                }
                return refused
            } catch {
                return giveUp(error, &channel)
            }
        }
        if let failure { throw failure }
    }

    private func send(_ piece: ImageWrite, _ channel: inout Channel, _ pending: inout [Pending]) throws {
        let (type, flags) =
            piece.data != nil
            ? (NBD.Command.write, 0) : (NBD.Command.writeZeroes, piece.mayUnmap ? 0 : NBD.CommandFlag.noHole)
        channel.output += Self.header(type, flags, channel.cookie, piece.offset, UInt32(piece.length))
        pending.append(Pending(cookie: channel.cookie, write: piece))
        channel.cookie += 1
        guard let data = piece.data else { return }
        let bytes = UnsafeRawBufferPointer(start: data, count: Int(piece.length))
        if channel.output.count + bytes.count <= Self.outputMax {
            channel.output += bytes
            return
        }
        try channel.flushOutput()
        try channel.socket.send(bytes)
    }

    /// Takes one answer, in whatever order they come; the error that it carries.
    private func finishOne(_ channel: inout Channel, _ pending: inout [Pending]) throws -> StorageError? {
        try channel.flushOutput()
        let (cookie, errorNumber) = try Self.takeReply(&channel)
        guard let index = pending.firstIndex(where: { $0.cookie == cookie }) else {
            throw Fault("it answered request \(cookie), which was not asked")
        }
        let write = pending.remove(at: index).write
        progress.add(1, ordering: .relaxed)
        return errorNumber == 0
            ? nil
            : refusal(
                errorNumber, write.data == nil ? NBD.Command.writeZeroes : NBD.Command.write, write.offset, write.length
            )
    }

    /// The conversation's place is lost; nothing that follows could be trusted.
    private func giveUp(_ error: any Error, _ channel: inout Channel) -> StorageError {
        let failure = StorageError.nbd(peer: peer, reason: (error as? Fault)?.reason ?? "\(error)")
        channel.failure = failure
        return failure
    }

    private static func takeReply(_ channel: inout Channel) throws -> (cookie: UInt64, errorNumber: UInt32) {
        try takeReply(&channel.socket)
    }

    static func takeReply(_ socket: inout NBDSocket) throws -> (cookie: UInt64, errorNumber: UInt32) {
        guard let reply = try socket.take(NBD.replySize) else { throw Fault("it ended the connection") }
        guard reply.number(at: 0, as: UInt32.self) == NBD.simpleReplyMagic else {
            throw Fault("a reply does not start with its magic number")
        }
        return (reply.number(at: 8), reply.number(at: 4))
    }

    // MARK: - Handshake

    struct Terms {
        var size: UInt64
        var flags: UInt16
        var lengthMax: Int
    }

    struct Fault: Error {
        var reason: String
        init(_ reason: String) { self.reason = reason }
    }

    static func shakeHands(_ socket: inout NBDSocket, export: String) throws -> Terms {
        guard let greeting = try socket.take(18) else { throw Fault("it ended the connection before its greeting") }
        guard greeting.number(at: 0, as: UInt64.self) == NBD.magic,
            greeting.number(at: 8, as: UInt64.self) == NBD.optionMagic
        else { throw Fault("its greeting is not that of a new-style NBD server") }
        let serverFlags: UInt16 = greeting.number(at: 16)
        guard serverFlags & NBD.Handshake.fixedNewStyle != 0 else { throw Fault("it is no fixed new-style server") }

        var hello: [UInt8] = []
        let both = serverFlags & (NBD.Handshake.fixedNewStyle | NBD.Handshake.noZeroes)
        hello.append(bigEndian: UInt32(both))
        hello.append(bigEndian: NBD.optionMagic)
        hello.append(bigEndian: NBD.Option.go)
        hello.append(bigEndian: UInt32(4 + export.utf8.count + 4))
        hello.append(bigEndian: UInt32(export.utf8.count))
        hello.append(contentsOf: export.utf8)
        hello.append(bigEndian: UInt16(1))
        hello.append(bigEndian: NBD.Information.blockSize)
        try socket.send(hello)
        return try readTerms(&socket, export: export)
    }

    private static func readTerms(_ socket: inout NBDSocket, export: String) throws -> Terms {
        var terms: Terms?
        var lengthMax = NBD.payloadMax
        for _ in 0..<NBD.optionsMax {
            guard let header = try socket.take(NBD.optionReplyHeaderSize) else {
                throw Fault("it ended the connection within the handshake")
            }
            guard header.number(at: 0, as: UInt64.self) == NBD.optionReplyMagic,
                header.number(at: 8, as: UInt32.self) == NBD.Option.go
            else { throw Fault("its handshake reply is not one to what was asked") }
            let type: UInt32 = header.number(at: 12)
            let length: UInt32 = header.number(at: 16)
            guard length <= replyDataMax else { throw Fault("its handshake reply has \(length) bytes") }
            guard let data = try socket.take(Int(length)) else {
                throw Fault("it ended the connection within the handshake")
            }
            switch type {
            case NBD.OptionReply.ack:
                guard var terms else { throw Fault("it did not describe the export “\(export)”") }
                terms.lengthMax = lengthMax
                return terms
            case NBD.OptionReply.info where data.count >= 2:
                let kind: UInt16 = data.number(at: 0)
                if kind == NBD.Information.export, data.count == 12 {
                    terms = Terms(size: data.number(at: 2), flags: data.number(at: 10), lengthMax: 0)
                } else if kind == NBD.Information.blockSize, data.count == 14 {
                    lengthMax = min(lengthMax, Int(data.number(at: 10, as: UInt32.self)))
                    guard lengthMax >= 4096 else { throw Fault("it takes \(lengthMax) bytes at a time at most") }
                }
            default:
                throw Fault(
                    "it refused the export “\(export)” (reply \(type)): \(String(decoding: data, as: UTF8.self))")
            }
        }
        throw Fault("its description of the export does not end")
    }
}
