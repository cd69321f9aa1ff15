import Model
import Testing
import Wire

@Suite struct FrameBodyTests {
    @Test func everyTypeThatIsNotJSONOrPagesIsCovered() {
        let covered = Set(BodyKind.all.map(\.type))
        let elsewhere: Set<FrameType> = [
            .hello, .offer, .accept, .refuse, .goodbye, .pages, .register, .wish, .tuning, .registerRequest,
            .registerReply, .turn, .check, .checked, .attach, .attached, .detach,
        ]
        #expect(covered.union(elsewhere) == Set(FrameType.allCases) && covered.isDisjoint(with: elsewhere))
    }

    @Test(arguments: BodyKind.all) func roundTrips(kind: BodyKind) throws {
        #expect(!kind.samples.isEmpty)
        for sample in kind.samples {
            #expect(sample.count <= kind.type.bodyMax)
            #expect(try kind.rewrite(sample).get() == sample)
        }
    }

    /// A body cut short is refused, unless it ends in a payload of free length; then what is left must be consistent.
    @Test(arguments: BodyKind.all) func everyTruncationIsRefusedOrShorter(kind: BodyKind) throws {
        let free: Set<FrameType> = [
            .deviceState, .diskWrite, .diskReadReply, .diskDigestsReply, .pageDigestsReply, .verify, .verifyReply,
        ]
        for sample in kind.samples {
            for length in 0..<sample.count {
                let cut = Array(sample[..<length])
                switch kind.rewrite(cut) {
                case .success(let again):
                    #expect(free.contains(kind.type), "\(length) of \(sample.count) bytes")
                    #expect(again == cut)
                case .failure(let error):
                    #expect(error.offset <= max(length, sample.count))
                }
            }
        }
    }

    @Test(arguments: BodyKind.all.filter { ![.deviceState, .diskWrite, .diskReadReply].contains($0.type) })
    func aByteTooManyIsRefused(kind: BodyKind) {
        for sample in kind.samples {
            #expect(throws: WireError.self) { try kind.rewrite(sample + [0]).get() }
        }
    }

