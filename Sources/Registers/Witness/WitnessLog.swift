import FoundationEssentials
import Model
import Wire

/// The bytes of a witness's log: a header, then one record for each change, in order; of a VM the last one counts.
///
///     header   0  magic      "RMLSWLOG"
///              8  store      16 bytes: the UUID of the store
///             24  reserved   u32, 0
///             28  headerCRC  u32, CRC-32C of bytes 0 to 27
///     record   0  length     u32, bytes of body: 1 to `recordBytesMax`
///              4  lengthCRC  u32, CRC-32C of the length
///              8  bodyCRC    u32, CRC-32C of the body
///             12  body       JSON: the VM's name, its register, the nonce of the change
///
/// Numbers are little-endian. A record is written in one go and synchronised before it is answered, so only the last one
/// can be incomplete: the file ends within it, or with zeros that were never overwritten. That is a torn tail, and was
/// never answered. Whatever else is wrong is damage.
enum WitnessLog {
    static let headerSize = 32
    static let recordHeaderSize = 12
    static let recordBytesMax = 4096
    private static let magic = Array("RMLSWLOG".utf8)

    struct Entry: Codable {
        var vm: VMName
        var record: RegisterRecord
    }

    struct Contents {
        var store: UUID
        var records: [VMName: RegisterRecord]
        /// Bytes of a torn tail.
        var tornBytes: Int
    }

    struct Damage: Error, Hashable {
        var offset: Int
        var reason: String
    }

    static func header(_ store: UUID) -> [UInt8] {
        var bytes = magic
        withUnsafeBytes(of: store.uuid) { bytes.append(contentsOf: $0) }
        append(UInt32(0), to: &bytes)
        append(checksum(bytes[...]), to: &bytes)
        return bytes
    }

    static func record(_ vm: VMName, _ record: RegisterRecord) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        // A plain value type with string keys: encoding it cannot fail.
        guard let body = try? encoder.encode(Entry(vm: vm, record: record)) else {
            preconditionFailure("an entry of the log is encodable")
        }
        // Names have at most 64 bytes and everything else is numbers: a record has about 400 bytes.
        precondition(body.count <= recordBytesMax, "a record outgrew recordBytesMax")
        var bytes: [UInt8] = []
        append(UInt32(body.count), to: &bytes)
        append(checksum(bytes[...]), to: &bytes)
        append(checksum(Array(body)[...]), to: &bytes)
        bytes.append(contentsOf: body)
        return bytes
    }

    static func parse(_ bytes: [UInt8]) throws(Damage) -> Contents {
        guard bytes.count >= headerSize, bytes.starts(with: magic),
            number(in: bytes, at: 28) == checksum(bytes[..<28])
        else { throw Damage(offset: 0, reason: "its header is not that of a witness's log") }
        let store = bytes[8..<24].withUnsafeBytes { UUID(uuid: $0.loadUnaligned(as: uuid_t.self)) }
        var contents = Contents(store: store, records: [:], tornBytes: 0)
        var offset = headerSize
        while offset < bytes.count {
            guard let end = try recordEnd(bytes, at: offset) else {
                contents.tornBytes = bytes.count - offset
                break
            }
            try apply(bytes[(offset + recordHeaderSize)..<end], at: offset, to: &contents)
            offset = end
        }
        return contents
    }

    /// Where the record at `offset` ends; nil when it is a torn tail.
    private static func recordEnd(_ bytes: [UInt8], at offset: Int) throws(Damage) -> Int? {
        let left = bytes.count - offset
        let endsInZero = bytes[bytes.count - 1] == 0
        if left < recordHeaderSize { return nil }
        let length = Int(number(in: bytes, at: offset))
        guard checksum(bytes[offset..<(offset + 4)]) == number(in: bytes, at: offset + 4),
            (1...recordBytesMax).contains(length)
        else {
            // Zeros from somewhere in the length's eight bytes to the end of the file.
            if left <= recordHeaderSize + recordBytesMax, bytes[(offset + 7)...].allSatisfy({ $0 == 0 }) { return nil }
            throw Damage(offset: offset, reason: "the length of a record does not match its checksum")
        }
        let end = offset + recordHeaderSize + length
        if end > bytes.count { return nil }
        guard checksum(bytes[(offset + recordHeaderSize)..<end]) == number(in: bytes, at: offset + 8) else {
            // A body is JSON and never ends in a zero.
            if end == bytes.count, endsInZero { return nil }
            throw Damage(offset: offset, reason: "a record does not match its checksum")
        }
        return end
    }

    private static func apply(_ body: ArraySlice<UInt8>, at offset: Int, to contents: inout Contents) throws(Damage) {
        guard let entry = try? JSONDecoder().decode(Entry.self, from: Data(body)) else {
            throw Damage(offset: offset, reason: "a record cannot be read")
        }
        if let before = contents.records[entry.vm]?.register.term, entry.record.register.term <= before {
            throw Damage(
                offset: offset,
                reason: "the term of \(entry.vm) goes from \(before) to \(entry.record.register.term)")
        }
        contents.records[entry.vm] = entry.record
    }

    private static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 { bytes.withUnsafeBytes { crc32c($0) } }

    private static func append(_ number: UInt32, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    private static func number(in bytes: [UInt8], at offset: Int) -> UInt32 {
        bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self).littleEndian }
    }
}
