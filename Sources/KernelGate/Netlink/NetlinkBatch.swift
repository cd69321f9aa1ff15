/// A transaction of nf_tables as bytes: begin, messages, end (linux/netfilter/nfnetlink.h). The kernel carries out all of
/// it or nothing. Netlink's headers are in the host's byte order, the attributes of nf_tables big-endian.
struct NetlinkBatch {
    /// What was asked, by the number of the message; the kernel names it in its answer.
    private(set) var bytes: [UInt8] = []
    let first: UInt32
    private(set) var next: UInt32

    /// - Parameter sequence: the number of the first message; those of two batches must not overlap.
    init(sequence: UInt32) {
        first = sequence
        next = sequence
        // NFNL_MSG_BATCH_BEGIN, for the subsystem NFNL_SUBSYS_NFTABLES.
        _ = message(type: 0x10, flags: NetlinkFlag.request, family: 0, resource: 10)
    }

    /// Adds a message of nf_tables and returns its number.
    @discardableResult
    mutating func add(
        _ operation: TableOperation, flags: UInt16 = 0, _ attributes: (inout AttributeWriter) -> Void
    ) -> UInt32 {
        var writer = AttributeWriter()
        attributes(&writer)
        return message(
            type: 10 << 8 | operation.rawValue, flags: NetlinkFlag.request | flags, family: TableOperation.netdev,
            resource: 0, writer.bytes)
    }

    /// Ends the batch. Its last message is the one that the kernel acknowledges when everything was done.
    mutating func end() {
        bytes[lastStart + 6] |= UInt8(NetlinkFlag.acknowledge)
        _ = message(type: 0x11, flags: NetlinkFlag.request, family: 0, resource: 10)
    }

    /// A request of its own, outside of a transaction.
    static func single(
        _ operation: TableOperation, flags: UInt16, sequence: UInt32, _ attributes: (inout AttributeWriter) -> Void
    ) -> [UInt8] {
        var batch = NetlinkBatch(empty: sequence)
        batch.add(operation, flags: flags, attributes)
        return batch.bytes
    }

    private var lastStart = 0

    private init(empty sequence: UInt32) {
        first = sequence
        next = sequence
    }

    private mutating func message(
        type: UInt16, flags: UInt16, family: UInt8, resource: UInt16, _ attributes: [UInt8] = []
    ) -> UInt32 {
        lastStart = bytes.count
        bytes.append(host: UInt32(20 + attributes.count))
        bytes.append(host: type)
        bytes.append(host: flags)
        bytes.append(host: next)
        bytes.append(host: UInt32(0))
        // struct nfgenmsg: family, version 0, resource.
        bytes += [family, 0]
        bytes.append(big: resource)
        bytes += attributes
        defer { next += 1 }
        return next
    }
}

/// linux/netlink.h.
enum NetlinkFlag {
    static let request: UInt16 = 0x1
    static let acknowledge: UInt16 = 0x4
    static let dump: UInt16 = 0x300
    static let create: UInt16 = 0x400
    static let append: UInt16 = 0x800
}

/// enum nf_tables_msg_types. The `destroy` kinds, since Linux 6.3, are content when there is nothing to delete.
enum TableOperation: UInt16 {
    case newTable = 0
    case newChain = 3
    case getChain = 4
    case newRule = 6
    case deleteRule = 8
    case newSet = 9
    case newElement = 12
    case getElement = 13
    case deleteElement = 14
    case destroyTable = 26
    case destroyChain = 27
    case destroyElement = 30

    /// NFPROTO_NETDEV.
    static let netdev: UInt8 = 5
}

/// Attributes: length, type, payload, padded to 4 bytes.
struct AttributeWriter {
    private(set) var bytes: [UInt8] = []

    mutating func put(_ type: UInt16, _ payload: [UInt8]) {
        bytes.append(host: UInt16(4 + payload.count))
        bytes.append(host: type)
        bytes += payload
        while bytes.count % 4 != 0 { bytes.append(0) }
    }

    mutating func put(_ type: UInt16, _ text: String) { put(type, Array(text.utf8) + [0]) }
    mutating func put(_ type: UInt16, _ number: UInt32) { put(type, withUnsafeBytes(of: number.bigEndian, Array.init)) }
    mutating func put(_ type: UInt16, _ number: UInt64) { put(type, withUnsafeBytes(of: number.bigEndian, Array.init)) }

    /// Attributes within an attribute (NLA_F_NESTED).
    mutating func nest(_ type: UInt16, _ body: (inout AttributeWriter) -> Void) {
        var inner = AttributeWriter()
        body(&inner)
        put(type | 0x8000, inner.bytes)
    }
}

extension [UInt8] {
    mutating func append<Number: FixedWidthInteger>(host number: Number) {
        Swift.withUnsafeBytes(of: number) { append(contentsOf: $0) }
    }
    mutating func append<Number: FixedWidthInteger>(big number: Number) { append(host: number.bigEndian) }
}
