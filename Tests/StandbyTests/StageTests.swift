import Crypto
import Fakes
import Foundation
import Model
import NIOCore
import Standby
import Testing
import Wire

/// The frames of one epoch as a primary sends them, with what its checkpoint end says.
private struct SentEpoch {
    var frames: [(FrameHeader, ByteBuffer)] = []
    var end: CheckpointEnd

    init(_ epoch: UInt64, bodies: [[UInt8]]) {
        var digest = SHA256()
        var bytes: UInt64 = 0
        for (index, body) in bodies.enumerated() {
            let header = body.withUnsafeBytes {
                FrameHeader(type: .pages, epoch: Epoch(epoch), sequence: UInt32(index), head: $0)
            }
            withUnsafeTemporaryAllocation(byteCount: FrameHeader.size, alignment: 8) { raw in
                header.write(into: raw)
                digest.update(bufferPointer: UnsafeRawBufferPointer(raw))
            }
            bytes += UInt64(FrameHeader.size + body.count)
            frames.append((header, ByteBuffer(bytes: body)))
        }
        end = CheckpointEnd(
            digest: digest.finalize().withUnsafeBytes { CheckpointDigest($0) },
            sections: [CheckpointEnd.Section(type: .pages, frames: UInt32(bodies.count), bytes: bytes)])
    }
}

@Suite struct StageTests {
    private func stage(_ sent: SentEpoch, _ stage: inout Stage) throws {
        for (header, body) in sent.frames { _ = try stage.add(header, body) }
    }

    @Test func aWholeCheckpointIsStagedAndSurvivesItsAgent() throws {
        let scratch = try Scratch()
        var before = Stage(slots: try scratch.slots(3))
        let first = SentEpoch(7, bodies: [[1, 2, 3], [4]])
        try stage(first, &before)
        try before.finish(Epoch(7), first.end)
        // The next epoch is cut short by the agent's death.
        _ = try before.add(SentEpoch(8, bodies: [[9]]).frames[0].0, ByteBuffer(bytes: [9]))

        var after = Stage(slots: try scratch.slots(3, recovering: true))
        #expect(after.recover() == [Epoch(7)])
        let frames = try #require(after.frames(of: Epoch(7)))
        #expect(frames.count == 2 * FrameHeader.size + 4)
        #expect(frames[FrameHeader.size] == 1)
        after.free(Epoch(7))
        #expect(after.stagedBytes == 0)
        var last = Stage(slots: try scratch.slots(3, recovering: true))
        #expect(last.recover() == [])
    }

    /// A full file system: what is complete is waited for, and a healthy replica is not given up.
    @Test(.enabled(if: geteuid() == 0, "needs root: mounting a tmpfs"))
    func withoutRoomAFrameWaitsForWhatIsApplied() throws {
        let scratch = try Scratch()
        #expect(mount("tmpfs", scratch.path, "tmpfs", 0, "size=44m") == 0)
        defer { umount2(scratch.path, Int32(MNT_DETACH)) }
        var stage = Stage(slots: try scratch.slots(3, capacity: 64 << 20))
        let body = [UInt8](repeating: 7, count: 1 << 20)
        let first = SentEpoch(1, bodies: Array(repeating: body, count: 20))
        try self.stage(first, &stage)
        try stage.finish(Epoch(1), first.end)
        let second = SentEpoch(2, bodies: Array(repeating: body, count: 30))
        var frames = second.frames[...]
        while let (header, bytes) = frames.first, case .stored = try stage.add(header, bytes) { frames.removeFirst() }
        #expect(!frames.isEmpty, "there is no room for both")
        stage.free(Epoch(1))
        for (header, bytes) in frames {
            guard case .stored = try stage.add(header, bytes) else {
                Issue.record("there is room since epoch 1 was applied")
                return
            }
        }
        try stage.finish(Epoch(2), second.end)
        stage.free(Epoch(2))
        // Nothing waits to be applied: waiting would be for ever.
        #expect(throws: SessionError.self) {
            for (header, bytes) in SentEpoch(3, bodies: Array(repeating: body, count: 50)).frames {
                _ = try stage.add(header, bytes)
            }
        }
    }

    @Test func aFrameTooFewTooManyOrOutOfOrderIsRefused() throws {
        let scratch = try Scratch()
        let sent = SentEpoch(1, bodies: [[1], [2], [3]])
        var missing = Stage(slots: try scratch.slots(1))
        for (header, body) in sent.frames.dropLast() { _ = try missing.add(header, body) }
        #expect(throws: SessionError.self) { try missing.finish(Epoch(1), sent.end) }
        #expect(missing.frames(of: Epoch(1)) == nil)

        var swapped = Stage(slots: try Scratch().slots(1))
        #expect(throws: SessionError.self) { try swapped.add(sent.frames[1].0, sent.frames[1].1) }

        var late = Stage(slots: try Scratch().slots(2))
        try stage(sent, &late)
        try late.finish(Epoch(1), sent.end)
        #expect(throws: SessionError.self) { try late.add(sent.frames[0].0, sent.frames[0].1) }
    }

    @Test func anotherDigestIsRefused() throws {
        var other = Stage(slots: try Scratch().slots(1))
        let sent = SentEpoch(1, bodies: [[1, 2]])
        let changed = SentEpoch(1, bodies: [[1, 3]])
        try stage(sent, &other)
        #expect(throws: SessionError.self) { try other.finish(Epoch(1), changed.end) }
    }

    @Test func withoutAFreeSlotFramesWait() throws {
        var full = Stage(slots: try Scratch().slots(1))
        let first = SentEpoch(1, bodies: [[1]])
        let second = SentEpoch(2, bodies: [[2]])
        try stage(first, &full)
        try full.finish(Epoch(1), first.end)
        guard case .full = try full.add(second.frames[0].0, second.frames[0].1) else {
            Issue.record("a slot was taken that is in use")
            return
        }
        full.free(Epoch(1))
        guard case .stored = try full.add(second.frames[0].0, second.frames[0].1) else {
            Issue.record("a free slot was not taken")
            return
        }
    }

    @Test func anEpochBeyondTheSlotIsAnErrorAndNotACrash() throws {
        let scratch = try Scratch()
        var small = Stage(slots: try scratch.slots(1))
        let body = [UInt8](repeating: 7, count: 3 << 20)
        let sent = SentEpoch(1, bodies: [body, body, body, body])
        #expect(throws: SessionError.self) { try stage(sent, &small) }
    }
}

@Suite struct DeviceStateFileTests {
    @Test func theNewestWholeStateIsFoundAgain() throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/device-state"
        let file = try DeviceStateFile(path: path)
        #expect(file.load() == nil)
        for epoch in 1...5 {
            try file.store(Epoch(UInt64(epoch)), [UInt8](repeating: UInt8(epoch), count: 100 + epoch))
        }
        let again = try DeviceStateFile(path: path)
        #expect(again.load()?.epoch == Epoch(5))
        #expect(again.load()?.deviceState == [UInt8](repeating: 5, count: 105))
        #expect(again.load(before: Epoch(5))?.epoch == Epoch(4))
        // The next state takes the older place: the newest stays until the new one is whole.
        try again.store(Epoch(6), [6])
        #expect(again.load()?.deviceState == [6])
        #expect(again.load(before: Epoch(6))?.epoch == Epoch(5))
    }
}
