import CZstd
import Codec
import Foundation
import Model
import Testing

/// Bodies that no encoder made. A refused one leaves the target as it was; whatever happens, nothing outside the
/// target is written.
@Suite struct HostilePageTests {
    let pages = 24
    let original: [UInt8]

    init() {
        var random = SeededGenerator(seed: 77)
        original = random.bytes(24 * pageSize)
    }

    /// A body with pages of all kinds, and single-byte as well as longer tags.
    func sample(_ codec: Compression) -> [UInt8] {
        var guest = Guest(pages: pages)
        _ = guest.encode((0..<24).map { UInt32($0) }, codec: .none)
        for position in 0..<600 { guest.memory[2 * pageSize + position] = UInt8(truncatingIfNeeded: position) }
        guest.memory[5 * pageSize] = 1
        guest.memory[20 * pageSize + 4095] = 1
        guest.known.remove(7)
        guest.known.remove(9)
        for position in 0..<pageSize {
            guest.memory[9 * pageSize + position] = UInt8(truncatingIfNeeded: position / 32)
        }
        guest.known.remove(11)
        guest.memory.replaceSubrange(11 * pageSize..<12 * pageSize, with: original[..<pageSize])
        guest.known.remove(12)
        for position in 0..<pageSize { guest.memory[12 * pageSize + position] = guest.memory[9 * pageSize + position] }
        let (body, statistics) = guest.encode([0, 2, 5, 7, 9, 11, 12, 20], codec: codec)
        precondition(statistics.copied == 1 && statistics.zero == 1 && statistics.raw == 2 && statistics.delta == 3)
        return body
    }

