import FoundationEssentials

/// Numbers as people read them.
public enum Units {
    /// `1536` -> `1.5 KiB`; `1023` -> `1023 B`.
    public static func bytes(_ count: UInt64) -> String {
        let names = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        guard count >= 1024 else { return "\(count) B" }
        var value = Double(count) / 1024
        var index = 0
        // 1023.95 would be shown as 1024.0.
        while value >= 1023.95, index < names.count - 1 {
            value /= 1024
            index += 1
        }
        return decimal(value, 1) + " " + names[index]
    }

    /// Milliseconds with as many digits as matter: `0.25 ms`, `2.9 ms`, `23 ms`, `1.20 s`.
    public static func milliseconds(_ value: Double) -> String {
        switch value {
        case ..<1: decimal(value, 2) + " ms"
        case ..<9.95: decimal(value, 1) + " ms"
        case ..<999.5: decimal(value, 0) + " ms"
        default: decimal(value / 1000, 2) + " s"
        }
    }

    /// How long ago or how long: `4 s`, `12 min`, `3 h 5 min`, `2 d 4 h`.
    public static func age(_ seconds: Double) -> String {
        let whole = seconds.isFinite && seconds > 0 ? Int(min(seconds, 1e12)) : 0
        switch whole {
        case ..<60: return "\(whole) s"
        case ..<3600: return "\(whole / 60) min"
        case ..<86400: return "\(whole / 3600) h \(whole % 3600 / 60) min"
        default: return "\(whole / 86400) d \(whole % 86400 / 3600) h"
        }
    }

    /// `digits` (0 to 3) digits behind the point. Without locale: the output is read by scripts too.
    public static func decimal(_ value: Double, _ digits: Int) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
        let scale = [1, 10, 100, 1000][digits]
        let scaled = Int64((abs(value) * Double(scale)).rounded())
        let sign = value < 0 && scaled != 0 ? "-" : ""
        let whole = scaled / Int64(scale)
        guard digits > 0 else { return sign + String(whole) }
        let fraction = String(scaled % Int64(scale))
        return sign + "\(whole)." + String(repeating: "0", count: digits - fraction.count) + fraction
    }

    /// `2026-01-31 12:00:00.123` in UTC.
    public static func time(_ date: Date) -> String {
        let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        return date.formatted(style).replacing("T", with: " ").replacing("Z", with: "")
    }
}
