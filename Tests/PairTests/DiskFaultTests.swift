import Fakes
import Hypervisor
import Model
import Pair
import Testing

/// A disk of the guest fails or hangs at the primary.
@Suite struct DiskFaultTests {
    static let fault = DiskFault(disk: "disk0", .write, reason: "Input/output error")

    private func expectGivenAway(_ scene: PrimaryScene, _ sealed: Epoch) async throws {
        try await scene.waitUntilEnded()
        #expect(scene.guest.count(of: .kill) == 1 && !scene.guest.isAlive)
        #expect(scene.gaveWay != nil, "the standby goes on, and this host is its standby")
        #expect(scene.standby.whole.last == sealed, "the epoch of the fault is not sealed")
        #expect(scene.events(.diskFault).count == 1)
        let told = scene.events(.diskFault).first ?? ""
        #expect(told.hasPrefix("a write of disk disk0 failed (Input/output error): the standby goes"), "\(told)")
    }

    @Test func itIsToldOfBetweenCheckpoints() async throws {
        try await PrimaryScene.with {
            $0.disks = 1
        } _: { scene in
            try await scene.waitUntilProtected()
            let last = try await scene.send("before")
            try await scene.waitUntilLeft(["before"])
            scene.guest.failDisk(Self.fault)
            try await expectGivenAway(scene, last)
        }
    }

    @Test(arguments: [true, false]) func itIsToldOfWithinACheckpoint(inOne: Bool) async throws {
        try await PrimaryScene.with {
            $0.disks = 1
        } _: { scene in
            scene.guest.saveInOne(inOne)
            try await scene.waitUntilProtected()
            let last = try await scene.send("before")
            try await scene.waitUntilLeft(["before"])
            scene.guest.once(at: inOne ? .awaitSaved : .finishSave) { scene.guest.failDisk(Self.fault) }
            scene.guest.send("within")
            try await expectGivenAway(scene, last)
            #expect(scene.guest.left() == ["before"], "what the guest sent after the fault may tell of it")
            #expect(scene.dropped == 1)
        }
    }

    @Test(arguments: [FakeGuest.Call.stopAndSaveInOne, .awaitDrained, .awaitSaved])
    func disksThatHangAreAFault(at call: FakeGuest.Call) async throws {
        try await PrimaryScene.with {
            $0.disks = 1
        } _: { scene in
            scene.guest.saveInOne()
            try await scene.waitUntilProtected()
            let last = try await scene.send("before")
            try await scene.waitUntilLeft(["before"])
            scene.guest.fail(at: call, SessionError(.diskHangs, "the disks did not end what they had begun"))
            scene.guest.send("within")
            try await scene.waitUntilEnded()
            #expect(scene.gaveWay != nil && scene.standby.whole.last == last)
            #expect(scene.guest.diskBound?.limit == 5_000_000_000)
            #expect(scene.events(.diskFault).first?.hasPrefix("a disk hangs: the disks did not end") == true)
        }
    }

    @Test func theOperatorMayWantTheGuestToSeeIt() async throws {
        try await PrimaryScene.with {
            $0.disks = 1
            $0.options.diskFaults = .report
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.guest.failDisk(Self.fault)
            scene.guest.failDisk(Self.fault)
            try await scene.send("it lives with it")
            try await scene.waitUntilLeft(["it lives with it"])
            #expect(scene.guest.isAlive)
            #expect(scene.events(.diskFault) == ["\(Self.fault): the guest sees it, for disk_fault is “report”"])
        }
    }

    @Test func nobodyGoesOnWithoutTheArbiter() async throws {
        try await PrimaryScene.with {
            $0.disks = 1
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.register.be(.isUnreachable)
            scene.guest.failDisk(Self.fault)
            try await scene.send("it lives with it")
            try await scene.waitUntilLeft(["it lives with it"])
            #expect(scene.guest.isAlive)
            #expect(scene.events(.diskFault).first?.contains("the arbiter does not answer") == true)
        }
    }

    @Test func nobodyCanGoOnDuringTheFirstCopy() async throws {
        try await PrimaryScene.with {
            $0.disks = 1
            $0.prepare = { scene in
                scene.guest.setMirrors(progress: 0.5)
                scene.guest.failDisk(Self.fault)
            }
        } _: { scene in
            try await scene.wait(for: "the fault") { !scene.events(.diskFault).isEmpty }
            scene.guest.setMirrors(progress: 1)
            try await scene.waitUntilProtected()
            #expect(scene.guest.isAlive)
            let told = "\(Self.fault): the guest sees it, for no standby can go on with it now"
            #expect(scene.events(.diskFault) == [told])
        }
    }
}
