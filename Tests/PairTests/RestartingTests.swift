import Fakes
import Hypervisor
import Messages
import Model
import Pair
import Protocol
import Testing

/// Level `restart` at the primary: no memory travels, output flows behind the gate, and a guest that dies is started again.
@Suite struct RestartingTests {
    private func with(
        _ change: (inout PrimaryScene.Setup) throws -> Void = { _ in }, _ body: (PrimaryScene) async throws -> Void
    ) async throws {
        try await PrimaryScene.with(
            {
                $0.disks = 1
                $0.options.level = .restart
                try change(&$0)
            }, body)
    }

    @Test func onlyDisksTravelAndTheGateStandsBeforeThePair() async throws {
        try await with { scene in
            try await scene.waitUntilProtected()
            let offer = try #require(scene.standby.offers.last)
            #expect(offer.session.level == .restart && offer.blocks.isEmpty && offer.nics.isEmpty)
            #expect(offer.disks.count == 1)
            #expect(scene.current?.mode == .paired && scene.current?.level == .restart)
            #expect(scene.barrier.guests[scene.vm]?.map(\.name) == ["tap0"])
            #expect(scene.barrier.steps.starts(with: [.install, .open]))
            let saving: [FakeGuest.Call] = [.followMemory, .scan, .copy, .stopAndSave, .stopAndSaveInOne, .tap]
            #expect(!scene.guest.calls.contains { saving.contains($0) })
            #expect(scene.acknowledged == [Epoch(1)])
            // Output is nobody's business.
            scene.guest.send("a frame")
            #expect(scene.guest.left() == ["a frame"])
            try await scene.wait(for: "a promise") { scene.standby.promises > 0 }
        }
    }

