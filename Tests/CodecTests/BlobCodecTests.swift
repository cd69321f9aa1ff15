import Codec
import Model
import Testing

@Suite struct BlobCodecTests {
    func encode(_ codec: inout BlobCodec, _ state: [UInt8], previous: [UInt8]? = nil) -> [UInt8] {
        let source = sink(state)
        let earlier = sink(previous ?? [])
        var target = ByteSink(capacity: 64)
        let written = codec.encode(source.bytes, previous: previous == nil ? nil : earlier.bytes, into: &target)
        let body = Array(target.bytes)
        #expect(written == body.count)
        return body
    }

    func decode(_ codec: inout BlobCodec, _ body: [UInt8], previous: [UInt8]? = nil) throws(CodecError) -> [UInt8] {
        let source = sink(body)
        let earlier = sink(previous ?? [])
        var target = ByteSink(capacity: 64)
        do throws(CodecError) {
            try codec.decode(source.bytes, previous: previous == nil ? nil : earlier.bytes, into: &target)
        } catch {
            let appended = target.count
            #expect(appended == 0)
            throw error
        }
        return Array(target.bytes)
    }

    /// Something like a device state: names, counters, long runs of zero, some noise.
    func state(_ random: inout SeededGenerator, count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            bytes += Array("virtio-net".utf8) + [UInt8](repeating: 0, count: random.below(200))
            bytes += random.bytes(random.below(60))
        }
        return Array(bytes[..<count])
    }

    @Test(arguments: [0, 1, 10, 4096, 61_000, 300_000]) func roundTrips(count: Int) throws {
        var random = SeededGenerator(seed: 1)
        var codec = BlobCodec()
        let bytes = state(&random, count: count)
        let body = encode(&codec, bytes)
        #expect(body.count <= count + 12)
        #expect(try decode(&codec, body) == bytes)
    }

    @Test func noiseIsStored() throws {
        var random = SeededGenerator(seed: 2)
        var codec = BlobCodec()
        let bytes = random.bytes(5000)
        let body = encode(&codec, bytes)
        #expect(body.count == 5012)
        #expect(try decode(&codec, body) == bytes)
    }

    @Test(arguments: [15_000, 61_000, 2_000_000]) func anEarlierStateMakesItSmall(count: Int) throws {
        var random = SeededGenerator(seed: 3)
        var codec = BlobCodec()
        let previous = state(&random, count: count)
        var next = previous
        for _ in 0..<12 { next[random.below(count)] ^= 1 }
        let body = encode(&codec, next, previous: previous)
        let alone = encode(&codec, next).count
        #expect(body.count < alone / 10 && body.count < 1200, "\(body.count) bytes, alone \(alone)")
        #expect(try decode(&codec, body, previous: previous) == next)
        #expect(throws: CodecError.self) { try decode(&codec, body) }
        #expect(throws: CodecError.self) { try decode(&codec, body, previous: next) }
        // And the codec is as before for states that stand alone.
        #expect(try decode(&codec, encode(&codec, next)) == next)
    }

    @Test func truncationsAndFlipsAreRefusedOrGiveTheAnnouncedLength() throws {
        var random = SeededGenerator(seed: 4)
        var codec = BlobCodec()
        let bytes = state(&random, count: 900)
        let body = encode(&codec, bytes)
        for length in 0..<body.count {
            #expect(throws: CodecError.self) { try decode(&codec, Array(body[..<length])) }
        }
        for position in body.indices {
            for bit in 0..<8 {
                var flipped = body
                flipped[position] ^= 1 << UInt8(bit)
                if let found = try? decode(&codec, flipped) { #expect(found.count == bytes.count) }
            }
        }
    }

    /// However the two differ, what is sent makes the one of the other; a few changes are told as such.
    @Test func changesMakeTheNextState() throws {
        var random = SeededGenerator(seed: 5)
        var codec = BlobCodec()
        for round in 0..<400 {
            let count = 1 + random.below(round.isMultiple(of: 2) ? 40 : 20_000)
            let previous = state(&random, count: count)
            var next = previous
            for _ in 0..<random.below(60) {
                let start = random.below(count)
                for position in start..<min(count, start + 1 + random.below(12)) { next[position] &+= 1 }
            }
            let body = encode(&codec, next, previous: previous)
            #expect(try decode(&codec, body, previous: previous) == next)
            if count > 3000 { #expect(body[0] == 4 && body.count < 12 + 60 * 20) }
        }
    }

    /// The first and the last byte, all of them, none.
    @Test func changesAtTheEdges() throws {
        var codec = BlobCodec()
        let previous = [UInt8](repeating: 7, count: 301)
        let changes: [[Int]] = [[], [0], [300], [0, 300], [8], [7, 8, 15, 16], Array(0..<301), [1, 4, 8, 13]]
        for positions in changes {
            var next = previous
            for position in positions { next[position] = 9 }
            let body = encode(&codec, next, previous: previous)
            #expect(try decode(&codec, body, previous: previous) == next, "\(positions)")
        }
        // Another length is no change of this one.
        let longer = previous + [1]
        #expect(try decode(&codec, encode(&codec, longer, previous: previous), previous: previous) == longer)
    }

    @Test func changesThatAreNone() throws {
        var random = SeededGenerator(seed: 6)
        var codec = BlobCodec()
        let previous = state(&random, count: 5000)
        var next = previous
        for position in stride(from: 3, to: 5000, by: 170) { next[position] ^= 0x5a }
        let body = encode(&codec, next, previous: previous)
        #expect(body[0] == 4)
        for length in 0..<body.count {
            #expect(throws: CodecError.self) { try decode(&codec, Array(body[..<length]), previous: previous) }
        }
        #expect(throws: CodecError.self) { try decode(&codec, body + [0], previous: previous) }
        #expect(throws: CodecError.self) { try decode(&codec, body, previous: Array(previous.dropLast())) }
        #expect(throws: CodecError.self) { try decode(&codec, body) }
        for position in body.indices {
            for bit in 0..<8 {
                var flipped = body
                flipped[position] ^= 1 << UInt8(bit)
                if let found = try? decode(&codec, flipped, previous: previous) { #expect(found.count == 5000) }
            }
        }
        let head = Array(body[..<12])
        for row: [UInt8] in [
            [], [0], [0x88, 0x27], [0, 0], [0x88, 0x27, 0, 0], [0x89, 0x27, 0], [0x80, 0x80, 0x80, 0x80, 0x80, 0, 0],
            [0xff, 0xff, 0xff, 0xff, 0x7f, 1, 0], [0x87, 0x27, 2, 1, 1, 0, 0],
        ] {
            #expect(throws: CodecError.self, "\(row)") { try decode(&codec, head + row, previous: previous) }
        }
        #expect(try decode(&codec, head + [0x88, 0x27, 0], previous: previous) == previous)
    }

    @Test func lengthsBeyondTheCapAreRefused() {
        var codec = BlobCodec()
        let head: [UInt8] = [2, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0]
        #expect(throws: CodecError.self) { try decode(&codec, head + [0x28, 0xb5, 0x2f, 0xfd]) }
    }
}
