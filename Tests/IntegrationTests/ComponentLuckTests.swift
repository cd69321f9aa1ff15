import Foundation
import TestBed
import Testing

/// Level `component` on a bad day: a disk is lost while something else is broken, too.
@Suite(.serialized, .timeLimit(.minutes(5))) struct ComponentLuckTests {
    /// Its agent died, and so did the server of its disk: it is not this agent's to end.
    @Test func aGuestWhoseServerIsGoneIsRefusedAndLeft() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.atComponent(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.protectAtComponent()
            let before = try #require(verifier.control.boot())
            try await Task.sleep(for: .seconds(1))
            scene.pair.agent(bed.b)?.kill(SIGSTOP)
            try await scene.pair.agent(bed.a)?.killAndWait()
            for pid in scene.servers() { kill(pid, SIGKILL) }
            // It knows nothing of the guest.
            try FileManager.default.removeItem(atPath: "\(bed.a.stateDirectory)/romulus")
            try await scene.pair.start(bed.a)
            let refused = try scene.pair.romulus(
                bed.a,
                [
                    "protect", Scene.vm, "--qmp", scene.guest.monitorPath, "--standby", "hostb", "--level", "component",
                    "--wait",
                ]
            )
            #expect(refused.status != 0)
            for words in ["its server is gone", "is left as it is", "romulus failover"] {
                #expect(refused.errors.contains(words), "“\(words)” is missing in: \(refused.errors)")
            }
            #expect(scene.guest.process.isRunning)
            // The way out.
            try await scene.guest.killAndWait()
            scene.pair.agent(bed.b)?.kill(SIGCONT)
            try await Scene.waitForBoot(after: before, verifier)
            try await Scene.expectClean(verifier)
        }
    }

    /// Nobody knows yet who goes on when the disk is lost, and then it is this host. The guest does not wait for ever.
    @Test func aDiskIsLostBetweenTheStandbysLossAndTheTurningBack() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.atComponent(on: bed)
            let storage = try #require(scene.storage)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.protectAtComponent()
            let before = try #require(verifier.control.boot())
            let witness = try #require(scene.pair.agent(bed.witness))
            witness.kill(SIGSTOP)
            bed.b.killAll()
            try await Task.sleep(for: .seconds(2))
            try storage.be(.eio)
            try await scene.waitUntilLost()
            #expect(try scene.events(bed.a).contains("wait until it is decided who goes on"))
            witness.kill(SIGCONT)
            try await eventually("its disk is its own again", within: .seconds(30)) {
                try scene.isServed() ? nil : true
            }
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(20))
            let events = try scene.events(bed.a)
            #expect(events.contains("waits until it is certain who goes on"), "\(events)")
            #expect(events.contains("mend the disk"), "\(events)")
            #expect(try scene.complaints().isEmpty == false, "this shows nothing")
            try storage.be(nil)
            #expect(
                try verifier.control.shell("dd if=/dev/vda of=/dev/null bs=1M count=8 iflag=direct 2>&1").contains(
                    "8+0"))
            #expect(verifier.control.boot() == before)
            _ = try? await verifier.finish()
        }
    }

    /// The host with the only whole copy is to be emptied.
    @Test func aStandbyWithTheOnlyCopySaysWhyItStays() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.atComponent(on: bed)
            let storage = try #require(scene.storage)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.protectAtComponent()
            try storage.be(.eio)
            try await scene.waitUntilLost()
            let began = ContinuousClock.now
            #expect(try scene.pair.romulus(bed.b, ["maintenance", "on"]).status == 0)
            try await eventually("the primary says why", within: .seconds(5)) {
                try scene.pair.status(bed.a, Scene.vm)?.lastError?.contains("stays it") == true ? true : nil
            }
            let status = try scene.pair.romulus(bed.b, ["maintenance"]).output
            #expect(status.contains("its guest lives by the copy here"), "\(status)")
            #expect(try scene.events(bed.b).contains("stays until its disk at hosta has rejoined"))
            #expect(try scene.events(bed.a).contains("wants to be the standby no longer, and stays it"))
            #expect(ContinuousClock.now - began < .seconds(5))
            try await verifier.waitForAnswers()

            try storage.be(nil)
            try await scene.rejoin()
            try await eventually("host B is empty", within: .seconds(15)) {
                try scene.pair.romulus(bed.b, ["maintenance"]).output.contains("empty") ? true : nil
            }
            try await verifier.waitForAnswers()
            #expect(try !scene.isServed() && scene.complaints() == "")
            try await Scene.expectClean(verifier)
        }
    }

    /// First the disk here, then the standby's: nobody has a whole copy that works, and nothing is said to be done.
    @Test func bothDisksFail() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.atComponent(on: bed) { $0.standbyCanFail = true }
            let (here, there) = (try #require(scene.storage), try #require(scene.standbyStorage))
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.protectAtComponent()
            try here.be(.eio)
            try await scene.waitUntilLost()
            try await verifier.waitForAnswers()
            try await Task.sleep(for: .seconds(1))
            try there.be(.eio)
            let status = try await scene.pair.wait(bed.a, Scene.vm, for: "frozen", within: .seconds(20))
            for words in ["as its disk failed too: give this copy up", "Input/output error"] {
                #expect(status.lastError?.contains(words) == true, "\(status.lastError ?? "")")
            }
            #expect(try scene.events(bed.a).contains("so is the standby that had it: the guest waits"))
            #expect(scene.guest.process.isRunning)
            // What the operator was told to do.
            #expect(try scene.pair.romulus(bed.a, ["give-up", Scene.vm, "--yes"]).status == 0)
            try await eventually("the guest is ended here", within: .seconds(20)) { bed.a.qemus.isEmpty ? true : nil }
            try there.be(nil)
            var configuration = scene.guest.configuration
            configuration.disks[0].path = scene.standbyDisk
            _ = try await GuestVM.boot(on: bed.b, image: try GuestImage.build(), configuration)
            try await Scene.expectClean(verifier)
        }
    }

    /// How long the link is down while the disk fails.
    enum Outage: String, CaseIterable, CustomTestStringConvertible {
        case short, lasting
        var testDescription: String { rawValue }
    }

    @Test(arguments: Outage.allCases) func aDiskFailsWhileTheLinkIsDown(_ outage: Outage) async throws {
        try await Bed.with { bed in
            let scene = try await Scene.atComponent(on: bed)
            let storage = try #require(scene.storage)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.protectAtComponent()
            let before = try #require(verifier.control.boot())
            try await Task.sleep(for: .seconds(1))
            try bed.a.setLink("repl0", up: false)
            try storage.be(.eio)
            switch outage {
            case .short:
                try await Task.sleep(for: .milliseconds(400))
                try bed.a.setLink("repl0", up: true)
                try await scene.waitUntilLost()
                try await verifier.waitForAnswers()
                #expect(try scene.complaints() == "" && verifier.control.boot() == before)
                #expect(try scene.pair.status(bed.a, Scene.vm)?.state == "protected")
                #expect(try scene.events(bed.a).contains("the guest goes on with the copy of hostb"))
                try storage.be(nil)
                try await scene.rejoin()
                try await verifier.waitForAnswers()
            case .lasting:
                try await scene.pair.wait(bed.a, Scene.vm, for: "frozen", within: .seconds(20))
                let told = try scene.pair.status(bed.a, Scene.vm)?.lastError ?? ""
                #expect(told.contains("a disk is lost here and so is the standby"), "\(told)")
                try await Scene.waitForBoot(after: before, verifier)
                try storage.be(nil)
                try bed.a.setLink("repl0", up: true)
                try await scene.pair.wait(bed.b, Scene.vm, for: "protected", as: "primary", within: .seconds(60))
            }
            try await Scene.expectClean(verifier)
        }
    }

    /// A new disk in the place of the old one: its size counts, then all of it is compared. QEMU has the old one open.
    @Test func anotherDiskRejoins() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.atComponent(on: bed) { $0.slowReads = nil }
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.protectAtComponent()
            let path = scene.primaryDisk
            try FileManager.default.moveItem(atPath: path, toPath: path + ".old")
            truncate(path + ".old", 1 << 20)
            try await scene.waitUntilLost()
            for mebibytes in [32, 128] {
                _ = try GuestDisk.create(path, mebibytes: mebibytes)
                let refused = try scene.pair.romulus(bed.a, ["rejoin", Scene.vm])
                #expect(refused.status != 0 && refused.errors.contains("\(mebibytes << 20)"), "\(refused)")
                #expect(refused.errors.contains("67108864"), "\(refused)")
            }
            _ = try GuestDisk.create(path, mebibytes: 64, content: .random(seed: 99))
            try await scene.rejoin()
            try await verifier.waitForAnswers()
            // Without its server the guest has the new disk, and not the old one.
            let outcome = try scene.pair.romulus(bed.a, ["dial", Scene.vm, "restart", "--wait", "--timeout", "60"])
            #expect(outcome.status == 0, "\(outcome)")
            try await verifier.waitForAnswers()
            try await Task.sleep(for: .seconds(1))
            #expect(try scene.complaints() == "")
            try await Scene.expectClean(verifier)
            try scene.expectEqualDisks()
        }
    }
}
