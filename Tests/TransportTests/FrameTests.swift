import NIOCore
import NIOPosix
import Synchronization
import Testing
import Transport
import Wire

/// What two honest ends see of each other, and what a peer that sends wrong bytes gets.
@Suite(.timeLimit(.minutes(1))) struct FrameTests {
    @Test func bothWaysInOrder() async throws {
        try await withGroup { group in
            let far = Recorder { link, header, body in
                // Each frame goes back as it came.
                link.send(
                    frame(.diskReadReply, epoch: header.epoch, sequence: header.sequence, body: Array(buffer: body)))
            }
            let near = Recorder()
            let host = try await Host.start(group, handler: far)
            let link = try await host.dial(group, handler: near)
            #expect(link.peerNode == "beta")
            #expect(await host.links.take().peerNode == "alpha")

            let sizes = [0, 1, 31, 32, 33, 4095, 4096, 16383, 16384, 16385, 65536]
            var generator = Generator(seed: 1)
            var sent: [[UInt8]] = []
            for round in 0..<3 {
                for size in sizes {
                    let body = generator.bytes(size)
                    #expect(
                        link.send(
                            frame(.output, epoch: UInt64(round), sequence: UInt32(sent.count), body: body)))
                    sent.append(body)
                }
            }
            for (index, body) in sent.enumerated() {
                let there = await far.frames.take()
                #expect(there.header.sequence == UInt32(index) && there.header.type == .output)
                #expect(Array(buffer: there.body) == body)
                let back = await near.frames.take()
                #expect(back.header.type == .diskReadReply && back.header.sequence == UInt32(index))
                #expect(back.header.epoch == UInt64(index / sizes.count))
                #expect(Array(buffer: back.body) == body)
            }
            #expect(link.bytesSent > UInt64(sent.reduce(0) { $0 + $1.count }))
            #expect(link.bytesReceived > UInt64(sent.reduce(0) { $0 + $1.count }))
            #expect(link.lastReceived > 0)
            #expect(try #require(await link.roundTrip()) < .seconds(1))

            link.close()
            #expect(await near.closed.take() == nil)
            #expect(await far.closed.take()?.cause == .closedByPeer)
            #expect(await link.roundTrip() == nil)
            #expect(link.send(frame(.heartbeat)) == false)
            #expect(throws: LinkError.self) { try link.sendBlocking(frame(.heartbeat)) }
            await host.listener.shutdown()
        }
    }

    /// However TCP cuts the stream, the same frames come out.
    @Test(arguments: 1...6) func anyCutting(_ seed: UInt64) async throws {
        try await withGroup { group in
            let far = Recorder()
            let host = try await Host.start(group, handler: far)
            let peer = try await RawPeer.tls(group, port: host.listener.port, identity: World.alpha)
            var generator = Generator(seed: seed)
            var stream = ByteBuffer()
            var bodies: [[UInt8]] = []
            for index in 0..<40 {
                let body = generator.bytes(Int.random(in: 0...200, using: &generator))
                var bytes = frame(.pages, sequence: UInt32(index), body: body)
                stream.writeBuffer(&bytes)
                bodies.append(body)
            }
            while stream.readableBytes > 0 {
                let count = min(
                    stream.readableBytes, Int.random(in: 1...(seed.isMultiple(of: 2) ? 7 : 90), using: &generator))
                if let piece = stream.readSlice(length: count) { try await peer.write(piece) }
            }
            for (index, body) in bodies.enumerated() {
                let got = await far.frames.take()
                #expect(got.header.sequence == UInt32(index) && Array(buffer: got.body) == body)
            }
            peer.close()
            #expect(await far.closed.take()?.cause == .closedByPeer)
            await host.listener.shutdown()
        }
    }

    /// Sends `bytes` after a proper handshake and one proper frame; how the link ended at the listener.
    private func ending(
        _ bytes: ByteBuffer, thenDie: Bool = false, _ group: MultiThreadedEventLoopGroup
    ) async throws -> LinkError.Cause? {
        let far = Recorder()
        let host = try await Host.start(group, handler: far)
        let peer = try await RawPeer.tls(group, port: host.listener.port, identity: World.alpha)
        try await peer.write(frame(.hello, body: [1, 2, 3]))
        #expect(await far.frames.take().header.type == .hello)
        if thenDie {
            try await peer.write(bytes)
            try await peer.die()
        } else {
            peer.writeIgnoringErrors(bytes)
        }
        let error = await far.closed.take()
        #expect(far.frames.count == 0, "nothing of a wrong frame is delivered")
        #expect(error?.peer.hasPrefix("alpha at 127.0.0.1:") == true)
        // The connection is gone, not only forgotten.
        while await peer.received.take() != nil {}
        await host.listener.shutdown()
        return error?.cause
    }

    @Test func flippedHeaderBits() async throws {
        try await withGroup { group in
            for index in 0..<FrameHeader.size {
                var bytes = frame(.diskWrite, epoch: 7, sequence: 9, body: [1, 2, 3, 4])
                let byte = try #require(bytes.getInteger(at: index, as: UInt8.self))
                bytes.setInteger(byte ^ 1 << UInt8(index % 8), at: index)
                let cause = try await ending(bytes, group)
                guard case .header? = cause else {
                    Issue.record("byte \(index): \(String(describing: cause))")
                    return
                }
            }
        }
    }

    @Test func otherVersion() async throws {
        try await withGroup { group in
            let cause = try await ending(frame(.ack, version: 9), group)
            #expect(cause == .version(ours: FrameHeader.version, theirs: 9))
        }
    }

    @Test func flippedBodyBit() async throws {
        try await withGroup { group in
            var bytes = frame(.diskWrite, epoch: 7, sequence: 9, body: [UInt8](repeating: 5, count: 100_000))
            bytes.setInteger(UInt8(4), at: 70_000)
            let first = try await ending(bytes, group)
            #expect(first == .body(.diskWrite, epoch: 7, sequence: 9))
            // A body that is empty has a checksum too.
            var header = [UInt8](repeating: 0, count: FrameHeader.size)
            let wrong = FrameHeader(type: .ack, flags: 0, length: 0, epoch: 1, sequence: 2, bodyCRC: 1)
            header.withUnsafeMutableBytes { wrong.write(into: $0) }
            let second = try await ending(ByteBuffer(bytes: header), group)
            #expect(second == .body(.ack, epoch: 1, sequence: 2))
        }
    }

    /// Refused by its header alone: the body is never sent.
    @Test(arguments: [FrameType.heartbeat, .hello, .ack, .pages, .diskWrite])
    func oversize(_ type: FrameType) async throws {
        try await withGroup { group in
            for length in [UInt32(type.bodyMax) + 1, .max] {
                var bytes = [UInt8](repeating: 0, count: FrameHeader.size)
                let header = FrameHeader(type: type, flags: 0, length: length, epoch: 0, sequence: 0, bodyCRC: 0)
                bytes.withUnsafeMutableBytes { header.write(into: $0) }
                guard case .header? = try await ending(ByteBuffer(bytes: bytes), group) else {
                    Issue.record("\(type) with \(length) bytes was not refused by its header")
                    return
                }
            }
        }
    }

    @Test(arguments: 1...8) func garbage(_ seed: UInt64) async throws {
        try await withGroup { group in
            var generator = Generator(seed: seed)
            guard case .header? = try await ending(ByteBuffer(bytes: generator.bytes(4096)), group) else {
                Issue.record("garbage was taken for a frame")
                return
            }
        }
    }

    @Test(arguments: [1, 31, 32, 33, 99]) func truncated(_ length: Int) async throws {
        try await withGroup { group in
            let whole = frame(.pages, body: [UInt8](repeating: 7, count: 100))
            let part = try #require(whole.getSlice(at: 0, length: length))
            let cause = try await ending(part, thenDie: true, group)
            #expect(cause == .truncated)
        }
    }

    @Test func diedBetweenFrames() async throws {
        try await withGroup { group in
            guard case .lost? = try await ending(ByteBuffer(), thenDie: true, group) else {
                Issue.record("a death without a farewell was taken for a close")
                return
            }
        }
    }

    /// One bit flipped below TLS: no frame from there on is delivered.
    @Test func flippedOnTheWire() async throws {
        try await withGroup { group in
            let (far, near) = (Recorder(), Recorder())
            let host = try await Host.start(group, handler: far)
            let proxy = try await flippingProxy(group, to: host.listener.port, at: 50_000)
            let link = try await LinkDialer.connect(
                host: "127.0.0.1", port: proxy.localAddress?.port ?? 0, identity: World.alpha, expectedPeer: "beta",
                timeout: .seconds(20), group: group, handler: near)
            let body = [UInt8](repeating: 1, count: 1000)
            for index in 0..<100 as Range<UInt32> { link.send(frame(.pages, sequence: index, body: body)) }
            #expect(await far.closed.take()?.cause == .tls("a record was changed on its way"))
            guard case .lost? = await near.closed.take()?.cause else {
                Issue.record("the sender was not told")
                return
            }
            #expect(far.frames.count < 50, "the flipped byte is in the 49th frame")
            for index in 0..<UInt32(far.frames.count) { #expect(await far.frames.take().header.sequence == index) }
            try await proxy.close().get()
            await host.listener.shutdown()
        }
    }

    /// A session keeps its link, and the link its session, only until it is closed.
    @Test func nothingOutlivesTheLink() async throws {
        final class Session: LinkHandler {
            let link = Mutex<Link?>(nil)
            let closed = Mailbox<Void>()
            func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {}
            func linkClosed(_ link: Link, error: LinkError?) { closed.put(()) }
        }
        final class Weak: Sendable {
            nonisolated(unsafe) weak var link: Link?
            nonisolated(unsafe) weak var session: Session?
        }
        let (near, far) = (Weak(), Weak())
        try await withGroup { group in
            let theirs = Session()
            let listener = try await LinkListener.start(
                host: "127.0.0.1", port: 0, identity: World.beta, allowed: ["alpha"], group: group, refused: { _ in },
                makeHandler: { link in
                    theirs.link.withLock { $0 = link }
                    return theirs
                })
            let ours = Session()
            let link = try await LinkDialer.connect(
                host: "127.0.0.1", port: listener.port, identity: World.alpha, expectedPeer: "beta",
                timeout: .seconds(20), group: group, handler: ours)
            ours.link.withLock { $0 = link }
            (near.link, near.session, far.session) = (link, ours, theirs)
            far.link = theirs.link.withLock { $0 }
            link.close()
            await ours.closed.take()
            await theirs.closed.take()
            await listener.shutdown()
        }
        #expect(near.link == nil && near.session == nil && far.link == nil && far.session == nil)
    }
}
