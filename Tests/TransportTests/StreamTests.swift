import Foundation
import NIOCore
import NIOPosix
import Synchronization
import Testing
import Transport
import Wire

/// Links of several connections: one order, one end.
@Suite(.timeLimit(.minutes(1))) struct StreamTests {
    private static let joinBytes = 17

    /// Three threads' worth of sizes on every number of connections; the listener's answers come too.
    @Test(arguments: [2, 3, 8]) func oneOrder(_ connections: Int) async throws {
        try await withGroup(threads: 3) { group in
            let far = Recorder { link, header, _ in link.send(frame(.ack, sequence: header.sequence)) }
            let near = Recorder()
            let host = try await Host.start(group, handler: far)
            let link = try await host.dial(group, connections: connections, handler: near)
            #expect(link.connectionCount == connections)
            let count = 400
            let sender = onThread {
                var generator = Generator(seed: UInt64(connections))
                for index in 0..<count {
                    let size = [40, 20_000, 32_768, 70_000, 300_000, 1 << 20][Int(generator.next() % 6)]
                    let seed = UInt8(truncatingIfNeeded: index)
                    try link.sendBlocking(
                        frame(.pages, sequence: UInt32(index), body: [UInt8](repeating: seed, count: size)))
                }
            }
            var bytes = 0
            for index in 0..<count {
                let got = await far.frames.take()
                #expect(got.header.sequence == UInt32(index))
                #expect(got.body.readableBytesView.allSatisfy { $0 == UInt8(truncatingIfNeeded: index) })
                bytes += got.body.readableBytes
                let back = await near.frames.take()
                #expect(back.header.type == .ack && back.header.sequence == UInt32(index))
            }
            #expect(await sender.take() == nil)
            let there = await host.links.take()
            #expect(there.connectionCount == connections, "the listener's handler is made once, for all of them")
            #expect(host.links.count == 0)
            #expect(there.bytesReceived > UInt64(bytes) && link.bytesSent > UInt64(bytes))
            link.close()
            #expect(await near.closed.take() == nil)
            #expect(await far.closed.take()?.cause == .closedByPeer)
            await host.listener.shutdown()
        }
    }

    /// What was queued before an orderly close is delivered, whichever connection carries it.
    @Test(arguments: 1...5) func closingLosesNothing(_ round: Int) async throws {
        try await withGroup(threads: 3) { group in
            let (far, near) = (Recorder(), Recorder())
            let host = try await Host.start(group, handler: far)
            let link = try await host.dial(group, connections: 4, handler: near)
            let body = [UInt8](repeating: 7, count: 500_000)
            let count = 12
            for index in 0..<count { try link.enqueue(frame(.pages, sequence: UInt32(index), body: body)) }
            link.send(frame(.goodbye, sequence: UInt32(count)))
            link.close()
            for index in 0...count { #expect(await far.frames.take().header.sequence == UInt32(index)) }
            #expect(await far.closed.take()?.cause == .closedByPeer)
            #expect(await near.closed.take() == nil)
            #expect(link.queuedBytes == 0)
            await host.listener.shutdown()
        }
    }

    /// A listener that does not read lets each connection run ahead of its turn by a bound, and all goes on when it does.
    @Test func aReaderThatPausesBoundsWhatComes() async throws {
        try await withGroup(threads: 3) { group in
            let far = Recorder { link, header, _ in
                if header.sequence == 0 { link.pauseReading() }
            }
            let host = try await Host.start(group, handler: far)
            let link = try await host.dial(group, connections: 3)
            let (size, count) = (1 << 20, 100)
            let sender = onThread {
                for index in 0..<count {
                    try link.sendBlocking(
                        frame(.pages, sequence: UInt32(index), body: [UInt8](repeating: 1, count: size)))
                }
            }
            let there = await host.links.take()
            #expect(await far.frames.take().header.sequence == 0)
            var received: UInt64 = 0
            repeat {
                received = there.bytesReceived
                try await Task.sleep(for: .milliseconds(200))
            } while there.bytesReceived > received
            // Ahead of their turn: 4 MiB, the frame that goes beyond it and one read, on each of the two others; on the
            // first what one read brings, and a first frame.
            #expect(received < 2 * 7 << 20 + 3 << 20)
            there.resumeReading()
            for index in 1..<count { #expect(await far.frames.take().header.sequence == UInt32(index)) }
            #expect(await sender.take() == nil)
            link.close()
            await host.listener.shutdown()
        }
    }

    /// When one of its connections dies, the link is lost at both ends, also for a thread that waits for room.
    @Test(arguments: 0...2) func oneConnectionDies(_ which: Int) async throws {
        try await withGroup(threads: 3) { group in
            let (far, near) = (Recorder(), Recorder())
            let host = try await Host.start(group, handler: far)
            let link = try await host.dial(group, connections: 3, handler: near)
            let dialled = sockets(to: host.listener.port)
            try #require(dialled.count == 3)
            let sender = onThread {
                while true { try link.sendBlocking(frame(.pages, body: [UInt8](repeating: 1, count: 100_000))) }
            }
            _ = await far.frames.take()
            shutdown(dialled[which], Int32(SHUT_RDWR))
            #expect(await sender.take() is LinkError)
            #expect(await near.closed.take() != nil)
            #expect(await far.closed.take() != nil)
            #expect(!link.isOpen)
            await host.listener.shutdown()
        }
    }

    /// A connection of a link that has no first one, and first frames that make no sense, are refused in time.
    @Test func strangers() async throws {
        try await withGroup { group in
            var options = LinkOptions()
            options.handshakeTimeout = .milliseconds(300)
            let far = Recorder()
            let host = try await Host.start(group, options: options, handler: far)
            for first in [
                frame(.join, body: [UInt8](repeating: 3, count: Self.joinBytes)),
                frame(.join, body: [UInt8](repeating: 0, count: Self.joinBytes)), frame(.hello),
                frame(.turn, sequence: 1),
            ] {
                let peer = try await RawPeer.tls(
                    group, port: host.listener.port, identity: World.alpha, protocols: ["romulus-stream"])
                peer.writeIgnoringErrors(first)
                while await peer.received.take() != nil {}
            }
            #expect(host.links.count == 0, "no handler was made")
            await host.listener.shutdown()
        }
    }

    /// On a first connection, a turn of nothing and a second first connection end the link.
    @Test func turnsOfNothing() async throws {
        try await withGroup { group in
            let far = Recorder()
            let host = try await Host.start(group, handler: far)
            let join = frame(.join, body: [UInt8](repeating: 0, count: Self.joinBytes))
            let wrong = [
                [frame(.turn, sequence: 1)], [join, frame(.turn, sequence: 8)], [join, frame(.turn)],
                [frame(.join, body: [UInt8](repeating: 1, count: Self.joinBytes))],
            ]
            for frames in wrong {
                let peer = try await RawPeer.tls(group, port: host.listener.port, identity: World.alpha)
                for frame in frames { try await peer.write(frame) }
                guard case .unexpected? = await far.closed.take()?.cause else {
                    Issue.record("the link goes on")
                    continue
                }
            }
            let first = try await RawPeer.tls(group, port: host.listener.port, identity: World.alpha)
            try await first.write(join)
            try await first.write(frame(.hello))
            _ = await far.frames.take()
            let second = try await RawPeer.tls(group, port: host.listener.port, identity: World.alpha)
            try await second.write(join)
            #expect(await far.closed.take()?.cause == .unexpected("two first connections of one link came"))
            first.close()
            #expect(await far.closed.take()?.cause == .closedByPeer)
            await host.listener.shutdown()
        }
    }
}

/// This process's connected sockets to `port`.
private func sockets(to port: Int) -> [Int32] {
    let open = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
    return open.compactMap { Int32($0) }.filter { descriptor in
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &length) }
        }
        return result == 0 && Int(UInt16(bigEndian: address.sin_port)) == port
    }
}
