import Disk
import Fakes
import Hypervisor
import Messages
import Model
import Pair
import Protocol
import Synchronization
import Testing

/// How a guest comes to be protected, and how its epochs go on.
@Suite struct ProtectingTests {
    private static let lineage = Lineage(77)

    private func register(
        _ term: UInt64, _ owner: NodeName, standby: NodeName? = nil, lineage: Lineage = Self.lineage
    ) -> Register {
        Register(
            term: Term(term), owner: owner, mode: standby == nil ? .solo : .paired,
            session: standby == nil ? .none : SessionID(1),
            standby: standby.map { StandbyIdentity(node: $0, incarnation: 9) }, lineage: lineage, level: .system)
    }

    @Test func fromTheOfferToThePair() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            let history = scene.register.history
            #expect(history.map(\.mode) == [.solo, .paired])
            #expect(history.map(\.term) == [Term(1), Term(2)])
            #expect(history.last?.standby == StandbyIdentity(node: FakeNodes.standby, incarnation: 1))
            #expect(history.last?.session == scene.standby.offers.first?.session.session)
            #expect(scene.records.map(\.seen) == [Term(1), Term(2)], "both were durable")
            try await scene.wait(for: "the standby knows") { scene.standby.registers == [history.last] }
            let offer = try #require(scene.standby.offers.first)
            #expect(offer.vm == scene.vm && offer.session.term == Term(1))
            #expect(offer.blocks.map(\.name) == ["pc.ram"] && offer.nics == scene.guest.offeredNICs)
            #expect(offer.identity == scene.guest.description.identity)
            #expect(scene.events(.protected).count == 1)
            #expect(scene.guest.isRunningNow && scene.guest.isPrepared && scene.guest.tapped == 1)
        }
    }

    @Test func theFirstCopyIsTheGuestsMemory() async throws {
        try await PrimaryScene.with {
            $0.prepare = { scene in
                for page in stride(from: 0, to: 60, by: 3) { scene.guest.write(page, UInt8(page + 1)) }
            }
        } _: { scene in
            try await scene.waitUntilProtected()
            #expect(scene.standby.isSynced)
            #expect(scene.standby.images[Epoch(1)] == scene.guest.cuts.first)
            #expect(scene.guest.cuts.first?[57 * pageSize] == 58)
        }
    }

    @Test(arguments: [true, false], [true, false])
    func eachEpochIsTheGuestAtItsCut(inOne: Bool, mayPin: Bool) async throws {
        try await PrimaryScene.with {
            $0.mayPinMemory = mayPin
        } _: { scene in
            scene.guest.saveInOne(inOne)
            try await scene.waitUntilProtected()
            for round in 0..<6 {
                for page in 0..<12 { scene.guest.write((page * 5 + round) % 64, UInt8(round * 12 + page + 1)) }
                if mayPin { scene.guest.beginRead(round, 200) }
                let epoch = try await scene.send("round \(round)")
                #expect(scene.standby.images[epoch] == scene.guest.cuts[Int(epoch.number) - 1])
            }
            #expect((scene.guest.count(of: .awaitSaved) > 0) == inOne)
        }
    }

    @Test func withoutAnArbiterTheRegisterIsThePrimarys() async throws {
        try await PrimaryScene.with {
            $0.rule = .manual(.runAlone)
        } _: { scene in
            try await scene.waitUntilProtected()
            #expect(scene.register.asked.isEmpty && scene.register.readings == 0)
            #expect(scene.records.compactMap(\.register?.mode) == [.solo, .paired])
        }
    }

    @Test(arguments: [false, true]) func aGuestThatWasFoundKeepsItsHistory(wasPaired: Bool) async throws {
        try await PrimaryScene.with {
            $0.origin = .found(Self.lineage)
            $0.register = register(5, FakeNodes.primary, standby: wasPaired ? FakeNodes.standby : nil)
        } _: { scene in
            try await scene.waitUntilProtected()
            #expect(scene.guest.calls.prefix(2) == [.open, .close], "between sessions the monitor is the operator's")
            #expect(scene.register.history.map(\.term) == [Term(5), Term(6), Term(7)])
            #expect(scene.register.history.allSatisfy { $0.lineage == Self.lineage })
        }
    }

    @Test func aGuestThatWasTakenOverIsProtectedAtOnce() async throws {
        let won = register(7, FakeNodes.primary)
        try await PrimaryScene.with {
            $0.origin = .tookOver(won)
            $0.register = won
        } _: { scene in
            try await scene.waitUntilProtected()
            #expect(scene.register.asked.map(\.mode) == [.paired], "the right to run it was won before")
            #expect(scene.register.history.last?.term == Term(8))
        }
    }

    // MARK: - Whose guest it is

    @Test(arguments: [false, true]) func aGuestOfOthersIsLeftAlone(isPairOfOurs: Bool) async throws {
        let contested =
            isPairOfOurs
            ? register(4, FakeNodes.primary, standby: FakeNodes.standby) : register(4, FakeNodes.standby)
        try await PrimaryScene.with {
            $0.register = contested
        } _: { scene in
            try await scene.waitUntilEnded()
            #expect(scene.failures.map(\.code) == [.refused])
            #expect(scene.failures.first?.knows == contested)
            #expect(scene.guest.isRunningNow && scene.guest.count(of: .prepare) == 0)
            #expect(scene.current == contested && scene.standby.offers.isEmpty)
        }
    }

    @Test func theOperatorOverridesTheRegister() async throws {
        try await PrimaryScene.with {
            $0.register = register(4, FakeNodes.standby)
            $0.options.overridesRegister = true
        } _: { scene in
            try await scene.waitUntilProtected()
            #expect(scene.register.history.map(\.owner).last == FakeNodes.primary)
            #expect(scene.current?.term == Term(6))
        }
    }

    @Test func whoYieldedIsNoHindrance() async throws {
        let theirs = register(4, FakeNodes.standby)
        try await PrimaryScene.with {
            $0.register = theirs
            $0.options.yielded = theirs
        } _: { scene in
            try await scene.waitUntilProtected()
        }
    }

    @Test(arguments: [false, true]) func aLeftoverIsEnded(isOtherHistory: Bool) async throws {
        let newer =
            isOtherHistory
            ? register(9, FakeNodes.primary, lineage: Lineage(78)) : register(9, FakeNodes.standby)
        try await PrimaryScene.with {
            $0.origin = .found(Self.lineage)
            $0.register = newer
        } _: { scene in
            try await scene.waitUntilEnded()
            #expect(!scene.guest.isAlive)
            #expect(scene.gaveWay?.register == newer)
            #expect(scene.guest.left().isEmpty)
        }
    }

    /// It may be whole here: only a copy that is known not to be is a reason to end the guest.
    @Test func aGuestWhoseDisksCannotBeAskedForIsAskedAgain() async throws {
        try await PrimaryScene.with {
            $0.origin = .found(Self.lineage)
            $0.register = register(5, FakeNodes.primary, standby: FakeNodes.standby)
            $0.serving = ServingPlaces(directory: "/nowhere", boundMilliseconds: 1000)
            $0.prepare = { $0.guest.fail(at: .leftServed, SessionError(.qemu, "no answer")) }
        } _: { scene in
            try await scene.wait(for: "the word") { scene.events(.state).contains { $0.hasPrefix("no answer: ") } }
            #expect(scene.current?.term == Term(5), "nothing was claimed")
            scene.guest.failNoMore()
            try await scene.waitUntilProtected()
            #expect(scene.guest.isRunningNow && scene.guest.count(of: .kill) == 0 && scene.failures.isEmpty)
        }
    }

    /// Its QEMU waits for what nobody will answer: it is ended once another host has the guest, and not before.
    @Test func aGuestThatNobodyCanSpeakToIsLeftToWhoeverHasIt() async throws {
        let newer = register(9, FakeNodes.standby)
        try await PrimaryScene.with {
            $0.origin = .found(Self.lineage)
            $0.register = register(5, FakeNodes.primary, standby: FakeNodes.standby)
            $0.prepare = { $0.guest.fail(at: .open, SessionError(.refused, "no answer")) }
        } _: { scene in
            try await scene.wait(for: "the word of it") { scene.events(.state).contains { $0.hasPrefix("no answer") } }
            #expect(scene.guest.isAlive && scene.ended == nil)
            scene.register.set(scene.vm, newer)
            try await scene.waitUntilEnded()
            #expect(!scene.guest.isAlive && scene.gaveWay?.register == newer)
            #expect(scene.register.asked.isEmpty)
        }
    }

    @Test func anotherVMOfThatNameIsRefused() async throws {
        try await PrimaryScene.with {
            $0.identify = { (_, _) throws(SessionError) in throw SessionError(.refused, "another VM") }
        } _: { scene in
            try await scene.waitUntilEnded()
            #expect(scene.ended == "another VM")
            #expect(scene.guest.isRunningNow && scene.register.readings == 0)
        }
    }

    @Test func aGuestThatCannotBeOpenedIsNotProtected() async throws {
        try await PrimaryScene.with {
            $0.prepare = { $0.guest.fail(at: .open, SessionError(.qemu, "no monitor")) }
        } _: { scene in
            try await scene.waitUntilEnded()
            #expect(scene.failures.map(\.message) == ["no monitor"])
            #expect(scene.phase == .failed && scene.register.readings == 0)
        }
    }

    // MARK: - What is not durable does not count

    private struct DiskIsFull: Error {}

    @Test func nothingRestsOnAClaimThatCannotBeKept() async throws {
        try await PrimaryScene.with {
            $0.persist = { _ in throw DiskIsFull() }
        } _: { scene in
            try await scene.wait(for: "the failure") { !scene.failures.isEmpty }
            #expect(scene.failures.first?.code == .system)
            #expect(scene.shell.status.lastError?.contains("cannot be kept, so nothing rests on it") == true)
            #expect(scene.standby.connections == 0 && scene.guest.isRunningNow)
        }
    }

    @Test func aPairThatCannotBeKeptIsNone() async throws {
        try await PrimaryScene.with {
            $0.persist = { if $0.register?.mode == .paired { throw DiskIsFull() } }
        } _: { scene in
            try await scene.wait(for: "the failure") { !scene.failures.isEmpty }
            #expect(scene.phase == .syncing)
            #expect(scene.standby.registers.isEmpty && scene.events(.protected).isEmpty)
        }
    }

    // MARK: - Epochs

    @Test func tuningReachesTheStandby() async throws {
        let (first, second) = (
            EpochTuning(epochMilliseconds: 60_000, linkCapMegabits: 800),
            EpochTuning(epochMilliseconds: 40, pauseBudget: 30)
        )
        try await PrimaryScene.with {
            $0.options.tuning = first
        } _: { scene in
            try await scene.waitUntilProtected()
            #expect(scene.standby.offers.first?.tuning == first)
            scene.shell.tune(second)
            try await scene.wait(for: "the tuning") { scene.standby.tunings == [second] }
            #expect(scene.shell.status.tuning == second)
            try await scene.send("and it goes on")
        }
    }

    @Test func tuningBeforeTheAnswerIsToldAfterIt() async throws {
        let tuning = EpochTuning(epochMilliseconds: 50)
        try await PrimaryScene.with {
            $0.prepare = { $0.standby.answer(.saysNothing) }
        } _: { scene in
            try await scene.wait(for: "the offer") { scene.standby.offers.count == 1 }
            scene.shell.tune(tuning)
            #expect(scene.standby.tunings.isEmpty)
            scene.standby.send(
                AcceptMessage.of(FakeNodes.standby).frame)
            try await scene.wait(for: "the tuning") { scene.standby.tunings == [tuning] }
        }
    }

    /// An idle guest that sends nothing is checkpointed too.
    @Test func epochsEndWithoutOutput() async throws {
        try await PrimaryScene.with {
            $0.endEpochs(after: 5)
        } _: { scene in
            try await scene.waitUntilProtected()
            try await scene.wait(for: "ten epochs") { scene.acknowledged.count >= 10 }
            #expect(scene.acknowledged.starts(with: (1...10).map { Epoch(UInt64($0)) }))
        }
    }

    /// The test bed plants this: the standby's memory tells.
    @Test func aPageThatIsNotSentIsMissing() async throws {
        try await PrimaryScene.with {
            $0.options.planted = .skipDirtyPage
        } _: { scene in
            try await scene.waitUntilProtected()
            for page in 0..<4 { scene.guest.write(page * 2, 9) }
            let epoch = try await scene.send("x")
            #expect(scene.standby.images[epoch] != scene.guest.cuts[Int(epoch.number) - 1])
        }
    }

    @Test func disksAreMirroredBeforeTheFirstCheckpoint() async throws {
        try await PrimaryScene.with {
            $0.disks = 2
            $0.prepare = { $0.guest.setMirrors(progress: 0.5) }
        } _: { scene in
            try await scene.wait(for: "two mirrors") { scene.guest.mirrored == 2 }
            try await scene.wait(for: "their progress") { scene.shell.status.diskProgress == 0.5 }
            #expect(scene.standby.whole.isEmpty && scene.phase == .syncing)
            scene.guest.setMirrors(progress: 1)
            try await scene.waitUntilProtected()
        }
    }

    @Test func aStandbyIsNotReplacedWhereNobodyAsked() async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.standby.hangUp()
            try await scene.waitUntilAlone()
            #expect(scene.standby.connections == 1)
            scene.shell.protect()
            try await scene.waitUntilProtected()
            #expect(scene.standby.connections == 2)
        }
    }
}

extension AcceptMessage {
    /// What a standby says that was silent first.
    static func of(_ node: NodeName) -> AcceptMessage {
        AcceptMessage(
            identity: StandbyIdentity(node: node, incarnation: 5), qemuPID: 1, qemuVersion: "7.2.0", baseBytes: 0,
            heartbeatMilliseconds: nil, verifies: nil)
    }
}
