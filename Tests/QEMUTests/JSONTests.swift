import QEMU
import Testing

@Suite struct JSONTests {
    static let readable: [(String, JSONValue)] = [
        ("{\"return\": {}, \"id\": 7}", ["return": .emptyObject, "id": 7]),
        ("[1,-2,18446744073709551615,1.5,true,false,null]", [1, -2, .unsigned(.max), .number(1.5), true, false, nil]),
        (#""a\"\\\/\b\f\n\r\tA\u00e9\ud83d\ude00\ud800""#, "a\"\\/\u{8}\u{c}\n\r\tA\u{e9}\u{1f600}\u{fffd}"),
        (" { } ", .emptyObject),
    ]

    @Test(arguments: readable) func reads(text: String, value: JSONValue) throws {
        #expect(try JSONValue(parsing: text) == value)
    }

    @Test func writesWhatItReads() throws {
        let value: JSONValue = [
            "text": "line\nquote\" back\\ \u{7f}\u{1}é", "numbers": [0, -1, .unsigned(.max)], "on": true, "none": nil,
        ]
        #expect(try JSONValue(parsing: value.description) == value)
    }

    @Test(arguments: [
        "", "{", "[", "\"", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,}", "[1,]", "[1 2]", "tru", "nul", "1e", "-",
        "1.2.3",
        "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "{} {}", "{1:2}", "\"\u{1}\"", "1e999",
        String(repeating: "[", count: 100_000), String(repeating: "{\"a\":", count: 100_000),
    ]) func refuses(_ text: String) {
        #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
    }

    @Test func survivesEveryChangedByte() throws {
        let text = Array(#"{"return": {"a": [1, 2.5, "xA\n", true, null]}, "id": 123}"#.utf8)
        var parsed = 0
        for position in text.indices {
            for byte in UInt8.min...UInt8.max {
                var changed = text
                changed[position] = byte
                let value = changed.withUnsafeBytes { try? JSONValue(parsing: $0) }
                if value != nil { parsed += 1 }
            }
        }
        #expect(parsed > 1000)
    }
}
