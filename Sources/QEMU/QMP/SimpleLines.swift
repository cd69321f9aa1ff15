import Glibc

/// Reads a line from its front, byte by byte, without building anything.
private struct LineReader {
    let line: UnsafeRawBufferPointer
    var position = 0

    mutating func take(_ text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        guard line.count - position >= count, let base = line.baseAddress,
            memcmp(base + position, text.utf8Start, count) == 0
        else { return false }
        position += count
        return true
    }

    mutating func takeNumber() -> UInt64? {
        let start = position
        var value: UInt64 = 0
        while position < line.count, case let digit = line[position] &- UInt8(ascii: "0"), digit < 10 {
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            guard !overflow, case (let sum, false) = product.addingReportingOverflow(UInt64(digit)) else { return nil }
            value = sum
            position += 1
        }
        return position > start ? value : nil
    }

    /// Only the carriage return may follow; anything else is for the parser to judge.
    var isAtEnd: Bool { position == line.count || (position + 1 == line.count && line[position] == 0x0d) }
}

/// Recognises `{"return": {}, "id": 123}`, which is how QEMU answers `stop`, `cont` and most others.
enum SimpleReply {
    static func id(_ line: UnsafeRawBufferPointer) -> UInt64? {
        var reader = LineReader(line: line)
        guard reader.take("{\"return\": {}, \"id\": "), let id = reader.takeNumber(), reader.take("}"), reader.isAtEnd
        else { return nil }
        return id
    }
}

/// Recognises the events that every checkpoint causes:
/// `{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}`, or `RESUME`.
enum SimpleEvent {
    static func parse(_ line: UnsafeRawBufferPointer) -> QMPEvent? {
        var reader = LineReader(line: line)
        guard reader.take("{\"timestamp\": {\"seconds\": "), let seconds = reader.takeNumber(),
            reader.take(", \"microseconds\": "), let microseconds = reader.takeNumber(), reader.take("}, \"event\": \"")
        else { return nil }
        let name: String
        if reader.take("STOP\"}") {
            name = "STOP"
        } else if reader.take("RESUME\"}") {
            name = "RESUME"
        } else {
            return nil
        }
        guard reader.isAtEnd else { return nil }
        return QMPEvent(
            name: name, data: .emptyObject,
            timestamp: Int64(truncatingIfNeeded: seconds) &* 1_000_000 &+ Int64(truncatingIfNeeded: microseconds))
    }
}
