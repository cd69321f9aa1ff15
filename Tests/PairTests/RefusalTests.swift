import Fakes
import Hypervisor
import Messages
import Model
import NIOCore
import Pair
import Protocol
import Shipping
import Testing
import Wire

/// A standby that will not, cannot, or does what it must not.
@Suite struct RefusalTests {
    @Test func aRefusalEndsWhatWasAskedFor() async throws {
        try await PrimaryScene.with {
            $0.prepare = { $0.standby.answer(.refuses("its memory is full")) }
        } _: { scene in
            try await scene.waitUntilEnded()
            #expect(scene.failures == [SessionError(.standbyRefused, "its memory is full")])
            #expect(scene.phase == .failed && scene.ended == "its memory is full")
            #expect(
                scene.guest.isRunningNow && scene.guest.count(of: .prepare) == 0 && scene.guest.calls.last == .close)
            #expect(scene.current?.mode == .solo)
        }
    }

    @Test func aGuestThatShouldBeProtectedAsksAgain() async throws {
        try await PrimaryScene.with {
            $0.origin = .wanted
            $0.prepare = { $0.standby.answer(.refuses("its memory is full")) }
        } _: { scene in
            try await scene.wait(for: .peerLost)
            #expect(scene.shell.status.lastError == "its memory is full" && scene.ended == nil)
            scene.standby.answer(.accepts)
            scene.shell.protect()
            try await scene.waitUntilProtected()
            #expect(scene.standby.offers.count >= 2)
        }
    }

    /// What a standby knows better about the register is asked of the arbiter.
    @Test func aRefusalMayTellOfAnotherOwner() async throws {
        let theirs = Register(
            term: Term(8), owner: FakeNodes.standby, mode: .solo, session: .none, standby: nil, lineage: Lineage(4),
            level: .system)
        try await PrimaryScene.with {
            $0.prepare = { $0.standby.answer(.refuses("it runs here", knows: theirs)) }
            $0.origin = .wanted
        } _: { scene in
            try await scene.wait(for: "the arbiter is read again") { scene.register.readings > 1 }
            #expect(scene.current?.owner == FakeNodes.primary, "the arbiter knows, and not the standby")
            #expect(scene.guest.isRunningNow)
        }
    }

    @Test func aStandbyThatFailsIsLost() async throws {
        try await PrimaryScene.with {
            $0.prepare = { $0.standby.answer(.fails("its QEMU died")) }
        } _: { scene in
            try await scene.waitUntilEnded()
            #expect(scene.guest.isRunningNow && scene.guest.tapped == 0)
            #expect(scene.failures.map(\.code) == [.peerLost])
        }
    }

    @Test func aStandbyThatHangsUpIsLost() async throws {
        try await PrimaryScene.with {
            $0.prepare = { $0.standby.answer(.hangsUp) }
        } _: { scene in
            try await scene.waitUntilEnded()
            #expect(scene.failures.map(\.code) == [.peerLost])
            #expect(scene.guest.isRunningNow && scene.guest.count(of: .prepare) == 0)
        }
    }

    @Test func aStandbyThatFailsLaterIsLostWithItsReason() async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.standby.send(GoodbyeMessage(kind: .failed, reason: "its disk is full").frame)
            try await scene.waitUntilAlone()
            #expect(scene.events(.standbyLost) == ["the standby is lost: beta: its disk is full"])
            #expect(scene.guest.isRunningNow)
        }
    }

    // MARK: - A standby that wants to be none

    @Test(arguments: [Rule.arbiter, .manual(.runAlone)]) func aStandbyMayLeave(_ rule: Rule) async throws {
        try await PrimaryScene.with {
            $0.rule = rule
            $0.reprotection = .manual
        } _: { scene in
            try await scene.waitUntilProtected()
            try await scene.send("one")
            scene.standby.send(WishMessage(.leave, reason: "maintenance").frame)
            try await scene.waitUntilAlone()
            try await scene.wait(for: .running)
            try await scene.wait(for: "the goodbye") { scene.standby.goodbyes.map(\.kind) == [.unprotected] }
            #expect(scene.shell.status.lastError?.contains("the standby left (maintenance)") == true)
            #expect(scene.guest.isRunningNow && scene.events(.standbyLost).isEmpty && scene.failures.isEmpty)
            scene.guest.send("two")
            try await scene.waitUntilLeft(["one", "two"])
        }
    }

    @Test func aStandbyMayLeaveDuringTheFirstCopy() async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
            $0.disks = 1
            $0.prepare = { $0.guest.setMirrors(progress: 0.5) }
        } _: { scene in
            try await scene.wait(for: "the first copy") { scene.shell.status.diskProgress == 0.5 }
            scene.standby.send(WishMessage(.leave, reason: "maintenance").frame)
            try await scene.waitUntilAlone()
            #expect(scene.guest.isRunningNow && scene.guest.mirrored == 0)
        }
    }

    // MARK: - What a standby must not say

    static let wrong: [(String, ByteBuffer)] = [
        ("tuning", TuningMessage(EpochTuning(epochMilliseconds: 1), isStalled: false).frame),
        ("takeOver", controlFrame(TakeOver(term: Term(1), guestStands: false))),
        ("released", controlFrame(Released())),
        ("synced", controlFrame(Synced(frameCount: 0, byteCount: 0))),
        (
            "diskDigestsReply",
            [UInt8](repeating: 0, count: 16).withUnsafeBytes {
                controlFrame(DiskDigestsReply(disk: 0, chunkSize: 1 << 16, first: 0, digests: $0))
            }
        ),
        ("an unreadable wish", Self.unreadable),
    ]

    private static var unreadable: ByteBuffer {
        var sink = ByteSink(capacity: 64)
        Array("{}".utf8).withUnsafeBytes { sink.append(frame: .wish, body: $0, epoch: .firstCopy, sequence: 0) }
        return ByteBuffer(bytes: sink.bytes)
    }

    @Test(arguments: wrong.indices) func aFrameThatCannotComeFromAStandbyEndsTheSession(_ index: Int) async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            scene.standby.acknowledge(.onDemand)
            try await scene.send("held")
            scene.register.be(.isUnreachable)
            scene.standby.send(Self.wrong[index].1)
            try await scene.wait(for: "the failure") { !scene.failures.isEmpty }
            #expect(scene.failures.map(\.code) == [.protocolBroken])
            #expect(scene.guest.left().isEmpty && scene.guest.isAlive)
            scene.register.be(.answers)
            try await scene.waitUntilEnded()
            try await scene.waitUntilLeft(["held"])
            #expect(scene.guest.isRunningNow && scene.guest.tapped == 0)
        }
    }
}
