import Foundation
import NIOCore
import NIOPosix
import Synchronization
import Testing
import Transport
import Wire

/// Threads that send faster than the peer takes, and how they are let go.
@Suite(.timeLimit(.minutes(1))) struct PressureTests {
    private static let window = 2 << 20
    private static let frameBytes = 128 << 10
    /// More than the window and both kernels' socket buffers hold together.
    private static let frameCount = 512

    private static var options: LinkOptions {
        var options = LinkOptions()
        options.windowBytes = window
        return options
    }

    /// A link whose far end stopped reading, and a thread that sends into it until it is held back.
    private struct Held {
        let host: Host
        let link: Link
        let far: Link
        let receiver: Recorder
        let near: Recorder
        let thread: Mailbox<(any Error)?>
        let sent: Counter
        let highest: Counter
    }

    private final class Counter: Sendable {
        let value = Atomic<Int>(0)
        var now: Int { value.load(ordering: .sequentiallyConsistent) }
    }

    private func hold(_ group: MultiThreadedEventLoopGroup) async throws -> Held {
        let receiver = Recorder { link, header, _ in
            if header.sequence == 0 { link.pauseReading() }
        }
        let near = Recorder()
        let host = try await Host.start(group, handler: receiver)
        let link = try await host.dial(group, options: Self.options, handler: near)
        let sent = Counter()
        let highest = Counter()
        let thread = onThread {
            let body = [UInt8](repeating: 3, count: Self.frameBytes)
            for index in 0..<Self.frameCount {
                try link.sendBlocking(frame(.pages, sequence: UInt32(index), body: body))
                sent.value.add(1, ordering: .sequentiallyConsistent)
                highest.value.max(link.queuedBytes, ordering: .sequentiallyConsistent)
            }
        }
        let held = Held(
            host: host, link: link, far: await host.links.take(), receiver: receiver, near: near, thread: thread,
            sent: sent, highest: highest)
        // Held back means: nothing moved for a while although the queue is full. A thread that waits is let go on when
        // half of the window is free.
        var quiet = 0
        var before = (0, UInt64(0))
        while quiet < 20 {
            try await Task.sleep(for: .milliseconds(5))
            let now = (sent.now, link.bytesSent)
            quiet = now == before && link.queuedBytes > Self.window / 2 ? quiet + 1 : 0
            before = now
        }
        return held
    }

    @Test func boundedQueue() async throws {
        try await withGroup { group in
            let held = try await hold(group)
            #expect(held.thread.count == 0 && held.sent.now < Self.frameCount)
            #expect(held.link.queuedBytes > Self.window / 2)
            #expect(held.receiver.frames.count == 1, "a paused handler hears nothing")
            // A small frame still gets into the queue, at its end.
            #expect(held.link.send(frame(.heartbeat, sequence: 77)))

            held.far.resumeReading()
            var next: UInt32 = 0
            var heard = false
            while next < Self.frameCount || !heard {
                let got = await held.receiver.frames.take()
                if got.header.type == .heartbeat {
                    heard = true
                    continue
                }
                #expect(got.header.sequence == next && got.body.readableBytes == Self.frameBytes)
                next += 1
            }
            #expect(await held.thread.take() == nil)
            #expect(held.highest.now <= Self.window + 64)
            held.link.close()
            #expect(await held.near.closed.take() == nil)
            #expect(held.link.queuedBytes == 0)
            await held.host.listener.shutdown()
        }
    }

    @Test func closeWakesSender() async throws {
        try await withGroup { group in
            let held = try await hold(group)
            let reason = LinkError(peer: "beta", .lost("silence"))
            held.link.close(reason)
            #expect((await held.thread.take() as? LinkError)?.cause == reason.cause)
            #expect(await held.near.closed.take()?.cause == reason.cause)
            held.far.resumeReading()
            _ = await held.receiver.closed.take()
            await held.host.listener.shutdown()
        }
    }

    @Test func orderlyCloseWakesSender() async throws {
        try await withGroup { group in
            let held = try await hold(group)
            held.link.close()
            #expect((await held.thread.take() as? LinkError)?.cause == .closed)
            // The peer takes nothing, so the deadline ends it, and what was not sent is told.
            guard case .stuck(let bytes)? = await held.near.closed.take()?.cause else {
                Issue.record("bytes were lost without a word")
                return
            }
            #expect(bytes > 0)
            held.far.close()
            _ = await held.receiver.closed.take()
            await held.host.listener.shutdown()
        }
    }

    @Test func peersDeathWakesSender() async throws {
        try await withGroup { group in
            let held = try await hold(group)
            held.far.close(LinkError(peer: "alpha", .lost("dead")))
            let error = await held.thread.take() as? LinkError
            guard case .lost? = error?.cause else {
                Issue.record("\(String(describing: error))")
                return
            }
            guard case .lost? = await held.near.closed.take()?.cause else {
                Issue.record("another ending")
                return
            }
            #expect(await held.receiver.closed.take()?.cause == .lost("dead"))
            await held.host.listener.shutdown()
        }
    }

    /// `send` does not wait; its queue is bounded by ending the link.
    @Test func stuck() async throws {
        try await withGroup { group in
            let receiver = Recorder { link, _, _ in link.pauseReading() }
            let near = Recorder()
            let host = try await Host.start(group, handler: receiver)
            var options = Self.options
            options.controlBytesMax = 1 << 20
            let link = try await host.dial(group, options: options, handler: near)
            let body = [UInt8](repeating: 3, count: Self.frameBytes)
            var sent = 0
            while link.send(frame(.pages, body: body)) {
                sent += 1
                // What the channel has taken and the kernel has not is queued too, and bounded by the channel.
                #expect(link.queuedBytes <= options.controlBytesMax + (1 << 20))
            }
            #expect((sent + 1) * (Self.frameBytes + FrameHeader.size) > options.controlBytesMax)
            guard case .stuck? = await near.closed.take()?.cause else {
                Issue.record("another ending")
                return
            }
            await host.links.take().close()
            _ = await receiver.closed.take()
            await host.listener.shutdown()
        }
    }

    /// What was queued before an orderly close arrives, and then the farewell.
    @Test func orderlyCloseDelivers() async throws {
        try await withGroup { group in
            let receiver = Recorder()
            let host = try await Host.start(group, handler: receiver)
            var options = LinkOptions()
            options.closeTimeout = .seconds(20)
            let link = try await host.dial(group, options: options)
            let body = [UInt8](repeating: 9, count: 1 << 20)
            let done = onThread {
                for index in 0..<6 as Range<UInt32> {
                    try link.sendBlocking(frame(.pages, sequence: index, body: body))
                }
                link.send(frame(.goodbye))
                link.close()
            }
            #expect(await done.take() == nil)
            for index in 0..<6 as Range<UInt32> {
                let got = await receiver.frames.take()
                #expect(got.header.sequence == index && got.body.readableBytes == body.count)
            }
            #expect(await receiver.frames.take().header.type == .goodbye)
            #expect(await receiver.closed.take()?.cause == .closedByPeer)
            await host.listener.shutdown()
        }
    }

    /// A handler that closes in the middle of a burst hears nothing more of it.
    @Test func closeInsideCallback() async throws {
        try await withGroup { group in
            let receiver = Recorder { link, header, _ in
                if header.sequence == 2 { link.close(LinkError(peer: "alpha", .closed)) }
            }
            let host = try await Host.start(group, handler: receiver)
            let link = try await host.dial(group)
            for index in 0..<10 as Range<UInt32> { link.send(frame(.ack, sequence: index)) }
            #expect(await receiver.closed.take() == nil)
            #expect(receiver.frames.count == 3)
            await host.listener.shutdown()
        }
    }

    @Test(arguments: [true, false]) func closeWhileMade(_ orderly: Bool) async throws {
        try await withGroup { group in
            let receiver = Recorder()
            let near = Recorder()
            let listener = try await LinkListener.start(
                host: "127.0.0.1", port: 0, identity: World.beta, allowed: ["alpha"], group: group,
                refused: { Issue.record("\($0)") },
                makeHandler: { link in
                    link.send(frame(.refuse))
                    link.close(orderly ? nil : LinkError(peer: "alpha", .lost("not wanted")))
                    return receiver
                })
            _ = try? await LinkDialer.connect(
                host: "127.0.0.1", port: listener.port, identity: World.alpha, expectedPeer: "beta",
                timeout: .seconds(20), group: group, handler: near)
            #expect(await receiver.closed.take()?.cause == (orderly ? nil : .lost("not wanted")))
            if orderly {
                #expect(await near.frames.take().header.type == .refuse)
                #expect(await near.closed.take()?.cause == .closedByPeer)
            }
            await listener.shutdown()
        }
    }

    /// Several threads on one link: every frame whole, each thread's in its order.
    @Test func severalSenders() async throws {
        try await withGroup { group in
            let receiver = Recorder()
            let host = try await Host.start(group, handler: receiver)
            let link = try await host.dial(group, options: Self.options)
            let threads = (0..<4 as Range<UInt64>).map { thread in
                onThread {
                    for index in 0..<200 as Range<UInt32> {
                        let body = [UInt8](repeating: UInt8(thread), count: Int(index) * 97)
                        try link.sendBlocking(frame(.pages, epoch: thread, sequence: index, body: body))
                    }
                }
            }
            var next = [UInt32](repeating: 0, count: 4)
            for _ in 0..<800 {
                let got = await receiver.frames.take()
                let thread = Int(got.header.epoch)
                #expect(got.header.sequence == next[thread])
                #expect(got.body == ByteBuffer(repeating: UInt8(thread), count: Int(next[thread]) * 97))
                next[thread] += 1
            }
            for thread in threads { #expect(await thread.take() == nil) }
            link.close()
            _ = await receiver.closed.take()
            await host.listener.shutdown()
        }
    }
}