    /// What a flipped bit makes of a body is refused, or is another valid body: it never traps, and nothing is lost.
    @Test(arguments: BodyKind.all) func everyFlippedBitIsRefusedOrAnotherBody(kind: BodyKind) {
        for sample in kind.samples {
            for bit in 0..<sample.count * 8 {
                var flipped = sample
                flipped[bit / 8] ^= 1 << UInt8(bit % 8)
                if case .success(let again) = kind.rewrite(flipped) { #expect(again == flipped) }
            }
        }
    }

    @Test(arguments: BodyKind.all) func randomBytesNeverTrap(kind: BodyKind) {
        var random = SeededGenerator(seed: UInt64(kind.type.rawValue))
        for _ in 0..<500 {
            var body = random.bytes(random.below(140))
            if random.below(2) == 0 { for index in body.indices.dropFirst(2).prefix(14) { body[index] = 0 } }
            if case .success(let again) = kind.rewrite(body) { #expect(again == body) }
        }
    }

    func refusal(_ type: FrameType, _ body: [UInt8]) -> WireError? {
        guard let kind = BodyKind.all.first(where: { $0.type == type }) else { return nil }
        guard case .failure(let error) = kind.rewrite(body) else { return nil }
        return error
    }

    func little(_ number: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: number.littleEndian) { Array($0) } }

    @Test func outputThatLies() {
        let head: [UInt8] = [0, 0, 0, 0]
        let packet: [UInt8] = [0, 0, 0, 1, 9]
        #expect(refusal(.output, head + little(UInt32(1)) + packet) == nil)
        let longest = [0, 1, 0x10, 0] + [UInt8](repeating: 1, count: OutputFrame.packetMax)
        #expect(refusal(.output, head + little(UInt32(1)) + longest) == nil)
        for (name, body) in [
            ("no packet", head + little(UInt32(0))), ("more than there are", head + little(UInt32(2)) + packet),
            ("fewer than there are", head + little(UInt32(1)) + packet + packet),
            ("endless", head + little(UInt32.max) + packet), ("empty packet", head + little(UInt32(1)) + [0, 0, 0, 0]),
            ("huge packet", head + little(UInt32(1)) + [0xff, 0xff, 0xff, 0xff, 1]),
            ("packet over the cap", head + little(UInt32(1)) + [0, 1, 0x10, 1] + longest[3...]),
            ("reserved", [0, 0, 1, 0] + little(UInt32(1)) + packet),
        ] {
            #expect(refusal(.output, body) != nil, "\(name)")
        }
    }

    @Test func packetsComeOutAsTheyWentIn() throws {
        let sent: [[UInt8]] = [[1], [2, 3, 4], [UInt8](repeating: 5, count: 1514)]
        let framed = sink(sent.flatMap { withUnsafeBytes(of: UInt32($0.count).bigEndian) { Array($0) } + $0 })
        let body = sink(bytes(of: OutputFrame(nic: 1, count: 3, packets: framed.bytes)))
        let parsed = try OutputFrame(parsing: body.bytes)
        #expect(parsed.nic == 1 && Array(parsed.packets) == Array(framed.bytes))
        var found: [[UInt8]] = []
        parsed.forEachPacket { found.append(Array($0)) }
        #expect(found == sent)
    }

    @Test func diskRangesThatLie() {
        let head: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0]
        let beyond = UInt64(Int64.max)
        #expect(refusal(.diskWrite, head + little(beyond - 1) + [1]) == nil)
        #expect(refusal(.diskWrite, head + little(beyond) + [1])?.offset == 8)
        #expect(refusal(.diskWrite, head + little(UInt64.max) + [1])?.offset == 8)
        #expect(refusal(.diskWrite, head + little(UInt64(0)))?.offset == 16)
        #expect(refusal(.diskZero, head + little(UInt64.max) + little(UInt64(1))) != nil)
        #expect(refusal(.diskZero, head + little(UInt64(0)) + little(UInt64.max)) != nil)
        #expect(refusal(.diskZero, head + little(UInt64(0)) + little(UInt64(0)))?.offset == 16)
        #expect(refusal(.diskZero, [0, 0, 2, 0, 0, 0, 0, 0] + little(UInt64(0)) + little(UInt64(1)))?.offset == 2)
        let length = UInt32(DiskReadReply.dataMax)
        #expect(refusal(.diskRead, head + head[..<4] + little(length) + little(UInt64(0))) == nil)
        #expect(refusal(.diskRead, head + head[..<4] + little(length + 1) + little(UInt64(0)))?.offset == 12)
        #expect(refusal(.diskRead, head + head[..<4] + little(UInt32(0)) + little(UInt64(0)))?.offset == 12)
        #expect(refusal(.diskRead, head + head[..<4] + little(length) + little(UInt64.max)) != nil)
    }

    @Test func repliesThatContradictThemselves() {
        #expect(refusal(.diskReadReply, little(UInt64(1)) + little(UInt32(5)) + little(UInt32(0)) + [1]) != nil)
        #expect(refusal(.diskReadReply, little(UInt64(1)) + little(UInt32(0)) + little(UInt32(0))) != nil)
        #expect(refusal(.diskReadReply, little(UInt64(1)) + little(UInt32(5)) + little(UInt32(0))) == nil)
    }

