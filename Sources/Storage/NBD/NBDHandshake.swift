import LinuxSystem

/// The server's half of the fixed new-style handshake: options in, replies out.
struct NBDHandshake {
    enum Outcome: Equatable {
        case goOn
        /// The client chose the export; requests follow.
        case transmission
        case close
    }

    /// What is sent first, unasked.
    static let greeting: [UInt8] = {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: NBD.magic)
        bytes.append(bigEndian: NBD.optionMagic)
        bytes.append(bigEndian: NBD.Handshake.fixedNewStyle | NBD.Handshake.noZeroes)
        return bytes
    }()

    private let name: [UInt8]
    private let size: UInt64
    private let noZeroes: Bool

    /// Nil when the client's flags are none that this server can serve.
    init?(clientFlags: UInt32, name: String, size: UInt64) {
        let known = UInt32(NBD.Handshake.fixedNewStyle | NBD.Handshake.noZeroes)
        guard clientFlags & ~known == 0, clientFlags & UInt32(NBD.Handshake.fixedNewStyle) != 0 else { return nil }
        self.name = Array(name.utf8)
        self.size = size
        noZeroes = clientFlags & UInt32(NBD.Handshake.noZeroes) != 0
    }

    /// The whole handshake on a socket. True once the client has chosen the export.
    static func serve(_ socket: inout NBDSocket, name: String, size: UInt64) throws -> Bool {
        try socket.send(greeting)
        guard let flags = try socket.take(4) else { return false }
        let clientFlags = flags.number(at: 0, as: UInt32.self)
        guard let handshake = NBDHandshake(clientFlags: clientFlags, name: name, size: size) else {
            throw NBDConversation.Ending.brokenByClient("the client's handshake flags \(clientFlags) are not known")
        }
        var reply: [UInt8] = []
        for _ in 0..<NBD.optionsMax {
            guard let header = try socket.take(NBD.optionHeaderSize) else { return false }
            guard header.number(at: 0, as: UInt64.self) == NBD.optionMagic else {
                throw NBDConversation.Ending.brokenByClient("an option does not start with its magic number")
            }
            let option: UInt32 = header.number(at: 8)
            let length: UInt32 = header.number(at: 12)
            guard length <= NBD.optionDataMax else {
                throw NBDConversation.Ending.brokenByClient("option \(option) has \(length) bytes of data")
            }
            guard let data = try socket.take(Int(length)) else { return false }
            reply.removeAll(keepingCapacity: true)
            let outcome = handshake.answer(option, data, into: &reply)
            try socket.send(reply)
            switch outcome {
            case .goOn: continue
            case .transmission: return true
            case .close: return false
            }
        }
        throw NBDConversation.Ending.brokenByClient("the client sent more than \(NBD.optionsMax) options")
    }

    /// Answers one option whose data (at most `NBD.optionDataMax` bytes) has arrived.
    func answer(_ option: UInt32, _ data: UnsafeRawBufferPointer, into reply: inout [UInt8]) -> Outcome {
        switch option {
        case NBD.Option.exportName:
            // The one option that cannot be answered with an error.
            guard isOurs(data) else { return .close }
            reply.append(bigEndian: size)
            reply.append(bigEndian: NBD.Transmission.offered)
            if !noZeroes { reply.append(contentsOf: repeatElement(0, count: 124)) }
            return .transmission
        case NBD.Option.abort:
            append(NBD.OptionReply.ack, to: option, into: &reply)
            return .close
        case NBD.Option.list:
            guard data.isEmpty else {
                append(NBD.OptionReply.invalid, to: option, into: &reply)
                return .goOn
            }
            var server: [UInt8] = []
            server.append(bigEndian: UInt32(name.count))
            server.append(contentsOf: name)
            append(NBD.OptionReply.server, to: option, server, into: &reply)
            append(NBD.OptionReply.ack, to: option, into: &reply)
            return .goOn
        case NBD.Option.info, NBD.Option.go:
            return describe(option, data, &reply)
        default:
            append(NBD.OptionReply.unsupported, to: option, into: &reply)
            return .goOn
        }
    }

    private func describe(_ option: UInt32, _ data: UnsafeRawBufferPointer, _ reply: inout [UInt8]) -> Outcome {
        guard data.count >= 6 else {
            append(NBD.OptionReply.invalid, to: option, into: &reply)
            return .goOn
        }
        let nameLength = Int(data.number(at: 0, as: UInt32.self))
        guard nameLength <= NBD.nameMax, nameLength <= data.count - 6 else {
            append(NBD.OptionReply.invalid, to: option, into: &reply)
            return .goOn
        }
        let count = Int(data.number(at: 4 + nameLength, as: UInt16.self))
        guard data.count == 6 + nameLength + 2 * count else {
            append(NBD.OptionReply.invalid, to: option, into: &reply)
            return .goOn
        }
        guard isOurs(UnsafeRawBufferPointer(rebasing: data[4..<4 + nameLength])) else {
            append(NBD.OptionReply.unknownExport, to: option, into: &reply)
            return .goOn
        }
        var export: [UInt8] = []
        export.append(bigEndian: NBD.Information.export)
        export.append(bigEndian: size)
        export.append(bigEndian: NBD.Transmission.offered)
        append(NBD.OptionReply.info, to: option, export, into: &reply)

        let wanted = (0..<count).map { data.number(at: 6 + nameLength + 2 * $0, as: UInt16.self) }
        if wanted.contains(NBD.Information.name) {
            var information: [UInt8] = []
            information.append(bigEndian: NBD.Information.name)
            information.append(contentsOf: name)
            append(NBD.OptionReply.info, to: option, information, into: &reply)
        }
        // Sent unasked too: it does no harm, and a client that looks knows the limits.
        var sizes: [UInt8] = []
        sizes.append(bigEndian: NBD.Information.blockSize)
        sizes.append(bigEndian: NBD.blockSizeMin)
        sizes.append(bigEndian: NBD.blockSizePreferred)
        sizes.append(bigEndian: UInt32(NBD.payloadMax))
        append(NBD.OptionReply.info, to: option, sizes, into: &reply)
        append(NBD.OptionReply.ack, to: option, into: &reply)
        return option == NBD.Option.go ? .transmission : .goOn
    }

    /// The empty name stands for the default export, of which there is one.
    private func isOurs(_ wanted: UnsafeRawBufferPointer) -> Bool {
        wanted.isEmpty || wanted.elementsEqual(name)
    }

    private func append(
        _ type: UInt32, to option: UInt32, _ data: [UInt8] = [], into reply: inout [UInt8]
    ) {
        reply.append(bigEndian: NBD.optionReplyMagic)
        reply.append(bigEndian: option)
        reply.append(bigEndian: type)
        reply.append(bigEndian: UInt32(data.count))
        reply.append(contentsOf: data)
    }
}
