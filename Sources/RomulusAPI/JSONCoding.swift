import FoundationEssentials

/// The one way in which this API writes and reads JSON: keys in snake_case (named by the types), ISO 8601 dates with
/// milliseconds in UTC, keys sorted.
public enum JSONCoding {
    public static func encode(_ value: some Encodable, pretty: Bool = false) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if pretty { encoder.outputFormatting.insert(.prettyPrinted) }
        encoder.dateEncodingStrategy = .custom { date, encoder in
            var container = encoder.singleValueContainer()
            try container.encode(text(of: date))
        }
        return try encoder.encode(value)
    }

    public static func decode<Value: Decodable>(_ type: Value.Type, from data: Data) throws -> Value {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .custom { decoder in
            let container = try decoder.singleValueContainer()
            let text = try container.decode(String.self)
            if let date = date(text) { return date }
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "“\(text)” is not an ISO 8601 date such as 2026-01-31T12:00:00.000Z")
        }
        return try decoder.decode(type, from: data)
    }

    /// `2026-01-31T12:00:00.000Z`.
    public static func text(of date: Date) -> String { date.formatted(withMilliseconds) }

    /// Reads that form, also without the milliseconds; nil for any other.
    public static func date(_ text: String) -> Date? {
        (try? withMilliseconds.parse(text)) ?? (try? Date.ISO8601FormatStyle().parse(text))
    }

    private static let withMilliseconds = Date.ISO8601FormatStyle(includingFractionalSeconds: true)

    /// What is wrong with a body, in words: the key and what is expected there.
    public static func explain(_ error: any Error) -> String {
        func place(_ path: [any CodingKey]) -> String {
            path.isEmpty ? "the body" : "“" + path.map(\.stringValue).joined(separator: ".") + "”"
        }
        guard let error = error as? DecodingError else { return "it cannot be read as JSON" }
        switch error {
        case .keyNotFound(let key, let context): return "\(place(context.codingPath + [key])) is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            return "\(place(context.codingPath)) has the wrong type"
        case .dataCorrupted(let context):
            return context.codingPath.isEmpty
                ? "it is not valid JSON" : "\(place(context.codingPath)): \(context.debugDescription)"
        @unknown default: return "it does not have the expected form"
        }
    }
}
