import CKernels
import Model
import Testing
import Wire

@Suite struct FrameHeaderTests {
    func parse(_ bytes: [UInt8]) throws(WireError) -> FrameHeader {
        let source = sink(bytes)
        return try FrameHeader(parsing: source.bytes)
    }

    func write(_ header: FrameHeader) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xff, count: FrameHeader.size)
        bytes.withUnsafeMutableBytes { header.write(into: $0) }
        return bytes
    }

    /// The header with `value` at `position` and a checksum that agrees: what a peer of another mind would send.
    func signed(_ bytes: [UInt8], _ position: Int, _ value: [UInt8]) -> [UInt8] {
        var bytes = bytes
        bytes.replaceSubrange(position..<position + value.count, with: value)
        let crc = ck_crc32c(0, bytes, 28)
        for index in 0..<4 { bytes[28 + index] = UInt8(truncatingIfNeeded: crc >> UInt32(8 * index)) }
        return bytes
    }

    static let sample = FrameHeader(
        type: .pages, length: 4_000_000, epoch: 0x0102_0304_0506_0708, sequence: 0xa1b2_c3d4, bodyCRC: 0xdead_beef)

    @Test func theLayoutIsTheDocumentedOne() {
        let bytes = write(Self.sample)
        #expect(Array(bytes[..<8]) == Array("RMLS".utf8) + [1, 5, 0, 0])
        #expect(Array(bytes[8..<12]) == [0x00, 0x09, 0x3d, 0x00])
        #expect(Array(bytes[12..<20]) == [8, 7, 6, 5, 4, 3, 2, 1])
        #expect(Array(bytes[20..<28]) == [0xd4, 0xc3, 0xb2, 0xa1, 0xef, 0xbe, 0xad, 0xde])
    }

    @Test(arguments: FrameType.allCases) func roundTrips(type: FrameType) throws {
        var random = SeededGenerator(seed: UInt64(type.rawValue))
        for length in [0, type.bodyMax / 2, type.bodyMax] {
            let header = FrameHeader(
                type: type, length: UInt32(length), epoch: random.next(),
                sequence: UInt32(truncatingIfNeeded: random.next()),
                bodyCRC: UInt32(truncatingIfNeeded: random.next()))
            #expect(try parse(write(header)) == header)
            #expect(try parse(write(header) + [1, 2, 3]) == header)
        }
    }

    @Test func everyTruncationIsRefused() {
        let bytes = write(Self.sample)
        for length in 0..<FrameHeader.size {
            #expect(throws: WireError.truncated(part: "frame header", offset: length, needed: 32)) {
                try parse(Array(bytes[..<length]))
            }
        }
    }

    @Test func everyFlippedBitIsRefused() {
        let bytes = write(Self.sample)
        for bit in 0..<FrameHeader.size * 8 {
            var flipped = bytes
            flipped[bit / 8] ^= 1 << UInt8(bit % 8)
            let refusal = #expect(throws: WireError.self) { try parse(flipped) }
            switch refusal {
            case .notAFrame: #expect(bit < 32)
            case .checksum(_, let offset, let expected, let found): #expect(offset == 28 && expected != found)
            default: Issue.record("bit \(bit): \(String(describing: refusal))")
            }
        }
    }

    @Test func anotherVersionIsSaidToBeThat() {
        for version in [UInt8(0), 2, 255] {
            #expect(throws: WireError.versionMismatch(ours: 1, theirs: version)) {
                try parse(signed(write(Self.sample), 4, [version]))
            }
        }
        #expect(
            WireError.versionMismatch(ours: 1, theirs: 2).description
                == "the peer speaks version 2 of the protocol, this side 1: install the same version of romulusd on "
                + "both hosts")
    }

    @Test func unknownTypesAndFlagsAreRefused() {
        for type in [UInt8(0), 39, 255] {
            #expect(throws: WireError.unknownType(type)) { try parse(signed(write(Self.sample), 5, [type])) }
        }
        for flags in [[UInt8(1), 0], [0, 0x80]] {
            let refusal = #expect(throws: WireError.self) { try parse(signed(write(Self.sample), 6, flags)) }
            #expect(refusal?.offset == 6)
        }
    }

    @Test(arguments: FrameType.allCases) func aLongerBodyThanItsTypeAllowsIsRefused(type: FrameType) {
        for length in [UInt32(type.bodyMax) + 1, .max] {
            let announced = (0..<4).map { UInt8(truncatingIfNeeded: length >> UInt32(8 * $0)) }
            let header = FrameHeader(type: type, length: 0, epoch: 0, sequence: 0, bodyCRC: 0)
            #expect(throws: WireError.tooLong(type: type, length: Int(length), max: type.bodyMax)) {
                try parse(signed(write(header), 8, announced))
            }
        }
    }

    @Test func theCapsAreTheDocumentedOnes() {
        let data: [FrameType] = [
            .pages, .deviceState, .output, .diskWrite, .diskReadReply, .diskDigestsReply, .pageDigestsReply,
            .carried,
        ]
        for type in FrameType.allCases {
            switch type {
            case .offer, .check, .attach: #expect(type.bodyMax == 1 << 20)
            case .checked: #expect(type.bodyMax == 256 << 10)
            case .hello, .accept, .refuse, .goodbye, .register, .wish, .tuning, .attached, .detach:
                #expect(type.bodyMax == 64 << 10)
            case .registerRequest, .registerReply: #expect(type.bodyMax == 16 << 10)
            case .verify: #expect(type.bodyMax == 8 + 16_384 * 12)
            case .verifyReply: #expect(type.bodyMax == 8 + 16_384 * 16)
            default: #expect(data.contains(type) ? type.bodyMax == 4 << 20 : type.bodyMax <= 128)
            }
        }
        #expect(PageDigests.countMax * PageDigestsReply.digestSize + 8 <= FrameType.pageDigestsReply.bodyMax)
        #expect(DiskDigests.countMax * DiskDigestsReply.digestSize + 16 <= FrameType.diskDigestsReply.bodyMax)
    }

    @Test func headAndPayloadMayLieApart() {
        let whole = sink(Array("head and payload".utf8))
        let together = FrameHeader(type: .diskWrite, epoch: Epoch(3), sequence: 9, head: whole.bytes)
        for cut in 0...whole.count {
            let apart = FrameHeader(
                type: .diskWrite, epoch: Epoch(3), sequence: 9,
                head: UnsafeRawBufferPointer(rebasing: whole.bytes[..<cut]),
                payload: UnsafeRawBufferPointer(rebasing: whole.bytes[cut...]))
            #expect(apart == together)
        }
        #expect(throws: Never.self) { try together.check(body: whole.bytes) }
    }

    @Test func wholeFramesDetectEveryTruncationAndFlip() throws {
        var random = SeededGenerator(seed: 5)
        let data = sink(random.bytes(100))
        var written = ByteSink()
        written.append(frame: DiskWrite(disk: 0, offset: 512, data: data.bytes), epoch: Epoch(4), sequence: 1)
        let frame = Array(written.bytes)
        func accept(_ frame: [UInt8]) throws(WireError) -> FrameHeader {
            let source = sink(frame)
            let header = try FrameHeader(parsing: source.bytes)
            try header.check(body: UnsafeRawBufferPointer(rebasing: source.bytes[FrameHeader.size...]))
            return header
        }
        let header = try accept(frame)
        #expect(header.type == .diskWrite && header.epoch == 4 && header.sequence == 1 && header.length == 116)
        for length in 0..<frame.count {
            #expect(throws: WireError.self) { try accept(Array(frame[..<length])) }
        }
        #expect(throws: WireError.self) { try accept(frame + [0]) }
        for bit in 0..<frame.count * 8 {
            var flipped = frame
            flipped[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: WireError.self) { try accept(flipped) }
        }
    }

    @Test func framesFollowEachOtherInOneSink() throws {
        var written = ByteSink(capacity: 64)
        let hello = sink(Array("{\"node\":\"a\"}".utf8))
        written.append(frame: .hello, body: hello.bytes, epoch: .firstCopy, sequence: 0)
        written.append(frame: Released(), epoch: Epoch(8), sequence: 1)
        let start = written.beginFrame()
        Heartbeat(sent: 5, echo: 6).write(into: &written)
        let last = written.endFrame(at: start, type: .heartbeat, epoch: Epoch(8), sequence: 2)
        var offset = 0
        var types: [FrameType] = []
        while offset < written.count {
            let header = try FrameHeader(parsing: UnsafeRawBufferPointer(rebasing: written.bytes[offset...]))
            let end = offset + FrameHeader.size + Int(header.length)
            try header.check(
                body: UnsafeRawBufferPointer(rebasing: written.bytes[offset + FrameHeader.size..<end]))
            #expect(header.sequence == UInt32(types.count))
            types.append(header.type)
            offset = end
        }
        #expect(types == [.hello, .released, .heartbeat])
        #expect(last.length == 16)
    }

    @Test func aBodyBeyondItsCapIsNotWritten() async {
        await #expect(processExitsWith: .failure) {
            var written = ByteSink()
            let body = sink([UInt8](repeating: 0, count: FrameType.hello.bodyMax + 1))
            written.append(frame: .hello, body: body.bytes, epoch: .firstCopy, sequence: 0)
        }
    }
}