    /// Decodes into the middle of a canary; returns whether it was refused.
    func decode(_ body: [UInt8], _ decoder: inout PageDecoder) -> CodecError? {
        let margin = [UInt8](repeating: 0xc5, count: 2 * pageSize)
        var memory = margin + original + margin
        let body = sink(body)
        let refusal = memory.withUnsafeMutableBytes { memory in
            do throws(CodecError) {
                _ = try decoder.decode(body: body.bytes) { index in
                    guard index == Guest.block else { return nil }
                    return UnsafeMutableRawBufferPointer(rebasing: memory[margin.count..<memory.count - margin.count])
                }
                return CodecError?.none
            } catch {
                return error
            }
        }
        func holds(_ expected: [UInt8], at offset: Int) -> Bool {
            memory.withUnsafeBytes { memcmp($0.baseAddress! + offset, expected, expected.count) == 0 }
        }
        let outside = holds(margin, at: 0) && holds(margin, at: margin.count + original.count)
        #expect(outside, "nothing outside the target is written")
        if refusal != nil { #expect(holds(original, at: margin.count), "a refused body changes nothing") }
        return refusal
    }

    @Test(arguments: Compression.allCases) func everyTruncationIsRefused(codec: Compression) {
        let body = sample(codec)
        var decoder = PageDecoder()
        #expect(decode(body, &decoder) == nil)
        for length in 0..<body.count { #expect(decode(Array(body[..<length]), &decoder) != nil, "\(length) bytes") }
        #expect(decode(body + [0], &decoder) != nil)
    }

    @Test(arguments: Compression.allCases) func everyFlippedBitIsRefusedOrStaysInside(codec: Compression) {
        let body = sample(codec)
        var decoder = PageDecoder()
        var refused = 0
        // Literal page contents are long and all alike, so only each thirteenth of their bytes is flipped.
        for position in body.indices where position < 400 || position % 13 == 0 {
            for bit in 0..<8 {
                var flipped = body
                flipped[position] ^= 1 << UInt8(bit)
                if decode(flipped, &decoder) != nil { refused += 1 }
            }
        }
        #expect(refused > 50)
        #expect(decode(body, &decoder) == nil, "the decoder works after refusals")
    }

    /// What the fuzzer begins with is of today's form: else it spends its time behind the first check.
    @Test func theFuzzersSeedsAreAccepted() throws {
        let corpus = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appending(path: "../Fuzz/Corpus/FuzzPages").standardized
        let seeds = try FileManager.default.contentsOfDirectory(at: corpus, includingPropertiesForKeys: nil)
            .filter { $0.lastPathComponent.hasPrefix("pages-") }
        #expect(seeds.count > 4)
        var decoder = PageDecoder()
        for seed in seeds {
            let bytes = try Data(contentsOf: seed)
            // The first byte says what the fuzzer is to do with the rest.
            #expect(bytes.first.map { $0 % 3 } == 0)
            #expect(decode(Array(bytes.dropFirst()), &decoder) == nil, "\(seed.lastPathComponent)")
        }
    }

    @Test func randomBodiesAreRefusedOrStayInside() {
        var random = SeededGenerator(seed: 8)
        var decoder = PageDecoder()
        for _ in 0..<2000 {
            var body = random.bytes(20 + random.below(200))
            body[0] = UInt8(Guest.block)
            body[1] = 0
            body[2] = UInt8(random.below(3))
            body[3] = 0
            let length = body[2] == 0 ? body.count - 20 : random.below(9000)
            let contents = random.below(length + 1)
            for (offset, value) in [
                (4, 1 + random.below(4)), (8, contents), (12, length - contents), (16, random.below(2)),
            ] {
                withUnsafeBytes(of: UInt32(value).littleEndian) { body.replaceSubrange(offset..<offset + 4, with: $0) }
            }
            _ = decode(body, &decoder)
        }
    }

    func body(
        block: UInt16 = Guest.block, codec: UInt8 = 0, reserved: UInt8 = 0, pages: UInt32, contents: [UInt8] = [],
        contentsLength: UInt32? = nil, _ list: [UInt8], listLength: UInt32? = nil, stored: UInt32 = 0,
        tail: [UInt8] = []
    ) -> [UInt8] {
        var sink = ByteSink()
        sink.append(block)
        sink.append(codec)
        sink.append(reserved)
        sink.append(pages)
        sink.append(contentsLength ?? UInt32(contents.count))
        sink.append(listLength ?? UInt32(list.count))
        sink.append(stored)
        return Array(sink.bytes) + contents + list + tail
    }

    @Test func headsThatLie() {
        var decoder = PageDecoder()
        #expect(decode(body(pages: 1, [0x01]), &decoder) == nil)
        #expect(decode(body(block: 4, pages: 1, [0x01]), &decoder) == .unknownBlock(4))
        let lies: [[UInt8]] = [
            body(codec: 3, pages: 1, [0x01]), body(reserved: 1, pages: 1, [0x01]), body(pages: 0, []),
            body(pages: 0, [0x01]), body(pages: 2, [0x01]), body(pages: 1025, [UInt8](repeating: 1, count: 1025)),
            body(pages: .max, [0x01]), body(pages: 1, [0x01], listLength: .max),
            body(pages: 1, [0x01], listLength: 2), body(pages: 1, [0x01], listLength: 0),
            body(pages: 1, contentsLength: 1, [0x01]), body(pages: 1, contentsLength: .max, [0x01]),
            body(pages: 1, contentsLength: 1, [0x01], listLength: 0), body(codec: 1, pages: 1, [], listLength: 1),
            body(codec: 2, pages: 1, [], listLength: 1), body(codec: 1, pages: 1, [0x10, 0x01], listLength: .max),
            body(pages: 1, [0x01], stored: 1), body(pages: 1, [0x01], stored: .max),
            body(pages: 1, [0x01], stored: 1, tail: [UInt8](repeating: 1, count: pageSize)),
            body(pages: 1, [0x04], stored: 2, tail: [UInt8](repeating: 1, count: 2 * pageSize)),
        ]
        for refused in lies {
            #expect(decode(refused, &decoder) != nil, "\(refused.prefix(24))")
        }
    }

    @Test func pageListsThatLie() {
        var decoder = PageDecoder()
        let lines = [UInt8](repeating: 0, count: 8)
        let page = [UInt8](repeating: 3, count: pageSize)
        let streams: [(String, [UInt8], [UInt8])] = [
            ("kind 0", [], [0x00]), ("kind 6", [], [0x06]), ("kind 7", [], [0x07]),
            ("beyond the block", [], [0x01 | 8 << 3 | 0x80, 1]), ("endless tag", [], [0x81, 0x80, 0x80, 0x80, 0x80]),
            ("longer tag than needed", [], [0x81, 0x00]), ("cut raw page", [1, 2, 3], [0x02]),
            ("contents too long", page + [1], [0x02]), ("contents of no page", [1], [0x01]),
            ("cut line map", [], [0x03, 1]), ("no line", [], [0x03] + lines),
            ("line without a word", [], [0x03, 1] + lines[1...] + [0]),
            ("words missing", [1, 2, 3], [0x03, 1] + lines[1...] + [0xff]),
            ("no words", [], [0x03, 1] + lines[1...] + [0xff]),
            ("masks missing", [], [0x03] + [UInt8](repeating: 0xff, count: 8) + [1, 1]),
            ("no stored page", [], [0x04]), ("copy of itself", [], [0x05, 0, 0]),
            ("copy of a later page", [], [0x05, 1, 0]), ("cut copy", [], [0x05, 0]),
        ]
        for (name, contents, list) in streams {
            #expect(decode(body(pages: 1, contents: contents, list), &decoder) != nil, "\(name)")
        }
        #expect(decode(body(pages: 1, contents: lines, [0x03, 1] + lines[1...] + [0x80]), &decoder) == nil)
        #expect(decode(body(pages: 1, [0x04], stored: 1, tail: page), &decoder) == nil)
        #expect(decode(body(pages: 2, contents: page, [0x02, 0x05, 0, 0]), &decoder) == nil)
        // A good page before a bad one is not applied either.
        #expect(decode(body(pages: 2, [0x01, 0x00]), &decoder) != nil)
        #expect(decode(body(pages: 2, [0x01, 0x05, 1, 0]), &decoder) != nil)
    }

    @Test func decompressionIsBoundedByWhatIsAnnounced() {
        let large = [UInt8](repeating: 1, count: 8 << 20)
        var packed = [UInt8](repeating: 0, count: 1 << 20)
        let length = ZSTD_compress(&packed, packed.count, large, large.count, 1)
        #expect(length < 4096)
        var decoder = PageDecoder()
        for announced in [UInt32(1000), 1024, 4_199_424] {
            let bomb = body(codec: 2, pages: 1000, Array(packed[..<length]), listLength: announced)
            #expect(decode(bomb, &decoder) != nil)
        }
    }

    @Test(arguments: Compression.allCases) func validationAgreesWithDecoding(codec: Compression) {
        let body = sample(codec)
        var decoder = PageDecoder()
        for position in 0..<min(body.count, 200) {
            var flipped = body
            flipped[position] ^= 0x11
            let refusal = decode(flipped, &decoder)
            let validated = flipped.withUnsafeBytes { bytes in
                do throws(CodecError) {
                    _ = try decoder.validate(body: bytes) { $0 == Guest.block ? pages * pageSize : nil }
                    return CodecError?.none
                } catch {
                    return error
                }
            }
            #expect(refusal == validated)
        }
    }

    @Test func errorsAreOneSentenceEach() {
        let errors: [CodecError] = [
            .truncated(part: "pages body", offset: 3, needed: 12), .unknownBlock(9),
            .malformed(part: "page list", offset: 7, reason: "page kind 0 does not exist"),
            .decompression(codec: .zstd, reason: "it is damaged"), .otherPrevious(expected: 1, found: 2),
        ]
        for error in errors {
            #expect(!error.description.contains("\n") && !error.description.contains("Optional"))
        }
        #expect(
            errors[2].description
                == "the page list is refused at byte 7: page kind 0 does not exist; nothing of it was applied")
    }
}
