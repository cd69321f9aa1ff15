import Model
import Wire

/// `bytes` at an address that stays while the sink lives.
func sink(_ bytes: [UInt8]) -> ByteSink {
    var sink = ByteSink(capacity: bytes.count)
    bytes.withUnsafeBytes { sink.append(contentsOf: $0) }
    return sink
}

/// The bytes of one body.
func bytes<Body: FrameBody>(of body: Body) -> [UInt8] {
    var sink = ByteSink()
    body.write(into: &sink)
    return Array(sink.bytes)
}

/// Parses a body of type `Body` and returns its bytes written anew, or why it was refused.
func rewrite<Body: FrameBody>(_: Body.Type, _ body: [UInt8]) throws(WireError) -> [UInt8] {
    let source = sink(body)
    return bytes(of: try Body(parsing: source.bytes))
}

/// One type of body: how to parse it and write it again, and samples of it.
struct BodyKind: CustomStringConvertible, Sendable {
    let type: FrameType
    let rewrite: @Sendable ([UInt8]) -> Result<[UInt8], WireError>
    let samples: [[UInt8]]
    var description: String { type.description }

    init<Body: FrameBody & SendableMetatype>(_: Body.Type, _ samples: [[UInt8]]) {
        type = Body.type
        self.samples = samples
        rewrite = { body in
            do throws(WireError) { return .success(try WireTests.rewrite(Body.self, body)) } catch {
                return .failure(error)
            }
        }
    }