    @Test func whatIsNotOnATapIsRefused() async throws {
        try await with(
            { $0.hasTaps = false },
            { scene in
                try await scene.waitUntilEnded()
                #expect(scene.failures.map(\.code) == [.refused])
                #expect(
                    scene.failures.first?.message.contains("NIC nic0 (netdev net0, user)") == true, "\(scene.failures)")
                #expect(scene.current == nil, "nothing was claimed")
            })
    }

    @Test func withoutAnArbiterItIsRefused() async throws {
        try await with(
            { $0.rule = .manual(.runAlone) },
            { scene in
                try await scene.waitUntilEnded()
                #expect(scene.failures.first?.message.contains("needs an arbiter") == true, "\(scene.failures)")
            })
    }

    @Test func aGateThatCannotBePutThereLeavesTheGuestAlone() async throws {
        try await with(
            {
                $0.reprotection = .manual
                $0.prepare = { $0.barrier.refuse(.noDevice("tap0")) }
            },
            { scene in
                try await scene.waitUntilEnded()
                #expect(scene.failures.first?.message.contains("tap0") == true, "\(scene.failures)")
                #expect(scene.register.history.map(\.mode) == [.solo] && scene.guest.isRunningNow)
            })
    }

    /// The register says SOLO before anything starts, and the standby was sent away.
    @Test func aGuestThatDiesIsStartedHereAgain() async throws {
        try await with { scene in
            try await scene.waitUntilProtected()
            scene.guest.die()
            try await scene.wait(for: "the start") { scene.restarted != nil }
            let (guest, register) = try #require(scene.restarted)
            #expect(guest.monitorPath == "/fake/again" && scene.starter.starts == 1)
            #expect(register.mode == .solo && register.owner == FakeNodes.primary && register == scene.current)
            #expect(scene.register.history.map(\.mode) == [.solo, .paired, .solo])
            try await scene.wait(for: "the goodbye") { !scene.standby.goodbyes.isEmpty }
            #expect(scene.barrier.guests[scene.vm] == nil)
            #expect(scene.ended == nil, "another session goes on with it")
        }
    }

    /// A large QEMU that is killed gives its memory back first, and the arbiter may be faster.
    @Test func aGuestThatTakesItsTimeToDieIsStartedOnceItIsGone() async throws {
        try await with { scene in
            try await scene.waitUntilProtected()
            scene.guest.beginToDie()
            try await scene.wait(for: .restarting)
            try await Task.sleep(for: .milliseconds(300))
            #expect(scene.starter.ready == 0 && scene.register.history.count == 2 && scene.restarted == nil)
            scene.guest.die()
            try await scene.wait(for: "the start") { scene.restarted != nil }
            #expect(scene.starter.starts == 1)
        }
    }

    @Test func nothingStartsBeforeTheArbiterSaysSo() async throws {
        try await with { scene in
            try await scene.waitUntilProtected()
            scene.register.be(.isUnreachable)
            scene.guest.die()
            try await scene.wait(for: .restarting)
            try await scene.wait(for: "questions") { scene.register.asked.filter { $0.mode == .solo }.count > 1 }
            #expect(scene.starter.starts == 0 && scene.starter.ready == 1, "its QEMU stands still")
            scene.register.be(.answers)
            try await scene.wait(for: "the start") { scene.restarted != nil }
        }
    }

    @Test func anotherHostThatWonMeanwhileStartsIt() async throws {
        try await with { scene in
            try await scene.waitUntilProtected()
            scene.register.be(.isUnreachable)
            scene.guest.die()
            try await scene.wait(for: .restarting)
            var next = try #require(scene.current)
            next.term = Term(next.term.number + 1)
            (next.owner, next.mode, next.session, next.standby) = (FakeNodes.standby, .solo, .none, nil)
            scene.register.set(scene.vm, next)
            scene.register.be(.answers)
            try await scene.waitUntilEnded()
            #expect(scene.starter.starts == 0 && scene.starter.ready == 0 && scene.gaveWay?.seen == next.term)
            try await scene.wait(for: "the gate's end") { scene.barrier.guests[scene.vm] == nil }
        }
    }

    @Test func aStartThatFailsIsTriedAgain() async throws {
        try await with(
            { $0.prepare = { $0.starter.fail([SessionError(.qemu, "it does not start")]) } },
            { scene in
                try await scene.waitUntilProtected()
                scene.guest.die()
                try await scene.wait(for: "the start") { scene.restarted != nil }
                #expect(scene.starter.starts == 1 && scene.failures.map(\.message) == ["it does not start"])
                #expect(scene.standby.takeOvers.isEmpty, "the standby may not start it")
            })
    }

    /// SOLO is not asked for: the standby is told, and has all of the guest.
    @Test(arguments: [SessionError.Code.qemu, .refused]) func whatCannotBeStartedHereIsTheStandbysToStart(
        code: SessionError.Code
    ) async throws {
        try await with(
            {
                $0.prepare = { scene in
                    scene.starter.fail([SessionError(code, "its tap is gone")])
                    scene.starter.tell(starts: 3)
                    scene.standby.takeOver(.yes)
                }
            },
            { scene in
                try await scene.waitUntilProtected()
                scene.guest.die()
                try await scene.waitUntilEnded()
                #expect(scene.starter.tries == 1 && scene.starter.starts == 0 && scene.starter.ready == 0)
                #expect(scene.standby.takeOvers.map(\.starts) == [3] && scene.standby.goodbyes.isEmpty)
                #expect(scene.register.history.map(\.owner).suffix(2) == [FakeNodes.primary, FakeNodes.standby])
                #expect(scene.register.history.map(\.mode) == [.solo, .paired, .solo] && scene.gaveWay != nil)
                let told = try #require(scene.events(.handedOver).first)
                #expect(told.contains("is to start it: its tap is gone") && scene.ended == told, "\(told)")
            })
    }

    @Test func oneThatDiedTooOftenStaysDown() async throws {
        try await with(
            {
                // In the pair, and once more alone.
                $0.prepare = { $0.starter.fail([1, 2].map { _ in SessionError(.refused, "it died too often") }) }
            },
            { scene in
                try await scene.waitUntilProtected()
                scene.guest.die()
                try await scene.waitUntilEnded()
                let ended = try #require(scene.ended)
                #expect(ended.contains(" stays down: it died too often; find out why"), "\(ended)")
                #expect(scene.phase == .failed && scene.starter.tries == 2 && scene.starter.starts == 0)
                try await scene.wait(for: "the goodbye") { !scene.standby.goodbyes.isEmpty }
                #expect(scene.standby.goodbyes.map(\.staysDown) == [true], "the other host says so too")
            })
    }

    @Test func aGuestThatIsShutDownStaysDown() async throws {
        try await with { scene in
            try await scene.waitUntilProtected()
            scene.guest.tell(.shutdown("guest-shutdown"))
            try await scene.waitUntilEnded()
            #expect(scene.starter.starts == 0 && scene.ended?.contains("shut down") == true)
            #expect(scene.current?.mode == .solo)
        }
    }

    @Test func aPanicIsADeath() async throws {
        try await with { scene in
            try await scene.waitUntilProtected()
            scene.guest.tell(.shutdown("guest-panic"))
            try await scene.wait(for: "the start") { scene.restarted != nil }
        }
    }

    /// Alone, too: the monitor tells one from the other.
    @Test func aloneItIsStartedAgainAndAShutdownIsAShutdown() async throws {
        try await with(
            {
                $0.reprotection = .manual
                $0.prepare = { scene in scene.standby.answer(.refuses("no")) }
            },
            { scene in
                try await scene.wait(for: "the refusal") { scene.shell.isAlone && !scene.standby.offers.isEmpty }
                scene.guest.tell(.shutdown("host-qmp-quit"))
                try await scene.waitUntilEnded()
                #expect(scene.starter.starts == 0)
            })
    }

    @Test func aLostStandbyLeavesTheGuestAloneWithoutAGate() async throws {
        try await with(
            { $0.reprotection = .manual },
            { scene in
                try await scene.waitUntilProtected()
                scene.standby.be(reachable: false)
                scene.standby.hangUp()
                try await scene.waitUntilAlone()
                try await scene.wait(for: "the gate's end") { scene.barrier.guests[scene.vm] == nil }
                #expect(scene.register.history.map(\.mode) == [.solo, .paired, .solo] && scene.guest.mirrored == 0)
                #expect(scene.failures.isEmpty)
            })
    }

    /// It is killed behind a gate that stands until it is dead.
    @Test func aGuestThatAnotherHostWonIsKilled() async throws {
        try await with { scene in
            try await scene.waitUntilProtected()
            var next = try #require(scene.current)
            next.term = Term(next.term.number + 1)
            (next.owner, next.mode, next.session, next.standby) = (FakeNodes.standby, .solo, .none, nil)
            scene.register.set(scene.vm, next)
            scene.standby.hangUp()
            try await scene.waitUntilEnded()
            #expect(scene.starter.starts == 0 && scene.gaveWay != nil && !scene.guest.isRunningNow)
            try await scene.wait(for: "the gate's end") { scene.barrier.guests[scene.vm] == nil }
        }
    }

    @Test func unprotectTakesEverythingOut() async throws {
        try await with { scene in
            try await scene.waitUntilProtected()
            scene.shell.unprotect()
            try await scene.waitUntilEnded()
            #expect(scene.failures.isEmpty && scene.guest.isRunningNow && scene.guest.mirrored == 0)
            try await scene.wait(for: "the gate's end") { scene.barrier.guests[scene.vm] == nil }
        }
    }

    @Test func aFaultOfADiskIsTheGuests() async throws {
        try await with { scene in
            try await scene.waitUntilProtected()
            scene.guest.failDisk(DiskFault(disk: "disk0", .write, reason: "EIO"))
            try await scene.wait(for: "the event") { !scene.events(.diskFault).isEmpty }
            #expect(scene.events(.diskFault).first?.contains("at level restart") == true, "\(scene.events(.diskFault))")
            #expect(scene.guest.isRunningNow && scene.phase == .protected)
        }
    }
}
