import CKernels
import Model

/// The frames between the two agents of a VM: their header, their types, and the bodies that are not JSON.
///
/// Owns the layout of every byte on the link and nothing else: no sockets, no state, no time. It may call Model and
/// CKernels. All numbers are little-endian unless a field says otherwise. Parsing is total: whatever a peer sends, the
/// outcome is a value or a `WireError`, never a trap, never an allocation sized by an unchecked number. Parsed bodies
/// with a payload refer to the caller's bytes and copy nothing. docs/PROTOCOL.md holds the same for readers.
///
/// A frame is 32 bytes of header, then `length` bytes of body:
///
///      0  magic      u32   "RMLS"
///      4  version    u8    1
///      5  type       u8    `FrameType`; 0 is invalid
///      6  flags      u16   none is defined in version 1: written 0, anything else refused
///      8  length     u32   bytes of body, at most `type.bodyMax`
///     12  epoch      u64   the epoch that the frame belongs to; 0 is the first copy
///     20  sequence   u32   the frame's place among the data frames of its epoch, from 0; 0 in other frames
///     24  bodyCRC    u32   CRC-32C of the body
///     28  headerCRC  u32   CRC-32C of bytes 0..<28
///
/// Data frames are the five types that make up a checkpoint: pages, deviceState, output, diskWrite, diskZero.
///
/// A session, the primary dialling:
///
///     primary                                  standby
///               <------------------------------  heartbeat without a body: your certificate is accepted
///        hello  ------------------------------>          who I am
///        offer  ------------------------------>          the VM: blocks, disks, NICs, term
///               <------------------------------  accept | refuse
///        data frames (epoch 0) --------------->          the first copy, while the guest runs
///        diskDigests, diskRead --------------->          at any time
///               <------------------------------  diskDigestsReply, diskReadReply
///        synced ------------------------------>          the first copy is whole; holding starts
///        diskWrite, diskZero (epoch n) ------->          as the guest makes them
///        pages, deviceState, output (epoch n) ->         what was captured at the end of n
///        checkpointEnd (epoch n) ------------->          staged, digest checked
///               <------------------------------  ack (epoch n)
///        released (epoch n) ------------------>          the output of n is out; the standby may drop its copy
///               <-----------------------------> heartbeat, at any time
///        goodbye ----------------------------->          the session ends in order
///               <------------------------------  goodbye
///
/// Version rule: every version keeps these 32 bytes where they are, so that a peer of another version is recognised by
/// its first frame and told apart from damage; versions must be equal to talk.
public struct FrameHeader: Equatable, Sendable {
    /// Bytes of a header.
    public static let size = 32
    /// The version of the protocol that this code speaks.
    public static let version: UInt8 = 1
    /// "RMLS" as it lies in memory.
    static let magic: UInt32 = 0x534C_4D52

    public var type: FrameType
    public var flags: UInt16
    /// Bytes of body that follow.
    public var length: UInt32
    public var epoch: UInt64
    public var sequence: UInt32
    public var bodyCRC: UInt32

    public init(
        type: FrameType, flags: UInt16 = 0, length: UInt32, epoch: UInt64, sequence: UInt32, bodyCRC: UInt32
    ) {
        self.type = type
        self.flags = flags
        self.length = length
        self.epoch = epoch
        self.sequence = sequence
        self.bodyCRC = bodyCRC
    }

    /// The header of a frame whose body is `head` followed by `payload`, which need not lie together. The caller keeps
    /// the sum within `type.bodyMax`.
    public init(
        type: FrameType, epoch: Epoch, sequence: UInt32, head: UnsafeRawBufferPointer,
        payload: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
    ) {
        precondition(head.count + payload.count <= type.bodyMax, "the writer of a frame keeps its body within bodyMax")
        self.init(
            type: type, length: UInt32(head.count + payload.count), epoch: epoch.number, sequence: sequence,
            bodyCRC: crc32c(payload, continuing: crc32c(head)))
    }