    static let all: [BodyKind] = {
        var random = SeededGenerator(seed: 42)
        func digest() -> CheckpointDigest {
            let digest = sink(random.bytes(32))
            return CheckpointDigest(digest.bytes)
        }
        let data = sink(random.bytes(40))
        let packets = sink([0, 0, 0, 1, 9, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 2, 7, 7])
        let sections: [CheckpointEnd.Section] = [
            .init(type: .pages, frames: 3, bytes: 4000), .init(type: .deviceState, frames: 1, bytes: 99),
            .init(type: .output, frames: 2, bytes: 300), .init(type: .diskWrite, frames: 1, bytes: 4144),
            .init(type: .diskZero, frames: 1, bytes: 56),
        ]
        return [
            BodyKind(
                DeviceStateFrame.self,
                [
                    bytes(of: DeviceStateFrame(total: 40, offset: 0, payload: data.bytes)),
                    bytes(of: DeviceStateFrame(total: 1000, offset: 960, payload: data.bytes)),
                ]),
            BodyKind(OutputFrame.self, [bytes(of: OutputFrame(nic: 2, count: 3, packets: packets.bytes))]),
            BodyKind(CarriedFrames.self, [bytes(of: CarriedFrames(nic: 1, count: 3, packets: packets.bytes))]),
            BodyKind(
                CarryOrder.self,
                [
                    bytes(of: CarryOrder(nic: 1, isInside: true, order: 7)),
                    bytes(of: CarryOrder(nic: .max, isInside: false, order: .max)),
                ]),
            BodyKind(
                CarryNews.self,
                [
                    bytes(
                        of: CarryNews(
                            nic: 1, sight: UplinkSight(isThere: true, isConnected: true, missed: 12, sources: 3),
                            isInside: true, order: 7)),
                    bytes(
                        of: CarryNews(
                            nic: 0, sight: UplinkSight(isThere: false, isConnected: false, missed: nil, sources: 0),
                            isInside: false, order: 0)),
                ]),
            BodyKind(
                DiskWrite.self, [bytes(of: DiskWrite(disk: 1, offset: UInt64(Int64.max) - 40, data: data.bytes))]),
            BodyKind(
                DiskZero.self,
                [
                    bytes(of: DiskZero(disk: 1, mayUnmap: true, offset: 4096, length: 1 << 40)),
                    bytes(of: DiskZero(disk: 0, mayUnmap: false, offset: 0, length: UInt64(Int64.max))),
                ]),
            BodyKind(
                CheckpointEnd.self,
                [
                    bytes(of: CheckpointEnd(digest: digest(), sections: sections)),
                    bytes(of: CheckpointEnd(digest: digest(), sections: [sections[1]])),
                    bytes(of: CheckpointEnd(digest: digest(), sections: [])),
                ]),
            BodyKind(Ack.self, [bytes(of: Ack(digest: digest()))]),
            BodyKind(Released.self, [bytes(of: Released())]),
            BodyKind(Through.self, [bytes(of: Through())]),
            BodyKind(DiskFlush.self, [bytes(of: DiskFlush(disk: 3))]),
            BodyKind(DiskNote.self, [bytes(of: DiskNote(disk: 3, loss: random.next()))]),
            BodyKind(DiskNoted.self, [bytes(of: DiskNoted(disk: 3, loss: random.next()))]),
            BodyKind(DiskTaken.self, [bytes(of: DiskTaken(count: random.next() | 1))]),
            BodyKind(PromiseAsked.self, [bytes(of: PromiseAsked(question: random.next(), term: Term(7)))]),
            BodyKind(Promise.self, [bytes(of: Promise(question: random.next(), term: Term(.max)))]),
            BodyKind(Heartbeat.self, [bytes(of: Heartbeat(sent: random.next(), echo: random.next()))]),
            BodyKind(
                TakeOver.self,
                [
                    bytes(of: TakeOver(term: Term(7), guestStands: false)),
                    bytes(of: TakeOver(term: Term(.max), guestStands: true)),
                    bytes(of: TakeOver(term: Term(8), guestStands: false, starts: 3)),
                ]),
            BodyKind(
                DiskRead.self,
                [
                    bytes(
                        of: DiskRead(id: random.next(), disk: 3, offset: 1 << 33, length: UInt32(DiskReadReply.dataMax))
                    )
                ]
            ),
            BodyKind(
                DiskReadReply.self,
                [
                    bytes(of: DiskReadReply(id: 5, status: 0, data: data.bytes)),
                    bytes(of: DiskReadReply(id: 6, status: 28, data: .init(start: nil, count: 0))),
                ]),
            BodyKind(
                DiskDigests.self,
                [bytes(of: DiskDigests(disk: 2, chunkSize: 65536, first: 1 << 30, count: 131_072))]),
            BodyKind(
                DiskDigestsReply.self,
                [
                    bytes(
                        of: DiskDigestsReply(
                            disk: 2, chunkSize: 4096, first: 77,
                            digests: UnsafeRawBufferPointer(rebasing: data.bytes[..<32])))
                ]),
            BodyKind(
                PageDigests.self,
                [
                    bytes(of: PageDigests(block: 2, first: .max - 131_072, count: 131_072)),
                    bytes(of: PageDigests(block: 0, first: 0, count: 1)),
                ]),
            BodyKind(
                PageDigestsReply.self,
                [
                    bytes(
                        of: PageDigestsReply(
                            block: 2, first: 77, digests: UnsafeRawBufferPointer(rebasing: data.bytes[..<32])))
                ]),
            BodyKind(
                VerifyQuestion.self,
                [
                    bytes(
                        of: VerifyQuestion(
                            session: SessionID(random.next()),
                            runs: [
                                PageRun(block: 0, first: 7, count: 1),
                                PageRun(block: 3, first: .max - 16_383, count: 16_383),
                            ]))
                ]),
            BodyKind(
                VerifyReply.self,
                [
                    bytes(
                        of: VerifyReply(
                            session: SessionID(random.next()),
                            digests: UnsafeRawBufferPointer(rebasing: data.bytes[..<32]))),
                    bytes(of: VerifyReply(session: SessionID(3), digests: .init(start: nil, count: 0))),
                ]),
            BodyKind(Join.self, (0..<2).map { bytes(of: Join(key: .random(), stream: UInt8($0 * 7))) }),
            BodyKind(Synced.self, [bytes(of: Synced(frameCount: 100_000, byteCount: 1 << 40))]),
        ]
    }()
}
