/// The numbers of the NBD protocol, as in doc/proto.md of https://github.com/NetworkBlockDevice/nbd. All big-endian.
enum NBD {
    static let magic: UInt64 = 0x4e42_444d_4147_4943  // "NBDMAGIC"
    static let optionMagic: UInt64 = 0x4948_4156_454f_5054  // "IHAVEOPT"
    static let optionReplyMagic: UInt64 = 0x0003_e889_0455_65a9
    static let requestMagic: UInt32 = 0x2560_9513
    static let simpleReplyMagic: UInt32 = 0x6744_6698

    static let requestSize = 28
    static let replySize = 16
    static let optionHeaderSize = 16
    static let optionReplyHeaderSize = 20
    /// A name is at most this long, by the specification.
    static let nameMax = 4096
    /// Enough for a name and any list of information requests; longer option data ends the conversation.
    static let optionDataMax = 8192
    /// A client that haggles longer than this wants no disk.
    static let optionsMax = 64

    static let blockSizeMin: UInt32 = 1
    static let blockSizePreferred: UInt32 = 4096
    /// The longest read or write; advertised, and enforced.
    static let payloadMax = 32 << 20

    /// Handshake flags of both sides.
    enum Handshake {
        static let fixedNewStyle: UInt16 = 1
        static let noZeroes: UInt16 = 2
    }

    enum Option {
        static let exportName: UInt32 = 1
        static let abort: UInt32 = 2
        static let list: UInt32 = 3
        static let info: UInt32 = 6
        static let go: UInt32 = 7
    }

    enum OptionReply {
        static let ack: UInt32 = 1
        static let server: UInt32 = 2
        static let info: UInt32 = 3
        static let errorBit: UInt32 = 1 << 31
        static let unsupported = errorBit | 1
        static let invalid = errorBit | 3
        static let unknownExport = errorBit | 6
        static let tooBig = errorBit | 9
    }

    enum Information {
        static let export: UInt16 = 0
        static let name: UInt16 = 1
        static let blockSize: UInt16 = 3
    }

    /// What an export can do.
    enum Transmission {
        static let hasFlags: UInt16 = 1 << 0
        static let sendFlush: UInt16 = 1 << 2
        static let sendFUA: UInt16 = 1 << 3
        static let sendTrim: UInt16 = 1 << 5
        static let sendWriteZeroes: UInt16 = 1 << 6
        static let canMultiConnection: UInt16 = 1 << 8
        static let sendCache: UInt16 = 1 << 10
        static let offered =
            hasFlags | sendFlush | sendFUA | sendTrim | sendWriteZeroes | canMultiConnection | sendCache
    }

    enum Command {
        static let read: UInt16 = 0
        static let write: UInt16 = 1
        static let disconnect: UInt16 = 2
        static let flush: UInt16 = 3
        static let trim: UInt16 = 4
        static let cache: UInt16 = 5
        static let writeZeroes: UInt16 = 6
    }

    enum CommandFlag {
        static let fua: UInt16 = 1 << 0
        static let noHole: UInt16 = 1 << 1
    }

    /// The protocol's own error numbers, which are Linux's.
    enum Failure {
        static let none: UInt32 = 0
        static let io: UInt32 = 5
        static let invalid: UInt32 = 22
        static let noSpace: UInt32 = 28
    }
}

extension UnsafeRawBufferPointer {
    /// The big-endian number at `offset`, which must lie inside.
    func number<T: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: T.Type = T.self) -> T {
        T(bigEndian: loadUnaligned(fromByteOffset: offset, as: type))
    }
}

extension UnsafeMutableRawBufferPointer {
    /// Writes a big-endian number at `offset`, where there must be room.
    func put<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, at offset: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: offset, as: T.self)
    }

    /// Writes the header of a simple reply at the front.
    func putReply(_ failure: UInt32, to cookie: UInt64) {
        put(NBD.simpleReplyMagic, at: 0)
        put(failure, at: 4)
        put(cookie, at: 8)
    }
}

extension [UInt8] {
    mutating func append<T: FixedWidthInteger>(bigEndian value: T) {
        Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
    }
}
