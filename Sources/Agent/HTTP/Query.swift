import FoundationEssentials
import Hummingbird
import Model
import RomulusAPI

/// The query of a request, with what is wrong in it said in words.
struct Query {
    private let request: Request

    init(_ request: Request) {
        self.request = request
    }

    func text(_ key: String) -> String? {
        request.uri.queryParameters[Substring(key)].map(String.init)
    }

    func vmName() throws(APIError) -> VMName? {
        guard let text = text("vm") else { return nil }
        return try Self.name(text)
    }

    func integer(_ key: String, _ range: ClosedRange<Int>, default standard: Int) throws(APIError) -> Int {
        guard let text = text(key) else { return standard }
        guard let value = Int(text), range.contains(value) else {
            throw APIError(
                .badRequest,
                "“\(key)” must be a whole number from \(range.lowerBound) to \(range.upperBound), not “\(text)”")
        }
        return value
    }

    func unsigned(_ key: String, default standard: UInt64) throws(APIError) -> UInt64 {
        guard let text = text(key) else { return standard }
        guard let value = UInt64(text) else {
            throw APIError(.badRequest, "“\(key)” must be a whole number, not “\(text)”")
        }
        return value
    }

    /// Words separated by commas; empty without the key.
    func words(_ key: String) -> [String] {
        text(key)?.split(separator: ",").map(String.init) ?? []
    }

    func date(_ key: String) throws(APIError) -> Date? {
        guard let text = text(key) else { return nil }
        guard let date = JSONCoding.date(text) else {
            throw APIError(
                .badRequest, "“\(key)” must be an ISO 8601 date such as 2026-01-31T12:00:00.000Z, not “\(text)”")
        }
        return date
    }

    static func name(_ text: String) throws(APIError) -> VMName {
        guard let name = VMName(text) else {
            throw APIError(
                .badRequest, "“\(text)” is not a VM name: use 1-64 letters, digits, dots, dashes or underscores")
        }
        return name
    }
}
