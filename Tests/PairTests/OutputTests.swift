import Fakes
import Foundation
import Hypervisor
import Messages
import Model
import Pair
import Protocol
import Testing

/// Output leaves only when its epoch is acknowledged in the session that runs, or after winning the right to go alone.
@Suite struct OutputTests {
    /// A pair whose standby acknowledges nothing any more, with output in an epoch that is whole there.
    private func withHeldOutput(
        _ configure: (inout PrimaryScene.Setup) -> Void = { _ in }, _ body: (PrimaryScene, Epoch) async throws -> Void
    ) async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
            configure(&$0)
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.standby.acknowledge(.onDemand)
            let epoch = try await scene.send("held")
            #expect(scene.guest.left().isEmpty)
            try await body(scene, epoch)
        }
    }

    @Test func outputFlowsUntilTheFirstCheckpoint() async throws {
        try await PrimaryScene.with {
            $0.disks = 1
            $0.prepare = { scene in
                scene.guest.send("before")
                scene.guest.setMirrors(progress: 0.5)
            }
        } _: { scene in
            try await scene.wait(for: "the first copy") { scene.shell.status.diskProgress == 0.5 }
            scene.guest.send("meanwhile")
            try await scene.waitUntilLeft(["before", "meanwhile"])
            scene.guest.setMirrors(progress: 1)
            try await scene.waitUntilProtected()
        }
    }

    @Test func outputWaitsForItsAcknowledgement() async throws {
        try await withHeldOutput { scene, epoch in
            #expect(scene.shell.status.heldFrames == 1 && !scene.standby.released.contains(epoch))
            scene.standby.acknowledgeNext()
            try await scene.waitUntilLeft(["held"])
            try await scene.wait(for: "the standby hears of it") { scene.standby.released.contains(epoch) }
            #expect(scene.shell.status.heldFrames == 0)
        }
    }

    /// The test bed plants this: that the test above can fail.
    @Test func releasingTooEarlyIsNoticed() async throws {
        try await PrimaryScene.with {
            $0.options.planted = .releaseBeforeAcknowledgement
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.standby.acknowledge(.onDemand)
            try await scene.send("early")
            try await scene.waitUntilLeft(["early"])
            #expect(!scene.acknowledged.contains(Epoch(2)))
        }
    }

    @Test func epochsAreReleasedOneByOne() async throws {
        try await withHeldOutput { scene, first in
            let second = try await scene.send("later")
            #expect(second == first.next)
            scene.standby.acknowledgeNext()
            try await scene.waitUntilLeft(["held"])
            #expect(scene.acknowledged.last == first)
            scene.standby.acknowledgeNext()
            try await scene.waitUntilLeft(["held", "later"])
        }
    }

    @Test func outputLeavesInItsOrder() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            let frames = (0..<200).map { "frame \($0)" }
            for (index, frame) in frames.enumerated() {
                scene.guest.send(frame)
                if index % 20 == 19 { try await Task.sleep(for: .milliseconds(1)) }
            }
            try await scene.waitUntilLeft(frames)
        }
    }

    @Test func eachNICHasItsGate() async throws {
        try await PrimaryScene.with {
            $0.nics = 2
        } _: { scene in
            try await scene.waitUntilProtected()
            #expect(scene.guest.tapped == 2)
            scene.standby.acknowledge(.onDemand)
            scene.guest.send("zero")
            try await scene.send("one", nic: 1)
            #expect(scene.guest.left().isEmpty && scene.guest.left(nic: 1).isEmpty)
            scene.standby.acknowledge(.atOnce)
            try await scene.send("more")
            try await scene.wait(for: "all") {
                scene.guest.left().last == "more" && scene.guest.left(nic: 1) == ["one"]
            }
        }
    }

    @Test func theStandbyHasTheOutput() async throws {
        try await withHeldOutput { scene, epoch in #expect(scene.standby.output[epoch] == ["held"]) }
    }

    // MARK: - What is no acknowledgement

    @Test func anotherDigestIsNone() async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.register.be(.isUnreachable)
            scene.standby.acknowledge(.withAnotherDigest)
            let epoch = try await scene.send("held")
            try await scene.wait(for: .peerLost)
            try await scene.wait(for: "the arbiter is asked") { !scene.events(.unanswered).isEmpty }
            #expect(scene.guest.left().isEmpty && !scene.acknowledged.contains(epoch))
            #expect(
                scene.events(.standbyLost) == [
                    "the standby is lost: it acknowledged epoch \(epoch) otherwise than it was sent"
                ])
            scene.register.be(.answers)
            try await scene.waitUntilLeft(["held"])
            #expect(scene.current?.mode == .solo)
        }
    }

    @Test(arguments: [0, 1, 2, 9]) func anAcknowledgementOutOfOrderIsNone(_ ahead: UInt64) async throws {
        try await withHeldOutput { scene, epoch in
            scene.register.be(.isUnreachable)
            // Of an epoch before, or of one that there is not yet.
            scene.standby.acknowledge(Epoch(ahead == 0 ? epoch.number - 1 : epoch.number + ahead))
            try await scene.wait(for: .peerLost)
            #expect(scene.guest.left().isEmpty)
        }
    }

    // MARK: - Alone

    @Test(arguments: [FakeRegister.Manner.isUnreachable, .losesAnswers, .waits])
    func withoutTheArbitersWordNothingLeaves(_ manner: FakeRegister.Manner) async throws {
        try await withHeldOutput { scene, _ in
            scene.register.be(manner)
            scene.standby.hangUp()
            try await scene.wait(for: .peerLost)
            try await scene.wait(for: "it is asked") { scene.register.asked.last?.mode == .solo }
            scene.guest.send("more")
            try await Task.sleep(for: .milliseconds(20))
            #expect(scene.guest.left().isEmpty && scene.guest.isRunningNow)
            scene.register.be(.answers)
            try await scene.waitUntilLeft(["held", "more"])
            #expect(scene.current?.mode == .solo && scene.current?.owner == FakeNodes.primary)
        }
    }

    @Test func whatIsWonIsMadeDurableFirst() async throws {
        struct DiskIsFull: Error {}
        try await withHeldOutput {
            $0.persist = { if $0.register?.mode == .solo, $0.seen > Term(1) { throw DiskIsFull() } }
        } _: { scene, _ in
            scene.standby.hangUp()
            try await scene.wait(for: "the failure") { !scene.failures.isEmpty }
            #expect(scene.current?.mode == .solo)
            #expect(scene.guest.left().isEmpty)
        }
    }

    @Test func whatAnotherHostGoesOnWithIsDropped() async throws {
        try await withHeldOutput { scene, _ in
            var theirs = try #require(scene.current)
            theirs.term = Term(theirs.term.number + 1)
            (theirs.owner, theirs.mode, theirs.session, theirs.standby) = (FakeNodes.standby, .solo, .none, nil)
            scene.register.set(scene.vm, theirs)
            scene.standby.hangUp()
            try await scene.waitUntilEnded()
            #expect(scene.guest.left().isEmpty && !scene.guest.isAlive)
            #expect(scene.dropped == 1)
            #expect(scene.gaveWay?.register == theirs)
        }
    }

    @Test func withoutAnArbiterItMayRunAlone() async throws {
        try await withHeldOutput {
            $0.rule = .manual(.runAlone)
        } _: { scene, _ in
            scene.standby.hangUp()
            try await scene.waitUntilLeft(["held"])
            #expect(scene.records.last?.register?.mode == .solo)
        }
    }

    @Test func withoutAnArbiterItMayFreeze() async throws {
        try await withHeldOutput {
            $0.rule = .manual(.freeze)
        } _: { scene, _ in
            scene.standby.hangUp()
            try await scene.wait(for: .frozen)
            scene.guest.send("more")
            try await Task.sleep(for: .milliseconds(20))
            #expect(scene.guest.left().isEmpty && scene.guest.isRunningNow)
            #expect(scene.shell.decide(goesOn: true) == nil)
            try await scene.waitUntilLeft(["held", "more"])
        }
    }

    @Test func aFrozenGuestIsGivenUp() async throws {
        try await withHeldOutput {
            $0.rule = .manual(.freeze)
        } _: { scene, _ in
            scene.standby.hangUp()
            try await scene.wait(for: .frozen)
            #expect(scene.shell.decide(goesOn: false) == nil)
            try await scene.waitUntilEnded()
            #expect(!scene.guest.isAlive && scene.guest.left().isEmpty && scene.dropped == 1)
        }
    }

    @Test(arguments: [true, false]) func aPairHasNothingToDecide(goesOn: Bool) async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            #expect(scene.shell.decide(goesOn: goesOn) == "there is nothing to decide here")
        }
    }

    // MARK: - The gate

    @Test func tooMuchHeldOutputMakesTheGuestWait() async throws {
        try await withHeldOutput {
            $0.options.heldBytesMax = 2000
        } _: { scene, _ in
            let text = String(repeating: "x", count: 400)
            let guest = scene.guest
            // An idle guest's epochs are long: it sends until as many as may be are on the way.
            var count = 1
            while !guest.isHeldStill {
                try #require(count < 10_000, "it does not stand still")
                guest.send(text)
                count += 1
                try await Task.sleep(for: .milliseconds(1))
            }
            #expect(scene.events(.state).contains { $0.hasSuffix("output are held: the guest waits for the standby") })
            #expect(!guest.isRunningNow && guest.left().isEmpty)
            scene.standby.acknowledge(.atOnce)
            try await scene.wait(for: "all of it") { guest.left().count == count }
            #expect(guest.isRunningNow)
        }
    }

    /// Its output is all in epochs that are whole at the standby: nothing but room makes the next one due.
    @Test func aGuestThatWaitsRunsOnAsSoonAsThereIsRoom() async throws {
        try await whileTheGuestWaits { scene, _ in
            scene.standby.acknowledge(.atOnce)
            try await scene.wait(for: "it runs on") { scene.guest.isRunningNow }
        }
    }

    @Test func aGuestThatWaitsRunsOnAloneWhenItsStandbyIsLost() async throws {
        try await whileTheGuestWaits { scene, sent in
            scene.standby.hangUp()
            try await scene.waitUntilAlone()
            try await scene.waitUntilLeft(sent)
        }
    }

    @Test func aGuestThatWaitsRunsOnWithoutProtection() async throws {
        try await whileTheGuestWaits { scene, sent in
            scene.shell.unprotect()
            try await scene.waitUntilEnded()
            #expect(scene.guest.isRunningNow && scene.guest.tapped == 0 && scene.guest.left() == sent)
        }
    }

    /// As many epochs are on the way as may be, and the guest stands still.
    private func whileTheGuestWaits(_ body: (PrimaryScene, [String]) async throws -> Void) async throws {
        try await withHeldOutput {
            $0.options.heldBytesMax = 100
        } _: { scene, _ in
            var sent = ["held"]
            while !scene.guest.isHeldStill {
                let text = "\(sent.count)" + String(repeating: "x", count: 120)
                scene.guest.send(text)
                sent.append(text)
                try await scene.wait(for: "the epoch, or no room for it") {
                    scene.guest.isHeldStill || scene.standby.output.values.contains { $0.contains(text) }
                }
                try await Task.sleep(for: .milliseconds(5))
            }
            try await body(scene, sent)
        }
    }

    @Test(arguments: [[0, 0, 0, 9, 1], [0xff, 0xff, 0xff, 0xff]] as [[UInt8]]) func aTornFrameEndsTheSession(
        _ bytes: [UInt8]
    ) async throws {
        try await PrimaryScene.with {
            $0.endEpochs(after: 20)
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.guest.sendTorn(bytes)
            try await scene.waitUntilEnded()
            #expect(scene.failures.first?.message.contains("delivered a torn frame") == true)
            #expect(scene.guest.isRunningNow && scene.guest.tapped == 0)
        }
    }

    @Test func aFilterThatIsClosedEndsTheSession() async throws {
        try await PrimaryScene.with {
            $0.endEpochs(after: 20)
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.guest.closeTap()
            try await scene.waitUntilEnded()
            #expect(scene.failures.first?.message.contains("closed the output filter of NIC 0") == true)
            #expect(scene.guest.isRunningNow && scene.guest.tapped == 0)
        }
    }
}
