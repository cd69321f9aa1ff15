import Model

/// The name of a host where there may be none: JSON has an empty text then.
@propertyWrapper
public struct NameOrEmpty: Codable, Hashable, Sendable {
    public var wrappedValue: NodeName?

    public init(wrappedValue: NodeName?) { self.wrappedValue = wrappedValue }

    public init(from decoder: any Decoder) throws {
        let isEmpty = try decoder.singleValueContainer().decode(String.self).isEmpty
        wrappedValue = isEmpty ? nil : try NodeName(from: decoder)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(wrappedValue?.description ?? "")
    }
}
