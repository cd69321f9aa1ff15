import Hypervisor
import Testing

/// What a guest writes is hostile: answers are found in it, and nothing else comes of it.
@Suite struct GuestAgentReaderTests {
    private func read(_ pieces: [[UInt8]]) -> [UInt64] {
        var reader = GuestAgentReader()
        return pieces.flatMap { piece in piece.withUnsafeBytes { reader.read($0) } }
    }

    private func answer(_ number: UInt64) -> [UInt8] { [0xFF] + Array("{\"return\": \(number)}\n".utf8) }

    @Test func findsAnswers() {
        #expect(read([answer(7), answer(.max), [0xFF] + Array("{\"return\":0}\r\n".utf8)]) == [7, .max, 0])
    }

    @Test(arguments: [
        "{\"return\": 7}\n", "\u{0}{\"return\": 7}\n", "{\"return\": {}}\n", "\n\n\n",
    ]) func whatIsNotDelimitedIsNone(_ text: String) {
        #expect(read([Array(text.utf8)]).isEmpty)
    }

    @Test(arguments: [
        "{\"return\": }\n", "{\"return\": -7}\n", "{\"return\": 7.0}\n", "{\"return\": 7\n", "{\"return\": \"7\"}\n",
        "{\"return\": 18446744073709551616}\n", "{\"return\": 99999999999999999999999}\n", "{\"error\": {}}\n",
        "{\"return\": 7}}\n", "{\"return\": 7, \"id\": 1}\n", "}\n", "{\n", "\n",
    ]) func whatIsNoNumberIsNone(_ text: String) {
        #expect(read([[0xFF] + Array(text.utf8)]).isEmpty)
    }

    @Test func rubbishBeforeAnAnswerDoesNotHideIt() {
        let rubbish: [[UInt8]] = [
            Array("{\"return\": 5".utf8), [0xFF, 0xFF, 0xFF], [UInt8](repeating: 0x20, count: 100_000),
            [UInt8](repeating: 0x7B, count: 5000), [UInt8](repeating: 0x0A, count: 5000),
            Array("{\"error\": {}}\n".utf8),
        ]
        for bytes in rubbish { #expect(read([bytes, answer(9)]) == [9]) }
    }

    /// However it is cut, and whatever lies between, all whole answers are found and no others.
    @Test(arguments: 1...50) func mutatedStreamsGiveWhatWasAnswered(seed: UInt64) {
        var state = seed &* 0x9E37_79B9_7F4A_7C15
        func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        var bytes: [UInt8] = []
        var expected: [UInt64] = []
        for _ in 0..<200 {
            switch next(4) {
            case 0:
                // No line's end in it, so no answer.
                for _ in 0..<next(400) {
                    let byte = UInt8(next(256))
                    bytes.append(byte == 0x0A ? 0x0B : byte)
                }
            case 1: bytes += answer(UInt64(next(1000))).dropLast(1 + next(10))
            default:
                let number = UInt64(next(1 << 30)) << UInt64(next(33))
                expected.append(number)
                bytes += answer(number)
            }
        }
        var pieces: [[UInt8]] = []
        while !bytes.isEmpty {
            let count = min(bytes.count, 1 + next(50))
            pieces.append(Array(bytes.prefix(count)))
            bytes.removeFirst(count)
        }
        #expect(read(pieces) == expected)
    }

    /// Bytes without any sense, with those that matter among them more often than by chance.
    @Test(arguments: 1...50) func anyBytesAreBorne(seed: UInt64) {
        var state = seed
        func next() -> UInt8 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: state >> 40)
        }
        let words: [[UInt8]] = [[0xFF], [0x0A], Array("{\"return\":".utf8), Array("}".utf8), Array("12".utf8)]
        var reader = GuestAgentReader()
        var bytes: [UInt8] = []
        for _ in 0..<5000 {
            let word = Int(next()) % (words.count + 2)
            bytes += word < words.count ? words[word] : [next()]
        }
        _ = bytes.withUnsafeBytes { reader.read($0) }
        let found = answer(3).withUnsafeBytes { reader.read($0) }
        #expect(found == [3])
    }
}
