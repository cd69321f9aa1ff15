import Fakes
import LinuxSystem
import Model
import Shipping
import Synchronization
import Testing
import Transport
import Wire

/// Frames of epochs, which are numbered and accounted for, and through frames, which are only counted.
@Suite(.timeLimit(.minutes(1))) struct FrameSenderTests {
    private func sendDisk(_ sender: FrameSender, disk: UInt16 = 0, _ offset: UInt64) throws(LinkError) -> UInt64 {
        var head = ByteSink(capacity: 64)
        DiskZero(disk: disk, mayUnmap: false, offset: offset, length: 1).write(into: &head)
        return try sender.sendDisk(.diskZero, head: head.bytes)
    }

    @Test func aThroughFrameCarriesItsEpochAndNoNumber() async throws {
        try await FakePeer.with { link, peer in
            let sender = FrameSender(link: link)
            #expect(try sendDisk(sender, 1) == 0)
            #expect(try sendDisk(sender, 2) == 0)
            #expect(sender.throughFrames == 0)
            #expect(sender.finish(.firstCopy).frameCount == 2)
            sender.goThrough(in: Epoch(2))
            #expect(try sendDisk(sender, 3) == 1)
            // What belongs to an epoch is numbered as before.
            try sender.send(DiskZero(disk: 9, mayUnmap: false, offset: 0, length: 1), epoch: Epoch(1))
            #expect(try sendDisk(sender, 4) == 2)
            #expect(try sendDisk(sender, 5) == 3)
            #expect(sender.throughFrames == 3)
            #expect(sender.finish(Epoch(1)).frameCount == 1)
            #expect(sender.finish(Epoch(2)).frameCount == 0)
            let headers = peer.await(frames: 6).map(\.header)
            #expect(headers.map(\.epoch) == [0, 0, 2, 1, 2, 2])
            #expect(headers.map(\.sequence) == [0, 1, 0, 0, 0, 0])
            #expect(headers.allSatisfy { $0.type == .diskZero })
        }
    }

    /// The standby counts them as they come.
    @Test func theCountIsThatOfTheLinkWhoeverSends() async throws {
        let (disks, each) = (4, 500)
        try await FakePeer.with { link, peer in
            let sender = FrameSender(link: link)
            sender.goThrough(in: Epoch(2))
            let counts = Mutex<[UInt64: DiskZero]>([:])
            let threads = Mutex<Int>(disks)
            for disk in 0..<disks {
                _ = try NamedThread.start("disk-\(disk)") {
                    for offset in 0..<each {
                        let zero = DiskZero(disk: UInt16(disk), mayUnmap: false, offset: UInt64(offset), length: 1)
                        guard let count = try? sendDisk(sender, disk: zero.disk, zero.offset) else { break }
                        counts.withLock { $0[count] = zero }
                    }
                    threads.withLock { $0 -= 1 }
                }
            }
            let frames = peer.await(frames: disks * each)
            while threads.withLock({ $0 > 0 }) { MonotonicClock.sleep(until: MonotonicClock.now() + 1_000_000) }
            #expect(sender.throughFrames == UInt64(disks * each) && frames.count == disks * each)
            let expected = counts.withLock { $0 }
            for (index, frame) in frames.enumerated() {
                let zero = try frame.body.withUnsafeBytes { try DiskZero(parsing: $0) }
                #expect(expected[UInt64(index + 1)] == zero, "frame \(index + 1)")
            }
        }
    }

    @Test func whatCouldNotBeQueuedIsNotCounted() async throws {
        try await FakePeer.with { (link, _) throws in
            let sender = FrameSender(link: link)
            sender.goThrough(in: Epoch(2))
            #expect(try sendDisk(sender, 1) == 1)
            link.close(LinkError(peer: link.peerName, .lost("by the test")))
            #expect(throws: LinkError.self) { try sendDisk(sender, 2) }
            #expect(sender.throughFrames == 1)
        }
    }
}
