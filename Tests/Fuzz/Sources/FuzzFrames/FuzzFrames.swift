import CFuzzer
import Glibc
import Model
import Wire

/// Bytes as a peer may send them: a header, then its body. A body that is accepted must give the same bytes when it is
/// written again, so that no two byte strings mean the same thing.
///
/// The checksums are given what they ask for, for a fuzzer cannot guess them: the first 28 bytes of the input become a
/// header of this version, the rest its body.
private func fuzzFrames(_ start: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
    let input = UnsafeRawBufferPointer(start: start, count: count)
    _ = try? FrameHeader(parsing: input)
    guard count >= 28 else { return 0 }

    var signed = ByteSink(capacity: FrameHeader.size)
    signed.append(contentsOf: UnsafeRawBufferPointer(rebasing: input[..<28]))
    signed.overwrite(at: 0, with: UInt32(0x534C_4D52))
    signed.append(crc32c(signed.bytes))
    guard let header = try? FrameHeader(parsing: signed.bytes) else { return 0 }
    let body = UnsafeRawBufferPointer(rebasing: input[28...])
    _ = try? header.check(body: body)
    precondition(Int(header.length) <= header.type.bodyMax)
    guard body.count <= header.type.bodyMax else { return 0 }
    parse(header.type, body)
    return 0
}

private func parse(_ type: FrameType, _ body: UnsafeRawBufferPointer) {
    switch type {
    case .hello, .turn, .offer, .accept, .refuse, .goodbye, .pages, .register, .wish, .tuning, .registerRequest,
        .registerReply, .check, .checked, .attach, .attached, .detach:
        break
    case .deviceState: again(DeviceStateFrame.self, body)
    case .output:
        again(OutputFrame.self, body)
        guard let output = try? OutputFrame(parsing: body) else { return }
        var sum = 0
        output.forEachPacket { packet in
            for byte in packet { sum &+= Int(byte) }
        }
    case .diskWrite: again(DiskWrite.self, body)
    case .diskZero: again(DiskZero.self, body)
    case .checkpointEnd: again(CheckpointEnd.self, body)
    case .ack: again(Ack.self, body)
    case .released: again(Released.self, body)
    case .heartbeat: again(Heartbeat.self, body)
    case .takeOver: again(TakeOver.self, body)
    case .diskRead: again(DiskRead.self, body)
    case .diskReadReply: again(DiskReadReply.self, body)
    case .diskDigests: again(DiskDigests.self, body)
    case .diskDigestsReply: again(DiskDigestsReply.self, body)
    case .pageDigests: again(PageDigests.self, body)
    case .pageDigestsReply: again(PageDigestsReply.self, body)
    case .synced: again(Synced.self, body)
    case .verify: again(VerifyQuestion.self, body)
    case .verifyReply: again(VerifyReply.self, body)
    case .join: again(Join.self, body)
    case .through: again(Through.self, body)
    case .diskTaken: again(DiskTaken.self, body)
    case .promiseAsked: again(PromiseAsked.self, body)
    case .promise: again(Promise.self, body)
    case .carry: again(CarryOrder.self, body)
    case .carryNews: again(CarryNews.self, body)
    case .carried: again(CarriedFrames.self, body)
    }
}

private func again<Body: FrameBody>(_: Body.Type, _ bytes: UnsafeRawBufferPointer) {
    guard let body = try? Body(parsing: bytes) else { return }
    var sink = ByteSink()
    body.write(into: &sink)
    precondition(sink.bytes.elementsEqual(bytes), "an accepted body is written as it was read")
}

@main
enum FuzzFrames {
    static func main() {
        var count = CommandLine.argc
        var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
        exit(LLVMFuzzerRunDriver(&count, &arguments) { fuzzFrames($0!, $1) })
    }
}
