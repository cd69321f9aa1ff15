import Codec
import Model
import Testing

@Suite struct PageRoundTripTests {
    @Test(arguments: Compression.allCases, [UInt64(1), 2, 3]) func theReplicaFollowsTheGuest(
        codec: Compression, seed: UInt64
    ) throws {
        var random = SeededGenerator(seed: seed)
        var guest = Guest(pages: 200)
        let all = (0..<200).map { UInt32($0) }
        for round in 0..<25 {
            let touched = round == 0 ? all : guest.run(&random, touching: 30)
            let (body, statistics) = guest.encode(touched, codec: codec)
            #expect(
                statistics.pages
                    == statistics.zero + statistics.unchanged + statistics.delta + statistics.raw + statistics.copied)
            #expect(statistics.pages == touched.count)
            #expect(statistics.bytes == body.count)
            guard !body.isEmpty else {
                #expect(statistics.unchanged == touched.count)
                continue
            }
            let decoded = try guest.decode(body)
            #expect(decoded.pages == statistics.pages - statistics.unchanged)
            #expect(decoded.zero == statistics.zero)
            #expect(decoded.delta == statistics.delta)
            #expect(decoded.raw == statistics.raw)
            #expect(decoded.copied == statistics.copied)
            #expect(guest.replica == guest.memory)
            #expect(guest.reference == guest.memory)
            _ = try guest.decode(body)
            #expect(guest.replica == guest.memory, "applying twice is harmless")
        }
        #expect(guest.known.count == 200)
    }

    @Test func anOldBodyAppliedAgainIsRepairedByTheOnesAfterIt() throws {
        var random = SeededGenerator(seed: 9)
        var guest = Guest(pages: 40)
        var bodies: [[UInt8]] = [guest.encode((0..<40).map { UInt32($0) }, codec: .lz4).body]
        for _ in 0..<6 { bodies.append(guest.encode(guest.run(&random, touching: 20), codec: .zstd).body) }
        for body in bodies where !body.isEmpty { _ = try guest.decode(body) }
        for body in bodies[2...] where !body.isEmpty { _ = try guest.decode(body) }
        #expect(guest.replica == guest.memory)
    }

    @Test(arguments: Compression.allCases) func withoutAReferenceEveryPageIsSent(codec: Compression) throws {
        var random = SeededGenerator(seed: 4)
        var guest = Guest(pages: 60)
        _ = guest.run(&random, touching: 60)
        let all = (0..<60).map { UInt32($0) }
        for _ in 0..<2 {
            let (body, statistics) = guest.encode(all, codec: codec, withReference: false)
            #expect(statistics.unchanged == 0 && statistics.delta == 0)
            _ = try guest.decode(body)
            #expect(guest.replica == guest.memory)
        }
        #expect(guest.known.count == 0)
    }

    @Test func aStandbyKnownToBeZeroIsSentNoZeros() throws {
        var guest = Guest(pages: 100)
        guest.reference = [UInt8](repeating: 0, count: 100 * pageSize)
        guest.replica = guest.reference
        guest.known.insertAll()
        guest.memory[50 * pageSize + 17] = 1
        let (body, statistics) = guest.encode((0..<100).map { UInt32($0) }, codec: .none)
        #expect(statistics.unchanged == 99 && statistics.delta == 1)
        #expect(body.count < 40)
        _ = try guest.decode(body)
        #expect(guest.replica == guest.memory)
    }

    @Test func nothingToSendAppendsNothing() {
        var guest = Guest(pages: 8)
        _ = guest.encode([1, 2, 3], codec: .zstd)
        let (body, statistics) = guest.encode([1, 2, 3], codec: .zstd)
        #expect(body.isEmpty && statistics.bytes == 0 && statistics.unchanged == 3)
        let (empty, none) = guest.encode([], codec: .zstd)
        #expect(empty.isEmpty && none == EncodeStatistics())
    }

    @Test func aSmallChangeIsSmall() throws {
        var guest = Guest(pages: 4)
        for position in guest.memory.indices { guest.memory[position] = UInt8(truncatingIfNeeded: position / 7) }
        _ = try guest.decode(guest.encode([0, 1, 2, 3], codec: .none).body)
        guest.memory[2 * pageSize + 100] ^= 1
        // Head, tag, one line map, one mask, one word.
        #expect(guest.encode([2], codec: .none).body.count == 20 + 1 + 8 + 1 + 8)
    }

    @Test func aPageThatBecomesZeroIsOneByte() {
        var guest = Guest(pages: 1)
        guest.memory[100] = 1
        _ = guest.encode([0], codec: .none)
        guest.memory[100] = 0
        let (body, statistics) = guest.encode([0], codec: .none)
        #expect(statistics.zero == 1 && body.count == 21)
    }

    @Test(arguments: Compression.allCases) func noiseKeepsItsSize(codec: Compression)
        throws
    {
        var random = SeededGenerator(seed: 5)
        var guest = Guest(pages: PageEncoder.pagesMax)
        var word: UInt64 = 0
        for position in guest.memory.indices {
            if position % 8 == 0 { word = random.next() }
            guest.memory[position] = UInt8(truncatingIfNeeded: word >> UInt64(8 * (position % 8)))
        }
        let all = (0..<PageEncoder.pagesMax).map { UInt32($0) }
        let (body, statistics) = guest.encode(all, codec: codec)
        #expect(statistics.raw == PageEncoder.pagesMax)
        // Random pages are told apart before; what is left for the second stage is the list.
        #expect(statistics.stageOneBytes == (codec == .none ? 1 + pageSize : 1) * PageEncoder.pagesMax)
        #expect(Double(body.count) <= 1.0005 * Double(guest.memory.count))
        #expect(body.count < 4 << 20 && body.count <= PageEncoder.bodyMax)
        _ = try guest.decode(body)
        #expect(guest.replica == guest.memory)
    }

    @Test(arguments: [Compression.lz4, .zstd]) func aSecondStageThatGainsLittleIsLeftOut(codec: Compression) {
        var random = SeededGenerator(seed: 10)
        var guest = Guest(pages: 64)
        // Random words of which none repeats, but whose bytes are not evenly distributed: seven bits of each byte. They
        // do not look random, and the sample tells that they shrink by an eighth at most.
        for position in guest.memory.indices { guest.memory[position] = UInt8(random.below(244)) }
        let (_, statistics) = guest.encode((0..<64).map { UInt32($0) }, codec: codec)
        #expect(statistics.raw == 64 && statistics.compressedStageOneBytes < pageSize)
    }

    @Test(arguments: Compression.allCases) func equalPagesAreSentOnce(codec: Compression) throws {
        var random = SeededGenerator(seed: 11)
        var guest = Guest(pages: 64)
        let all = (0..<64).map { UInt32($0) }
        _ = try guest.decode(guest.encode(all, codec: codec).body)
        // Four contents in turns, one of them zero; the second body is against a reference.
        for _ in 0..<2 {
            let contents = [[UInt8](repeating: 0, count: pageSize)] + (0..<3).map { _ in random.bytes(pageSize) }
            for page in 0..<64 {
                guest.memory.replaceSubrange(page * pageSize..<(page + 1) * pageSize, with: contents[page % 4])
            }
            let (body, statistics) = guest.encode(all, codec: codec)
            #expect(statistics.raw == 3 && statistics.copied == 45)
            #expect(body.count < 4 * pageSize)
            #expect(try guest.decode(body).copied == 45)
            #expect(guest.replica == guest.memory && guest.reference == guest.memory)
            _ = try guest.decode(body)
            #expect(guest.replica == guest.memory, "applying twice is harmless")
        }
    }

    @Test func aPageThatAlmostEqualsAnotherIsNoCopy() throws {
        var random = SeededGenerator(seed: 12)
        var guest = Guest(pages: 3)
        let contents = random.bytes(pageSize)
        for page in 0..<3 { guest.memory.replaceSubrange(page * pageSize..<(page + 1) * pageSize, with: contents) }
        // A byte that the sample does not look at.
        guest.memory[pageSize + 8] ^= 1
        let (body, statistics) = guest.encode([0, 1, 2], codec: .none)
        #expect(statistics.raw == 2 || statistics.raw == 3)
        _ = try guest.decode(body)
        #expect(guest.replica == guest.memory)
    }

    @Test func everyWordChangedIsSentRaw() {
        var guest = Guest(pages: 1)
        _ = guest.encode([0], codec: .none)
        for position in stride(from: 0, to: pageSize, by: 8) { guest.memory[position] = 1 }
        let (body, statistics) = guest.encode([0], codec: .none)
        #expect(statistics.raw == 1 && body.count == 20 + 1 + pageSize)
    }

    @Test(arguments: [Compression.lz4, .zstd]) func theSecondStageShrinksWhatCanShrink(codec: Compression) throws {
        var guest = Guest(pages: 256)
        for position in guest.memory.indices {
            guest.memory[position] = UInt8(truncatingIfNeeded: position % 61 + position / pageSize)
        }
        let (body, statistics) = guest.encode((0..<256).map { UInt32($0) }, codec: codec)
        #expect(statistics.compressedStageOneBytes == statistics.stageOneBytes)
        #expect(body[2] == codec.rawValue && body.count < guest.memory.count / 10)
        _ = try guest.decode(body)
        #expect(guest.replica == guest.memory)
    }

    @Test func equalInputGivesEqualBodies() {
        func bodies() -> [[UInt8]] {
            var random = SeededGenerator(seed: 6)
            var guest = Guest(pages: 50)
            return (0..<8).map { _ in guest.encode(guest.run(&random, touching: 20), codec: .zstd).body }
        }
        #expect(bodies() == bodies())
    }

    @Test func pageNumbersUpToTheLastOneCanBeSaid() throws {
        // A page far behind needs a long tag; the replica need not exist for the check.
        var encoder = PageEncoder()
        var known = PageBitmap(pages: 0)
        var sink = ByteSink()
        let page = [UInt8](repeating: 1, count: 2 * pageSize)
        _ = page.withUnsafeBytes { page in
            [UInt32(7), UInt32.max].withUnsafeBufferPointer { numbers in
                encoder.encode(
                    block: 0, pageNumbers: numbers, pages: page, reference: nil, known: &known, codec: .none,
                    into: &sink)
            }
        }
        var decoder = PageDecoder()
        let pages = Int(UInt32.max) + 1
        #expect(try decoder.validate(body: sink.bytes) { _ in pages * pageSize }.pages == 2)
        #expect(throws: CodecError.self) { try decoder.validate(body: sink.bytes) { _ in (pages - 1) * pageSize } }
    }
}
