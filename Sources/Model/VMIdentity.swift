/// Which VM it is, beside its name: two VMs of one name are told apart by it.
public struct VMIdentity: Hashable, Sendable, Codable, CustomStringConvertible {
    /// 32 lower-case hexadecimal digits with dashes, as RFC 9562 writes a UUID; never the one of zeroes.
    public let uuid: String
    /// Its QEMU has none, so Romulus made one: it names the VM, and tells nothing of another QEMU.
    public let isMade: Bool

    /// What `query-uuid` answers. Nil when QEMU has none (`-uuid` was not given), or for what is no UUID.
    public init?(qemu text: String) {
        let digits = text.lowercased()
        guard Self.hasForm(digits), digits.contains(where: { $0 != "0" && $0 != "-" }) else { return nil }
        uuid = digits
        isMade = false
    }

    /// One that no other VM has, for a VM whose QEMU has none.
    public static func made() -> VMIdentity {
        // Version 4 of RFC 9562: random but for the version's four bits and the variant's two.
        let high = UInt64.random(in: 0 ... .max) & ~0xf000 | 0x4000
        let low = UInt64.random(in: 0 ... .max) & ~(0b11 << 62) | 0b10 << 62
        let digits = [high, low].map { word in
            let text = String(word, radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }.joined()
        var uuid = ""
        for (index, digit) in digits.enumerated() {
            if [8, 12, 16, 20].contains(index) { uuid.append("-") }
            uuid.append(digit)
        }
        return VMIdentity(made: uuid)
    }

    private init(made uuid: String) {
        self.uuid = uuid
        isMade = true
    }

    private static func hasForm(_ text: String) -> Bool {
        text.utf8.count == 36
            && text.utf8.enumerated().allSatisfy { index, byte in
                [8, 13, 18, 23].contains(index)
                    ? byte == UInt8(ascii: "-")
                    : (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                        || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
            }
    }

    /// Whether the two are different VMs for certain.
    public func isAnother(than other: VMIdentity) -> Bool { !isMade && !other.isMade && uuid != other.uuid }

    public var description: String { uuid }

    package enum CodingKeys: String, CodingKey {
        case uuid
        case isMade = "made"
    }
}
