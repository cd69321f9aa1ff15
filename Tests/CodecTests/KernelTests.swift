import CKernels
import Testing

/// Every kernel of every level that this CPU runs, against a twin written for the eye.
@Suite struct KernelTests {
    static let levels: [Int32] = [0, 1, 2].filter { ck_kernels_at($0) != nil }

    func masks(_ page: [UInt8], _ reference: [UInt8]) -> [UInt8] {
        var masks = [UInt8](repeating: 0, count: 64)
        for word in 0..<512 {
            let range = word * 8..<word * 8 + 8
            if page[range] != reference[range] { masks[word / 8] |= 1 << UInt8(word % 8) }
        }
        return masks
    }

    func crc(_ bytes: ArraySlice<UInt8>, _ start: UInt32) -> UInt32 {
        var crc = ~start
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1 }
        }
        return ~crc
    }

    @Test func thePlainLevelIsAlwaysThere() {
        #expect(ck_kernels_at(0) != nil)
        #expect(ck_kernels_at(3) == nil)
        #expect(ck_kernels_at(-1) == nil)
    }

    @Test(arguments: levels) func zeroPages(level: Int32) throws {
        let kernels = try #require(ck_kernels_at(level)).pointee
        var page = [UInt8](repeating: 0, count: 4096)
        #expect(kernels.page_is_zero(page))
        for position in 0..<4096 {
            page[position] = 0x80
            #expect(!kernels.page_is_zero(page), "byte \(position)")
            page[position] = 0
        }
    }

    @Test(arguments: levels) func differences(level: Int32) throws {
        let kernels = try #require(ck_kernels_at(level)).pointee
        var random = SeededGenerator(seed: 1)
        for changes in [0, 1, 2, 7, 40, 300, 4096] {
            let reference = random.bytes(4096)
            var page = reference
            for _ in 0..<changes { page[random.below(4096)] ^= UInt8(1 << random.below(8)) }
            let expected = masks(page, reference)
            var found = [UInt8](repeating: 0xaa, count: 64)
            let lines = kernels.page_difference(page, reference, &found, reference, page)
            #expect(found == expected)
            #expect((0..<64).allSatisfy { (lines >> UInt64($0) & 1 == 1) == (expected[$0] != 0) })

            var out = [UInt8](repeating: 0xee, count: 4096 + 64)
            var packed = [UInt8](repeating: 0xee, count: 65)
            var updated = reference
            let length = kernels.page_take(page, &updated, lines, found, &packed, &out)
            let words = (0..<512).filter { expected[$0 / 8] >> UInt8($0 % 8) & 1 == 1 }
            #expect(Array(out[..<length]) == words.flatMap { page[$0 * 8..<$0 * 8 + 8] })
            let changed = expected.filter { $0 != 0 }
            #expect(Array(packed[..<changed.count]) == changed && packed[changed.count] == 0xee)
            #expect(updated == page)

            var rebuilt = reference
            ck_page_scatter(&rebuilt, lines, packed, out)
            #expect(rebuilt == page)
        }
    }

    @Test(arguments: levels) func takingStaysWithinItsSlack(level: Int32) throws {
        let kernels = try #require(ck_kernels_at(level)).pointee
        let page = [UInt8](repeating: 7, count: 4096)
        var reference = [UInt8](repeating: 0, count: 4096)
        var masks = [UInt8](repeating: 0, count: 64)
        masks[63] = 0x80
        var packed: [UInt8] = [0, 0xee]
        var out = [UInt8](repeating: 0xee, count: 8 + Int(CK_SLACK) + 64)
        #expect(kernels.page_take(page, &reference, 1 << 63, masks, &packed, &out) == 8)
        #expect(packed == [0x80, 0xee])
        #expect(out[..<8].allSatisfy { $0 == 7 } && out[(8 + Int(CK_SLACK))...].allSatisfy { $0 == 0xee })
        #expect(reference[..<(63 * 64)].allSatisfy { $0 == 0 } && reference[(63 * 64)...].allSatisfy { $0 == 7 })
    }

    @Test(arguments: levels) func wholePagesGoToBothPlaces(level: Int32) throws {
        let kernels = try #require(ck_kernels_at(level)).pointee
        var random = SeededGenerator(seed: 4)
        let page = random.bytes(4096)
        var one = [UInt8](repeating: 0, count: 4097)
        var other = one
        kernels.page_copy(page, &one, &other)
        #expect(one == page + [0] && other == one)
    }

    @Test func equalPagesHaveEqualSamples() {
        var random = SeededGenerator(seed: 5)
        let pages = (0..<200).map { _ in random.bytes(4096) }
        #expect(Set(pages.map { ck_page_sample($0) }).count > 195)
        #expect(ck_page_sample(pages[0]) == ck_page_sample(Array(pages[0])))
    }

    @Test func randomPagesAreToldFromOthers() {
        var random = SeededGenerator(seed: 6)
        #expect((0..<200).allSatisfy { _ in ck_page_looks_random(random.bytes(4096)) })
        let text = Array("all work and no play makes the guest a dull machine; ".utf8)
        #expect(!ck_page_looks_random((0..<4096).map { text[$0 % text.count] }))
        #expect(!ck_page_looks_random([UInt8](repeating: 0, count: 4096)))
        // Pointers: words whose upper bytes are alike.
        #expect(!ck_page_looks_random((0..<4096).map { $0 % 8 < 4 ? UInt8(random.below(256)) : 0xff }))
    }

    @Test func crcOfTheCheckString() {
        #expect(ck_crc32c(0, "123456789", 9) == 0xe306_9283)
        #expect(ck_crc32c(0, "", 0) == 0)
    }

    @Test(arguments: levels) func crcs(level: Int32) throws {
        let kernels = try #require(ck_kernels_at(level)).pointee
        var random = SeededGenerator(seed: 2)
        let bytes = random.bytes(30_000)
        // Around the sizes of the interleaved runs, and at odd alignments.
        for length in [0, 1, 7, 8, 9, 767, 768, 769, 1600, 12_287, 12_288, 12_289, 29_000] {
            let start = random.below(9)
            let slice = bytes[start..<start + length]
            let initial = UInt32(truncatingIfNeeded: random.next())
            let found = slice.withUnsafeBytes { kernels.crc32c(initial, $0.baseAddress, length) }
            #expect(found == crc(slice, initial), "length \(length)")
        }
    }

    @Test func crcsContinue() {
        var random = SeededGenerator(seed: 3)
        let bytes = random.bytes(20_000)
        for cut in [0, 1, 4095, 12_288, 20_000] {
            let joined = bytes.withUnsafeBytes { whole in
                guard let base = whole.baseAddress else { return UInt32(0) }
                return ck_crc32c(ck_crc32c(0, base, cut), base + cut, whole.count - cut)
            }
            #expect(joined == ck_crc32c(0, bytes, bytes.count))
        }
    }
}
