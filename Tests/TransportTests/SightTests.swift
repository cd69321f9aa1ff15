import Foundation
import NIOCore
import NIOPosix
import Synchronization
import Testing
import Transport

/// What a link says it has seen.
@Suite struct SightTests {
    private func sight(_ link: Link) async -> LinkSight {
        let box = Mailbox<LinkSight>()
        link.look { box.put($0) }
        return await box.take()
    }

    @Test func theLongestGapIsToldOnce() async throws {
        try await withGroup { group in
            let receiver = Recorder()
            let host = try await Host.start(group, handler: receiver)
            let near = try await host.dial(group)
            let far = await host.links.take()
            for pause in [0, 120, 0] {
                try await Task.sleep(for: .milliseconds(pause))
                near.send(frame(.heartbeat, body: [UInt8](repeating: 0, count: 16)))
                _ = await receiver.frames.take()
            }
            let first = await sight(far)
            #expect(first.gap >= 110_000_000 && first.newest <= first.now)
            #expect(first.newest == far.lastReceived)
            let second = await sight(far)
            #expect(second.gap == 0 && second.newest == first.newest)
            near.close()
            _ = await receiver.closed.take()
            await host.listener.shutdown()
        }
    }

    /// Bytes that nobody reads reached this host all the same: the peer is not silent.
    @Test func whatLiesUnreadIsSeen() async throws {
        try await withGroup { group in
            let receiver = Recorder()
            let host = try await Host.start(group, handler: receiver)
            let near = try await host.dial(group)
            let far = await host.links.take()
            far.pauseReading()
            _ = await sight(far)
            let read = far.lastReceived
            try await Task.sleep(for: .milliseconds(200))
            let sentAt = await sight(far).now
            near.send(frame(.heartbeat, body: [UInt8](repeating: 0, count: 16)))
            try await Task.sleep(for: .milliseconds(100))
            let seen = await sight(far)
            #expect(far.lastReceived == read, "nothing was read")
            // The kernel counts in whole milliseconds and ticks.
            #expect(seen.newest + 20_000_000 > sentAt, "what the kernel has was seen")
            near.close()
            far.resumeReading()
            _ = await receiver.closed.take()
            await host.listener.shutdown()
        }
    }
}
