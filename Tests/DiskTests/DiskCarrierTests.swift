import Carriers
import Disk
import Fakes
import Glibc
import Hypervisor
import Logging
import Model
import Shipping
import Storage
import Testing
import Transport
import Wire

/// A guest's disk from the mirror's socket to the link, at both kinds of levels.
@Suite(.timeLimit(.minutes(1))) struct DiskCarrierTests {
    private static let chunk = ChunkDigest.chunkSize

    /// Runs `body` with a carrier whose mirror has begun, of one disk of zeros that the standby has already.
    private func withCarrier(
        _ writes: WriteAnswers = WriteAnswers(), goesThrough: Bool,
        _ body: (DiskCarrier, FrameSender, FakePeer, NBDWriter, FakeGuest) throws -> Void
    ) async throws {
        try await FakePeer.with { link, peer in
            let guest = try FakeGuest(disks: 1)
            defer { guest.kill() }
            let (answers, sender) = (DiskAnswers(), FrameSender(link: link))
            let carrier = DiskCarrier(
                of: guest, answers: answers, sender: sender, log: Logger(label: "test"), tell: { _ in }, writes: writes,
                goesThrough: goesThrough)
            let digests = (0..<ChunkDigest.chunks(diskSize: guest.offeredDisks[0].size)).flatMap { _ in
                ChunkDigest.zeroChunk
            }
            let ended = try carrier.prepare { (_: Int) throws(SessionError) -> String? in
                digests.withUnsafeBytes {
                    _ = answers.take(
                        DiskDigestsReply(disk: 0, chunkSize: UInt32(Self.chunk), first: 0, digests: $0))
                }
                return nil
            }
            #expect(ended == nil)
            try guest.whileStopped(for: .attach) { () throws(SessionError) in try carrier.attach() }
            defer {
                writes.close()
                carrier.close()
            }
            try body(carrier, sender, peer, try NBDWriter(try #require(guest.mirrorSocket)), guest)
        }
    }

    /// Waits for so many frames behind the question for digests, which came first.
    private func frames(_ peer: FakePeer, _ count: Int) -> [FrameHeader] {
        peer.await(frames: count + 1).dropFirst().map(\.header)
    }

    @Test func fromTheFirstCutOnAWriteIsDoneWhenTheStandbyHasIt() async throws {
        let writes = WriteAnswers()
        try await withCarrier(writes, goesThrough: true) { carrier, sender, peer, nbd, guest in
            // The first copy: what the standby has is left out, and nothing waits.
            let (zeros, ones) = (
                [UInt8](repeating: 0, count: Self.chunk), [UInt8](repeating: 1, count: Self.chunk)
            )
            try nbd.write(1, at: 0, zeros)
            #expect(try nbd.reply() == .init(cookie: 1, error: 0))
            try nbd.write(2, at: Self.chunk, ones)
            #expect(try nbd.reply() == .init(cookie: 2, error: 0))
            #expect(guest.heldMirrors == 0)
            try carrier.goThrough()
            #expect(guest.heldMirrors == 1)
            carrier.cut(Epoch(1), isFirst: true)
            #expect(sender.throughFrames == 0 && writes.waiting == 0)

            for cookie in 3...10 { try nbd.write(UInt64(cookie), at: cookie * Self.chunk % (1 << 20), zeros) }
            let frames = frames(peer, 10)
            #expect(frames.map(\.type) == [.diskWrite, .through] + [FrameType](repeating: .diskWrite, count: 8))
            #expect(frames.map(\.epoch) == [0] + [UInt64](repeating: 2, count: 9))
            #expect(frames.map(\.sequence) == [UInt32](repeating: 0, count: 10))
            #expect(!nbd.hasInput)
            #expect(writes.take(2))
            for cookie in UInt64(3)...4 { #expect(try nbd.reply() == .init(cookie: cookie, error: 0)) }
            #expect(!nbd.hasInput)
            // The guest is gone: what waits fails.
            writes.close()
            for cookie in UInt64(5)...10 { #expect(try nbd.reply() == .init(cookie: cookie, error: 5)) }
            var timings = EpochTimings()
            carrier.complete(Epoch(1), &timings)
            #expect(timings.diskBytes == UInt64(10 * Self.chunk))
        }
    }

    @Test func withoutAnswersAWriteBelongsToTheEpochThatRuns() async throws {
        try await withCarrier(goesThrough: false) { carrier, sender, peer, nbd, guest in
            let ones = [UInt8](repeating: 1, count: 512)
            for epoch in UInt64(1)...3 {
                try nbd.write(epoch, at: 0, ones)
                #expect(try nbd.reply() == .init(cookie: epoch, error: 0))
                carrier.cut(Epoch(epoch), isFirst: epoch == 1)
            }
            #expect(frames(peer, 3).map(\.epoch) == [0, 2, 3])
            #expect(sender.throughFrames == 0 && guest.heldMirrors == 0)
        }
    }

    /// The dial is turned up, and down again.
    @Test func writesGoByEpochsAndThroughAgain() async throws {
        let writes = WriteAnswers()
        try await withCarrier(writes, goesThrough: true) { carrier, sender, peer, nbd, guest in
            let ones = [UInt8](repeating: 1, count: 512)
            func write(_ cookie: UInt64, taken count: UInt64?) throws {
                try nbd.write(cookie, at: 0, ones)
                if let count {
                    while sender.throughFrames < count { sched_yield() }
                    #expect(!nbd.hasInput)
                    #expect(writes.take(count))
                }
                #expect(try nbd.reply() == .init(cookie: cookie, error: 0))
            }
            try carrier.goThrough()
            carrier.cut(Epoch(1), isFirst: true)
            try write(1, taken: 1)
            carrier.goByEpochs()
            try write(2, taken: 2)
            carrier.cut(Epoch(2), isFirst: true)
            #expect(guest.heldMirrors == 1)
            carrier.letGo()
            #expect(guest.heldMirrors == 0)
            #expect(writes.take(2) && !writes.take(3), "an answer may be on its way")
            try write(3, taken: nil)
            try write(4, taken: nil)
            try carrier.goThrough()
            try write(5, taken: nil)
            carrier.cut(Epoch(3), isFirst: false)
            #expect(guest.heldMirrors == 1)
            try write(6, taken: 3)
            #expect(!writes.take(4))
            let frames = frames(peer, 8)
            let types = [.through] + [FrameType](repeating: .diskWrite, count: 5) + [.through, .diskWrite]
            #expect(frames.map(\.type) == types)
            #expect(frames.map(\.epoch) == [2, 2, 2, 3, 3, 3, 4, 4])
            #expect(frames.map(\.sequence) == [0, 0, 0, 0, 1, 2, 0, 0])
        }
    }

    /// Where epochs make writes safe at first, the dial may be turned down.
    @Test func aSessionByEpochsMayGoThroughLater() async throws {
        let writes = WriteAnswers()
        try await withCarrier(writes, goesThrough: false) { carrier, sender, peer, nbd, guest in
            let ones = [UInt8](repeating: 1, count: 512)
            carrier.cut(Epoch(1), isFirst: true)
            try nbd.write(1, at: 0, ones)
            #expect(try nbd.reply() == .init(cookie: 1, error: 0))
            #expect(guest.heldMirrors == 0 && sender.throughFrames == 0)
            try carrier.goThrough()
            carrier.cut(Epoch(2), isFirst: false)
            try nbd.write(2, at: 0, ones)
            let frames = frames(peer, 3)
            #expect(frames.map(\.type) == [.diskWrite, .through, .diskWrite] && frames.map(\.epoch) == [2, 3, 3])
            #expect(!nbd.hasInput && guest.heldMirrors == 1)
            writes.release()
            #expect(try nbd.reply() == .init(cookie: 2, error: 0))
        }
    }
}
