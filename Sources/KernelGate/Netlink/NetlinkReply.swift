/// What the kernel sends back: messages in one datagram. What does not fit its own length is left out.
struct NetlinkReply {
    enum Kind: Equatable {
        /// 0 is an acknowledgement.
        case error(Int32)
        case done
        case answer(UInt16)
    }

    var kind: Kind
    var sequence: UInt32
    /// What follows the message's own header (16 bytes and 4 of nfgenmsg).
    var attributes: [UInt16: [UInt8]]

    static func parse(_ datagram: [UInt8]) -> [NetlinkReply] {
        var replies: [NetlinkReply] = []
        var rest = datagram[...]
        while rest.count >= 16 {
            let length = Int(rest.host(UInt32.self, at: 0))
            guard length >= 16, length <= rest.count else { break }
            let message = rest.prefix(length)
            let type = message.host(UInt16.self, at: 4)
            let sequence = message.host(UInt32.self, at: 8)
            switch type {
            case 2, 3:  // NLMSG_ERROR, NLMSG_DONE
                let errno = length >= 20 ? -Int32(bitPattern: message.host(UInt32.self, at: 16)) : 0
                let kind: Kind = type == 3 && errno == 0 ? .done : .error(errno)
                replies.append(NetlinkReply(kind: kind, sequence: sequence, attributes: [:]))
            default:
                replies.append(
                    NetlinkReply(
                        kind: .answer(type), sequence: sequence, attributes: attributes(message.dropFirst(20))))
            }
            rest = rest.dropFirst((length + 3) & ~3)
        }
        return replies
    }

    /// The attributes in `bytes` by their type; of those that come more than once, the last.
    static func attributes(_ bytes: some Collection<UInt8>) -> [UInt16: [UInt8]] {
        var found: [UInt16: [UInt8]] = [:]
        for (type, payload) in list(bytes) { found[type] = payload }
        return found
    }

    static func list(_ bytes: some Collection<UInt8>) -> [(type: UInt16, payload: [UInt8])] {
        var found: [(UInt16, [UInt8])] = []
        var rest = Array(bytes)[...]
        while rest.count >= 4 {
            let length = Int(rest.host(UInt16.self, at: 0))
            guard length >= 4, length <= rest.count else { break }
            // The two upper bits say "nested" and "in network order".
            found.append((rest.host(UInt16.self, at: 2) & 0x3fff, Array(rest.prefix(length).dropFirst(4))))
            rest = rest.dropFirst((length + 3) & ~3)
        }
        return found
    }
}

extension ArraySlice<UInt8> {
    /// A number in the host's byte order, which is little-endian on the only architecture that there is.
    func host<Number: FixedWidthInteger & UnsignedInteger>(_ type: Number.Type, at offset: Int) -> Number {
        var number: Number = 0
        for index in (0..<MemoryLayout<Number>.size).reversed() {
            number = number << 8 | Number(self[startIndex + offset + index])
        }
        return number
    }
}

extension [UInt8] {
    /// A big-endian number that fills all of it; nil for another length.
    func big<Number: FixedWidthInteger & UnsignedInteger>(_ type: Number.Type) -> Number? {
        guard count == MemoryLayout<Number>.size else { return nil }
        return reduce(0) { $0 << 8 | Number($1) }
    }

    /// Text up to the first zero.
    var text: String { String(decoding: prefix { $0 != 0 }, as: UTF8.self) }
}
