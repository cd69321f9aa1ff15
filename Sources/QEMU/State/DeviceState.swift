/// One device's part of the device state, as its header in the stream names it.
public struct DeviceSection: Hashable, Sendable, CustomStringConvertible {
    /// QEMU's id string, for example `0000:00:03.0/virtio-net` or `cpu`.
    public var name: String
    public var instance: UInt32
    public var version: UInt32
    /// The number that header and footer share.
    public var id: UInt32
    /// Where the section's contents lie within the device state, in bytes.
    public var contents: Range<Int>

    public var description: String { "\(name)#\(instance) v\(version)" }
}

/// Why some bytes are not a device state.
public struct DeviceStateError: Error, Hashable, Sendable, CustomStringConvertible {
    public var offset: Int
    public var problem: String
    public var description: String { "QEMU's device state is not understood at byte \(offset): \(problem)" }
}

/// The device state that `xen-save-devices-state` writes: `QEVM`, version 3, then per device `0x04`, its header and
/// contents, `0x7e` and its id; at the end `0x00`. All numbers are big-endian.
public enum DeviceState {
    /// `QEVM` and the version, which a migration stream has of its own.
    public static let headerSize = 8
    public static let sectionsMax = 4096
    static let magic: UInt32 = 0x5145_564d
    static let version: UInt32 = 3

    /// The sections in order. The contents carry no length, so each ends where its footer is followed by the header of
    /// another section or by the end; total: any bytes give a list or an error.
    public static func sections(of bytes: UnsafeRawBufferPointer) throws(DeviceStateError) -> [DeviceSection] {
        guard be32(bytes, 0) == magic, be32(bytes, 4) == version else {
            throw DeviceStateError(offset: 0, problem: "the header is not that of version 3")
        }
        var sections: [DeviceSection] = []
        var position = headerSize
        while true {
            guard position < bytes.count else {
                throw DeviceStateError(offset: position, problem: "it ends without its end mark")
            }
            if bytes[position] == 0 {
                guard position == bytes.count - 1 else {
                    throw DeviceStateError(offset: position, problem: "bytes follow its end mark")
                }
                return sections
            }
            guard sections.count < sectionsMax, var section = header(bytes, position) else {
                throw DeviceStateError(offset: position, problem: "a section header was expected")
            }
            guard let end = footer(bytes, from: section.contents.lowerBound, id: section.id) else {
                throw DeviceStateError(offset: position, problem: "section \(section.name) has no end")
            }
            section.contents = section.contents.lowerBound..<end
            sections.append(section)
            position = end + 5
        }
    }

    /// What must stay the same from epoch to epoch for the standby's devices to fit: names, instances and versions in
    /// order. A device that was plugged in or out changes it.
    public static func layout(of bytes: UnsafeRawBufferPointer) throws(DeviceStateError) -> DeviceLayout {
        DeviceLayout(sections: try sections(of: bytes).map(\.description))
    }

    private static func be32(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt32? {
        guard offset >= 0, bytes.count - offset >= 4 else { return nil }
        return UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    /// A whole section header at `offset`, with empty contents; nil when there is none.
    private static func header(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> DeviceSection? {
        guard bytes.count - offset >= 6, bytes[offset] == 4, let id = be32(bytes, offset + 1) else { return nil }
        let length = Int(bytes[offset + 5])
        let nameAt = offset + 6
        guard length > 0, bytes.count - nameAt >= length + 8 else { return nil }
        let name = bytes[nameAt..<nameAt + length]
        guard name.allSatisfy({ (0x20..<0x7f).contains($0) }), let instance = be32(bytes, nameAt + length),
            let version = be32(bytes, nameAt + length + 4)
        else { return nil }
        let start = nameAt + length + 8
        return DeviceSection(
            name: String(decoding: name, as: UTF8.self), instance: instance, version: version, id: id,
            contents: start..<start)
    }

    private static func footer(_ bytes: UnsafeRawBufferPointer, from: Int, id: UInt32) -> Int? {
        var position = from
        while bytes.count - position >= 6 {
            if bytes[position] == 0x7e, be32(bytes, position + 1) == id {
                let next = position + 5
                if bytes[next] == 0, next == bytes.count - 1 { return position }
                if header(bytes, next) != nil { return position }
            }
            position += 1
        }
        return nil
    }
}

/// The devices of a device state, comparable from epoch to epoch.
public struct DeviceLayout: Hashable, Sendable, Codable {
    /// `name#instance vVersion`, in the stream's order.
    public var sections: [String]

    /// What `other` has more and less, in words; nil when equal.
    public func difference(to other: DeviceLayout) -> String? {
        guard self != other else { return nil }
        let added = other.sections.filter { !sections.contains($0) }
        let removed = sections.filter { !other.sections.contains($0) }
        let parts = [
            added.isEmpty ? nil : "added: \(added.joined(separator: ", "))",
            removed.isEmpty ? nil : "removed: \(removed.joined(separator: ", "))",
        ].compactMap { $0 }
        return parts.isEmpty ? "another order" : parts.joined(separator: "; ")
    }
}
