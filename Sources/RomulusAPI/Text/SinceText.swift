import FoundationEssentials

/// How people say from when on: a time ago, or a date in UTC.
public enum SinceText {
    public static let forms =
        "a time ago such as 90s, 15min, 2h, 3d or 1w, or a date in UTC such as 2026-01-31 or “2026-01-31 12:00”"

    /// Nil when `text` has none of the `forms`.
    public static func date(_ text: String, now: Date = Date()) -> Date? {
        ago(text).map { now.addingTimeInterval(-$0) } ?? calendar(text)
    }

    private static func ago(_ text: String) -> Double? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        // No journal reaches back a billion of anything.
        guard let count = Int(digits), count <= 1_000_000_000 else { return nil }
        let seconds: Double? =
            switch text.dropFirst(digits.count) {
            case "s": 1
            case "m", "min": 60
            case "h": 3600
            case "d": 86_400
            case "w": 7 * 86_400
            default: nil
            }
        return seconds.map { $0 * Double(count) }
    }

    private static func calendar(_ text: String) -> Date? {
        let parts = text.split(maxSplits: 1, omittingEmptySubsequences: false) { $0 == " " || $0 == "T" }
        guard let day = parts.first, day.count == 10 else { return nil }
        let rest = parts.count == 2 ? parts[1] : "00:00:00"
        let time = rest.hasSuffix("Z") ? rest.dropLast() : rest
        let date = JSONCoding.date("\(day)T\(time)\(time.count == 5 ? ":00" : "")Z")
        // The calendar takes 25:00 for 1:00 of the next day; nobody who writes it means that.
        return date.flatMap { JSONCoding.text(of: $0).hasPrefix("\(day)T\(time)") ? $0 : nil }
    }
}
