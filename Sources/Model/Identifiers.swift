/// The words of Romulus as values: which VM, which epoch, which term, which level.
///
/// Owns no state and does no I/O; imports the standard library only. Everything above uses these types, so that one
/// word means one thing in code, on the wire, in logs and in metrics.

/// A name that is used in file names, metric labels, certificates and command lines, hence the narrow alphabet:
/// 1-64 characters of `A-Z a-z 0-9 . _ -`, not starting with a dot or a dash.
public protocol PlainName: Hashable, Sendable, Codable, CodingKeyRepresentable, Comparable, LosslessStringConvertible {
    /// What the name is of, for messages: `VM`, `node`.
    static var noun: String { get }
    /// `text` was checked.
    init(unchecked text: String)
}

extension PlainName {
    /// Nil when `text` is not a valid name.
    public init?(_ text: String) {
        let allowed = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
        guard allowed, (1...64).contains(text.utf8.count), !text.hasPrefix("."), !text.hasPrefix("-") else {
            return nil
        }
        self.init(unchecked: text)
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let name = Self(text) else {
            throw DecodingError.dataCorruptedError(
                in: container,
                debugDescription: "“\(text)” is not a \(Self.noun) name: use 1-64 letters, digits, dots, dashes or "
                    + "underscores")
        }
        self = name
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }

    /// A dictionary with such names as its keys is an object in JSON.
    public var codingKey: any CodingKey { PlainNameKey(stringValue: description) }

    public init?<Key: CodingKey>(codingKey: Key) { self.init(codingKey.stringValue) }

    public static func < (a: Self, b: Self) -> Bool { a.description < b.description }
}

private struct PlainNameKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }

    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}

/// The name of a protected VM, unique on both hosts.
public struct VMName: PlainName {
    public static let noun = "VM"
    public let description: String
    public init(unchecked text: String) { description = text }
}

/// The name of a host or witness. It stands in certificates, in file names, in the configuration of the other hosts and
/// in the register of each VM.
public struct NodeName: PlainName {
    public static let noun = "node"
    public let description: String
    public init(unchecked text: String) { description = text }
}

/// The guest's execution between two checkpoints, numbered from 1 within a term. Epoch 0 is the first copy, which
/// travels while the guest runs and is not a state to resume from.
public struct Epoch: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
    public var number: UInt64
    public init(_ number: UInt64) { self.number = number }
    public static let firstCopy = Epoch(0)
    public var next: Epoch { Epoch(number + 1) }
    public var description: String { String(number) }
    public static func < (a: Epoch, b: Epoch) -> Bool { a.number < b.number }
}

/// The fencing number of a VM; grows by one at each change of who may run it.
public struct Term: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
    public var number: UInt64
    public init(_ number: UInt64) { self.number = number }
    public var description: String { String(number) }
    public static func < (a: Term, b: Term) -> Bool { a.number < b.number }
}

/// The dial: how much of a VM survives what.
public enum Level: String, Sendable, Codable, CaseIterable {
    case restart, component, system
}