    @Test func digestQuestionsThatLie() {
        func question(size: UInt32 = 4096, first: UInt64 = 0, count: UInt32 = 1) -> [UInt8] {
            var body: [UInt8] = [0, 0, 0, 0]
            body += little(size)
            body += little(first)
            body += little(count)
            return body + little(UInt32(0))
        }
        #expect(refusal(.diskDigests, question()) == nil)
        for size in [UInt32(0), 1, 2048, 4097, 12_288, 32 << 20, .max] {
            #expect(refusal(.diskDigests, question(size: size))?.offset == 4)
        }
        for count in [0, UInt32(DiskDigests.countMax) + 1, .max] {
            #expect(refusal(.diskDigests, question(count: count))?.offset == 16)
        }
        for first in [UInt64.max, UInt64.max - 1, 1 << 51] {
            #expect(refusal(.diskDigests, question(first: first))?.offset == 8)
        }
        let head = [0, 0, 0, 0] + little(UInt32(4096)) + little(UInt64(0))
        #expect(refusal(.diskDigestsReply, head) != nil)
        #expect(refusal(.diskDigestsReply, head + [UInt8](repeating: 1, count: 17)) != nil)
        let most = DiskDigests.countMax * DiskDigestsReply.digestSize
        #expect(refusal(.diskDigestsReply, head + [UInt8](repeating: 1, count: most)) == nil)
        #expect(refusal(.diskDigestsReply, head + [UInt8](repeating: 1, count: most + 16)) != nil)
    }

