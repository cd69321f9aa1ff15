/// The words of Romulus as values: which VM, which epoch, which term, which level.
///
/// Owns no state and does no I/O; imports the standard library only. Everything above uses these types, so that one
/// word means one thing in code, on the wire, in logs and in metrics.

/// The name of a protected VM, unique on both hosts: 1-64 characters of `A-Z a-z 0-9 . _ -`, not starting with a dot
/// or a dash. It is used in file names, metric labels and the standby's command line, hence the narrow alphabet.
public struct VMName: Hashable, Sendable, Codable, CustomStringConvertible, Comparable {
    public let description: String

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
        description = text
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let name = VMName(text) else {
            throw DecodingError.dataCorruptedError(
                in: container,
                debugDescription: "“\(text)” is not a VM name: use 1-64 letters, digits, dots, dashes or underscores")
        }
        self = name
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }

    public static func < (a: VMName, b: VMName) -> Bool { a.description < b.description }
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
