/// Why some bytes are not one JSON value: what was found, and at which byte.
public struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
    public var offset: Int
    public var problem: String
    public var description: String { "not JSON at byte \(offset): \(problem)" }
}

extension JSONValue {
    /// Parses exactly one JSON value surrounded by white space. Total: any bytes give a value or a `JSONError`; nesting
    /// deeper than 64 is refused, so that no input can exhaust the stack.
    public init(parsing bytes: UnsafeRawBufferPointer) throws(JSONError) {
        var parser = JSONParser(bytes: bytes)
        self = try parser.value(depth: 0)
        parser.skipSpace()
        guard parser.position == bytes.count else { throw parser.fail("text after the value") }
    }

    public init(parsing text: String) throws(JSONError) {
        var text = text
        var result: Result<JSONValue, JSONError> = .success(.null)
        text.withUTF8 { utf8 in
            do throws(JSONError) {
                result = .success(try JSONValue(parsing: UnsafeRawBufferPointer(utf8)))
            } catch {
                result = .failure(error)
            }
        }
        self = try result.get()
    }
}

struct JSONParser {
    static let depthMax = 64
    let bytes: UnsafeRawBufferPointer
    var position = 0

    init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    func fail(_ problem: String) -> JSONError { JSONError(offset: position, problem: problem) }

    private var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

    mutating func skipSpace() {
        while let byte = peek, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { position += 1 }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard peek == byte else { return false }
        position += 1
        return true
    }

    private mutating func word(_ text: StaticString, _ value: JSONValue) throws(JSONError) -> JSONValue {
        let count = text.utf8CodeUnitCount
        guard bytes.count - position >= count else { throw fail("unexpected end") }
        for index in 0..<count where bytes[position + index] != text.utf8Start[index] {
            throw fail("unknown word")
        }
        position += count
        return value
    }

    mutating func value(depth: Int) throws(JSONError) -> JSONValue {
        guard depth < Self.depthMax else { throw fail("nested too deeply") }
        skipSpace()
        guard let first = peek else { throw fail("unexpected end") }
        switch first {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default: throw fail("unexpected character")
        }
    }

    private mutating func object(depth: Int) throws(JSONError) -> JSONValue {
        position += 1
        var members: [String: JSONValue] = [:]
        skipSpace()
        if take(UInt8(ascii: "}")) { return .object(members) }
        while true {
            skipSpace()
            guard peek == UInt8(ascii: "\"") else { throw fail("a member name was expected") }
            let key = try string()
            skipSpace()
            guard take(UInt8(ascii: ":")) else { throw fail("a colon was expected") }
            members[key] = try value(depth: depth + 1)
            skipSpace()
            if take(UInt8(ascii: "}")) { return .object(members) }
            guard take(UInt8(ascii: ",")) else { throw fail("a comma or } was expected") }
        }
    }

    private mutating func array(depth: Int) throws(JSONError) -> JSONValue {
        position += 1
        var elements: [JSONValue] = []
        skipSpace()
        if take(UInt8(ascii: "]")) { return .array(elements) }
        while true {
            elements.append(try value(depth: depth + 1))
            skipSpace()
            if take(UInt8(ascii: "]")) { return .array(elements) }
            guard take(UInt8(ascii: ",")) else { throw fail("a comma or ] was expected") }
        }
    }

    private mutating func number() throws(JSONError) -> JSONValue {
        let first = position
        var integral = true
        while let byte = peek {
            switch byte {
            case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): break
            case UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"), UInt8(ascii: "+"): integral = false
            default:
                return try number(first: first, integral: integral)
            }
            position += 1
        }
        return try number(first: first, integral: integral)
    }

    private func number(first: Int, integral: Bool) throws(JSONError) -> JSONValue {
        let text = String(decoding: bytes[first..<position], as: UTF8.self)
        if integral, let value = Int64(text) { return .integer(value) }
        if integral, let value = UInt64(text) { return .unsigned(value) }
        if let value = Double(text), value.isFinite { return .number(value) }
        throw JSONError(offset: first, problem: "a number was expected")
    }

    private mutating func string() throws(JSONError) -> String {
        position += 1
        let first = position
        while let byte = peek, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { position += 1 }
        if take(UInt8(ascii: "\"")) { return String(decoding: bytes[first..<position - 1], as: UTF8.self) }
        var text = Array(bytes[first..<position])
        while let byte = peek {
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
            case UInt8(ascii: "\\"): try escape(into: &text)
            case 0..<0x20: throw fail("a control character within a string")
            default: text.append(byte)
            }
        }
        throw fail("unexpected end within a string")
    }

    private mutating func escape(into text: inout [UInt8]) throws(JSONError) {
        guard let byte = peek else { throw fail("unexpected end within a string") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0c)
        case UInt8(ascii: "n"): text.append(0x0a)
        case UInt8(ascii: "r"): text.append(0x0d)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var scalar = try hex4()
            if (0xd800..<0xdc00).contains(scalar), peek == UInt8(ascii: "\\") {
                let before = position
                position += 1
                if take(UInt8(ascii: "u")), case let low = try hex4(), (0xdc00..<0xe000).contains(low) {
                    scalar = 0x10000 + (scalar - 0xd800) << 10 + (low - 0xdc00)
                } else {
                    position = before
                }
            }
            // A surrogate without its partner names no character.
            text.append(contentsOf: String(Character(Unicode.Scalar(scalar) ?? "\u{fffd}")).utf8)
        default: throw fail("unknown escape")
        }
    }

    private mutating func hex4() throws(JSONError) -> UInt32 {
        guard bytes.count - position >= 4 else { throw fail("unexpected end within a string") }
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let digit = Character(Unicode.Scalar(bytes[position])).hexDigitValue else {
                throw fail("four hexadecimal digits were expected")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }
}