    @Test func pageDigestQuestionsThatLie() {
        func question(first: UInt32 = 0, count: UInt32 = 1) -> [UInt8] {
            var body: [UInt8] = [0, 0, 0, 0]
            body += little(first)
            return body + little(count)
        }
        #expect(refusal(.pageDigests, question()) == nil)
        for count in [0, UInt32(PageDigests.countMax) + 1, .max] {
            #expect(refusal(.pageDigests, question(count: count))?.offset == 8)
        }
        #expect(refusal(.pageDigests, question(first: .max - 1)) == nil)
        #expect(refusal(.pageDigests, question(first: .max))?.offset == 4)
        #expect(refusal(.pageDigests, [0, 0, 1, 0] + question()[4...])?.offset == 2)
        let head = Array(question()[..<8])
        #expect(refusal(.pageDigestsReply, head) != nil)
        #expect(refusal(.pageDigestsReply, head + [UInt8](repeating: 1, count: 17)) != nil)
        #expect(
            refusal(.pageDigestsReply, [0, 0, 0, 0] + little(UInt32.max) + [UInt8](repeating: 1, count: 16)) != nil)
        let most = PageDigests.countMax * PageDigestsReply.digestSize
        #expect(refusal(.pageDigestsReply, head + [UInt8](repeating: 1, count: most)) == nil)
        #expect(refusal(.pageDigestsReply, head + [UInt8](repeating: 1, count: most + 16)) != nil)
    }

    @Test func verificationsThatLie() {
        func run(first: UInt32 = 0, count: UInt32 = 1, reserved: UInt16 = 0) -> [UInt8] {
            little(UInt16(2)) + little(reserved) + little(first) + little(count)
        }
        let session = little(UInt64(5))
        let most = UInt32(VerifyQuestion.pagesMax)
        #expect(refusal(.verify, session) != nil)
        #expect(refusal(.verify, session + run()) == nil)
        #expect(refusal(.verify, session + run(count: most)) == nil)
        #expect(refusal(.verify, session + run(count: most + 1))?.offset == 16)
        #expect(refusal(.verify, session + run(count: most) + run())?.offset == 28)
        #expect(refusal(.verify, session + run(count: 0))?.offset == 12)
        #expect(refusal(.verify, session + run(first: .max))?.offset == 12)
        #expect(refusal(.verify, session + run(reserved: 1))?.offset == 10)
        #expect(refusal(.verifyReply, session) == nil)
        let digests = [UInt8](repeating: 1, count: VerifyQuestion.pagesMax * 16)
        #expect(refusal(.verifyReply, session + digests) == nil)
        #expect(refusal(.verifyReply, session + digests + digests[..<16])?.offset == 8)
        #expect(refusal(.verifyReply, session + digests[..<17])?.offset == 8)
    }

    @Test func deviceStatePiecesThatDoNotFit() {
        #expect(refusal(.deviceState, little(UInt32(2)) + little(UInt32(1)) + [1]) == nil)
        for (total, offset) in [(UInt32(2), UInt32(2)), (1, .max), (0, 0), (.max, 0), (2, .max)] {
            #expect(refusal(.deviceState, little(total) + little(offset) + [1]) != nil)
        }
        #expect(refusal(.deviceState, little(UInt32(2)) + little(UInt32(0))) != nil)
    }

    @Test func checkpointEndsThatDoNotAddUp() {
        func end(frames: UInt32, bytes: UInt64, _ sections: [(UInt8, UInt32, UInt64)], count: UInt8? = nil) -> [UInt8] {
            var body = little(frames)
            body += [count ?? UInt8(sections.count), 0, 0, 0]
            body += little(bytes)
            body += [UInt8](repeating: 3, count: 32)
            for (type, frames, bytes) in sections {
                body += [type, 0, 0, 0]
                body += little(frames)
                body += little(bytes)
            }
            return body
        }
        #expect(refusal(.checkpointEnd, end(frames: 3, bytes: 30, [(5, 1, 10), (6, 2, 20)])) == nil)
        for (name, body) in [
            ("frames", end(frames: 4, bytes: 30, [(5, 1, 10), (6, 2, 20)])),
            ("bytes", end(frames: 3, bytes: 31, [(5, 1, 10), (6, 2, 20)])),
            ("order", end(frames: 3, bytes: 30, [(6, 2, 20), (5, 1, 10)])),
            ("twice", end(frames: 3, bytes: 30, [(5, 2, 20), (5, 1, 10)])),
            ("type 0", end(frames: 1, bytes: 10, [(0, 1, 10)])),
            ("type of control", end(frames: 1, bytes: 10, [(1, 1, 10)])),
            ("unknown type", end(frames: 1, bytes: 10, [(99, 1, 10)])),
            ("empty section", end(frames: 0, bytes: 10, [(5, 0, 10)])),
            ("frames overflow", end(frames: 0, bytes: 2, [(5, .max, 1), (6, 1, 1)])),
            ("bytes overflow", end(frames: 2, bytes: 0, [(5, 1, .max), (6, 1, 1)])),
            ("count beyond", end(frames: 1, bytes: 10, [(5, 1, 10)], count: 255)),
            ("count missing", end(frames: 1, bytes: 10, [(5, 1, 10)], count: 2)),
        ] {
            #expect(refusal(.checkpointEnd, body) != nil, "\(name)")
        }
    }

    @Test func termZeroTakesNothingOver() {
        #expect(refusal(.takeOver, little(UInt64(0)) + [UInt8](repeating: 0, count: 8))?.offset == 0)
    }

    @Test func aGuestEitherStandsOrDoesNot() {
        #expect(refusal(.takeOver, little(UInt64(1)) + [2, 0, 0, 0, 0, 0, 0, 0])?.offset == 8)
        #expect(refusal(.takeOver, little(UInt64(1)) + [1, 0, 0, 0, 0, 0, 0, 9]) != nil)
    }

    @Test func digestsAreHexadecimalAndEqualByContent() {
        let one = sink((0..<32).map { UInt8($0) })
        let two = sink((0..<32).map { UInt8($0) })
        let other = sink((1..<33).map { UInt8($0) })
        #expect(CheckpointDigest(one.bytes) == CheckpointDigest(two.bytes))
        #expect(CheckpointDigest(one.bytes) != CheckpointDigest(other.bytes))
        #expect(Set([CheckpointDigest(one.bytes), CheckpointDigest(two.bytes)]).count == 1)
        #expect(
            CheckpointDigest(one.bytes).description
                == "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
    }

    @Test func errorsSayWhereAndWhy() {
        #expect(
            refusal(.diskZero, [0, 0, 2, 0, 0, 0, 0, 0])?.description
                == "the diskZero body is refused at byte 2: mayUnmap is 2, not 0 or 1; the session starts anew")
        #expect(
            refusal(.ack, [1, 2, 3])?.description
                == "the ack body is cut short: 32 bytes are needed, 3 are there; the session starts anew")
        #expect(
            WireError.notAFrame(found: 0x2054_5447).description
                == "what arrived is not a frame: it starts with 0x20545447, not with “RMLS”; check that the peer's "
                + "address is that of a Romulus agent")
    }
}