    /// Reads a header from the first 32 of `bytes`. The length is within the cap of its type when this returns, so the
    /// body may be read next. Damage is told from another version by the header's checksum, which is checked first.
    public init(parsing bytes: UnsafeRawBufferPointer) throws(WireError) {
        guard bytes.count >= FrameHeader.size else {
            throw .truncated(part: "frame header", offset: bytes.count, needed: FrameHeader.size)
        }
        let magic = bytes.loadUnaligned(as: UInt32.self).littleEndian
        guard magic == FrameHeader.magic else { throw .notAFrame(found: magic) }
        let expected = bytes.loadUnaligned(fromByteOffset: 28, as: UInt32.self).littleEndian
        let found = crc32c(UnsafeRawBufferPointer(rebasing: bytes[..<28]))
        guard found == expected else {
            throw .checksum(part: "frame header", offset: 28, expected: expected, found: found)
        }
        guard bytes[4] == FrameHeader.version else {
            throw .versionMismatch(ours: FrameHeader.version, theirs: bytes[4])
        }
        guard let type = FrameType(rawValue: bytes[5]) else { throw .unknownType(bytes[5]) }
        flags = bytes.loadUnaligned(fromByteOffset: 6, as: UInt16.self).littleEndian
        guard flags == 0 else {
            throw .malformed(part: "frame header", offset: 6, reason: "no flag is defined, but 0x\(hex(flags)) is set")
        }
        length = bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self).littleEndian
        guard length <= UInt32(type.bodyMax) else {
            throw .tooLong(type: type, length: Int(length), max: type.bodyMax)
        }
        self.type = type
        epoch = bytes.loadUnaligned(fromByteOffset: 12, as: UInt64.self).littleEndian
        sequence = bytes.loadUnaligned(fromByteOffset: 20, as: UInt32.self).littleEndian
        bodyCRC = bytes.loadUnaligned(fromByteOffset: 24, as: UInt32.self).littleEndian
    }

    /// Writes the 32 bytes to the start of `target`, which must have room for them.
    public func write(into target: UnsafeMutableRawBufferPointer) {
        precondition(target.count >= FrameHeader.size, "a frame header needs 32 bytes")
        target.storeBytes(of: FrameHeader.magic.littleEndian, as: UInt32.self)
        target[4] = FrameHeader.version
        target[5] = type.rawValue
        target.storeBytes(of: flags.littleEndian, toByteOffset: 6, as: UInt16.self)
        target.storeBytes(of: length.littleEndian, toByteOffset: 8, as: UInt32.self)
        target.storeBytes(of: epoch.littleEndian, toByteOffset: 12, as: UInt64.self)
        target.storeBytes(of: sequence.littleEndian, toByteOffset: 20, as: UInt32.self)
        target.storeBytes(of: bodyCRC.littleEndian, toByteOffset: 24, as: UInt32.self)
        let headerCRC = crc32c(UnsafeRawBufferPointer(rebasing: target[..<28]))
        target.storeBytes(of: headerCRC.littleEndian, toByteOffset: 28, as: UInt32.self)
    }

    /// Throws unless `body` is the one that this header announced.
    public func check(body: UnsafeRawBufferPointer) throws(WireError) {
        guard body.count == Int(length) else {
            if body.count < Int(length) {
                throw .truncated(part: "\(type) body", offset: body.count, needed: Int(length))
            }
            throw .malformed(
                part: "\(type) body", offset: Int(length), reason: "\(body.count - Int(length)) bytes beyond its length"
            )
        }
        let found = crc32c(body)
        guard found == bodyCRC else {
            throw .checksum(part: "\(type) body", offset: 0, expected: bodyCRC, found: found)
        }
    }
}

/// CRC-32C of `bytes`, continuing a run whose CRC is `start`.
public func crc32c(_ bytes: UnsafeRawBufferPointer, continuing start: UInt32 = 0) -> UInt32 {
    guard let base = bytes.baseAddress else { return start }
    return ck_crc32c(start, base, bytes.count)
}
