import Foundation
import NIOCore
import NIOPosix
import Synchronization
import Testing
import Transport
import Wire

/// Figures, not checks: `ROMULUS_MEASURE=1 swift test -c release --filter MeasureTests`.
@Suite(
    .enabled(if: ProcessInfo.processInfo.environment["ROMULUS_MEASURE"] != nil, "set ROMULUS_MEASURE=1"), .serialized)
struct MeasureTests {
    private final class Sink: LinkHandler {
        let done = Mailbox<UInt64>()
        private let bytes = Atomic<Int>(0)
        private let total: Int
        init(total: Int) { self.total = total }
        func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
            if bytes.add(body.readableBytes, ordering: .relaxed).newValue == total { done.put(now()) }
        }
        func linkClosed(_ link: Link, error: LinkError?) {}
    }

    private final class Echo: LinkHandler {
        let replies = Mailbox<UInt64>()
        private let answers: Bool
        init(answers: Bool) { self.answers = answers }
        func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
            if answers { link.send(frame(.ack, sequence: header.sequence)) } else { replies.put(now()) }
        }
        func linkClosed(_ link: Link, error: LinkError?) {}
    }

    @Test(arguments: [4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20])
    func throughput(_ size: Int) async throws {
        try await withGroup { group in
            let total = 2 << 30
            let sink = Sink(total: total)
            let listener = try await LinkListener.start(
                host: "127.0.0.1", port: 0, identity: World.beta, allowed: ["alpha"], group: group, refused: { _ in },
                makeHandler: { _ in sink })
            let link = try await LinkDialer.connect(
                host: "127.0.0.1", port: listener.port, identity: World.alpha, expectedPeer: "beta",
                timeout: .seconds(5), group: group, handler: Recorder())
            var generator = Generator(seed: 1)
            let bytes = frame(.pages, body: generator.bytes(size))
            let before = usage()
            let start = now()
            let thread = onThread { for _ in 0..<(total / size) { try link.sendBlocking(bytes) } }
            let seconds = Double(await sink.done.take() - start) / 1e9
            _ = await thread.take()
            let cpu = usage() - before
            print(
                "throughput: frames of \(size) bytes, \(Int(Double(total) / seconds / 1e6)) MB/s,"
                    + " \(Int(cpu / Double(total) * 1e12)) ps CPU per byte of both ends together")
            link.close()
            await listener.shutdown()
        }
    }

    @Test func roundTrip() async throws {
        try await withGroup { group in
            let echo = Echo(answers: true)
            let near = Echo(answers: false)
            let listener = try await LinkListener.start(
                host: "127.0.0.1", port: 0, identity: World.beta, allowed: ["alpha"], group: group, refused: { _ in },
                makeHandler: { _ in echo })
            let link = try await LinkDialer.connect(
                host: "127.0.0.1", port: listener.port, identity: World.alpha, expectedPeer: "beta",
                timeout: .seconds(5), group: group, handler: near)
            var times: [UInt64] = []
            for index in 0..<5000 as Range<UInt32> {
                let start = now()
                link.send(frame(.heartbeat, sequence: index))
                times.append(await near.replies.take() - start)
            }
            times.sort()
            print(
                "round trip of an empty frame: median \(times[2500] / 1000) us, p99 \(times[4950] / 1000) us,"
                    + " max \(times[4999] / 1000) us; kernel says \(await link.roundTrip() ?? .zero)")
            link.close()
            await listener.shutdown()
        }
    }
}

private func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

private func usage() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}
