import Foundation
import TestBed
import Testing

/// Level `restart`: a guest that dies is started again with all that it was told to have written, and by one host only.
@Suite(.serialized, .timeLimit(.minutes(5))) struct RestartLevelTests {
    func protect(_ scene: Scene, at level: String = "restart") async throws {
        try await scene.pair.protect(scene.guest, ["--level", level])
        for host in scene.bed.hosts { #expect(try scene.pair.status(host, Scene.vm)?.level == level) }
    }

    /// A protected guest that has written for a while, and which boot of it that is.
    func writing(on bed: Bed) async throws -> (scene: Scene, verifier: Verifier, boot: String) {
        let scene = try await Scene.withWitness(on: bed)
        let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
        try await protect(scene)
        let before = try boot(of: scene)
        try await Task.sleep(for: .seconds(2))
        return (scene, verifier, before)
    }

    func control(_ scene: Scene) -> GuestControl {
        GuestControl(client: scene.bed.client, address: scene.address)
    }

    func boot(of scene: Scene) throws -> String { try #require(control(scene).boot()) }

    /// Waits until the guest answers that was booted after `old`.
    func awaitBoot(_ scene: Scene, after old: String) async throws {
        let control = control(scene)
        try await eventually("the guest is up again", within: .seconds(120)) {
            control.boot().flatMap { $0 == old ? nil : $0 }
        }
    }

    /// Waits until the VM is protected at that host by another QEMU than `old`, which is returned.
    func protected(_ scene: Scene, at host: BedHost, otherThan old: pid_t) async throws -> pid_t {
        try await eventually("\(Scene.vm) is protected again at host \(host.name)", within: .seconds(90)) {
            let status = try scene.pair.status(host, Scene.vm)
            guard status?.state == "protected", let pid = status?.pid, pid != old else { return nil }
            return pid
        }
    }

    func events(_ scene: Scene, at host: BedHost, _ kind: String) throws -> String {
        try scene.pair.romulus(host, ["events", Scene.vm, "--kind", kind]).output
    }

    // MARK: - Hosts

    @Test func theGuestOfALostHostIsBootedAtTheStandby() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            let pair = scene.pair
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await protect(scene)
            #expect(bed.b.qemus.isEmpty, "no QEMU waits at this level")
            let before = try boot(of: scene)
            try await Task.sleep(for: .seconds(2))
            try bed.a.cutPower()
            try await pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(60))
            try await awaitBoot(scene, after: before)
            try await Scene.expectClean(verifier)
            #expect(try events(scene, at: bed.b, "restarted").contains("was started here from its disk"))
            let granted = try pair.bootTime(ofFirst: "granted", at: bed.b, Scene.vm)
            let restarted = try pair.bootTime(ofFirst: "restarted", at: bed.b, Scene.vm)
            #expect(restarted - granted > 3_500_000_000, "the lease was waited for")

            for link in ["repl0", "lan0"] { try bed.a.setLink(link, up: true) }
            try await pair.start(bed.a)
            try await pair.wait(bed.b, Scene.vm, for: "protected", within: .seconds(90))
            let standby = try await eventually("host A is the standby", within: .seconds(10)) {
                try pair.status(bed.a, Scene.vm)
            }
            #expect(standby.role == "standby" && standby.level == "restart", "\(standby)")
            try scene.expectEqualDisks()
        }
    }

    /// How the host that runs the guest comes to lose the right to it, and does not know.
    enum Deposed: String, CaseIterable, CustomTestStringConvertible {
        case cutOff, agentKilled, agentFrozen
        var testDescription: String { rawValue }

        func begin(_ scene: Scene) async throws {
            switch self {
            case .cutOff: try cut(scene.bed, true)
            case .agentKilled: try await scene.pair.agent(scene.bed.a)?.killAndWait()
            case .agentFrozen: scene.pair.agent(scene.bed.a)?.kill(SIGSTOP)
            }
        }

        func end(_ scene: Scene) async throws {
            switch self {
            case .cutOff: try cut(scene.bed, false)
            case .agentKilled: try await scene.pair.start(scene.bed.a)
            case .agentFrozen: scene.pair.agent(scene.bed.a)?.kill(SIGCONT)
            }
        }

        private func cut(_ bed: Bed, _ isCut: Bool) throws {
            let others = [bed.b.replicationAddress, bed.b.lanAddress, bed.witness.lanAddress].compactMap { $0 }
            try bed.a.cutOff(from: others, isCut)
        }
    }

    /// Its guest runs on all the while, with a way to the client: the kernel alone keeps it from being heard.
    @Test(
        arguments: Deposed.allCases.map { ($0, "restart") }
            + [(.cutOff, "component"), (.agentKilled, "component")])
    func aDeposedHostIsSilentBeforeTheGuestStartsElsewhere(_ deposed: Deposed, level: String) async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            let watch = try FrameWatch("port-a", of: bed.lan, from: scene.guest.configuration.nics[0].mac)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await protect(scene, at: level)
            let before = try boot(of: scene)
            try await Task.sleep(for: .seconds(2))
            let moment = bootNanoseconds()
            try await deposed.begin(scene)
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(60))
            #expect(scene.guest.process.isRunning, "this shows nothing")
            let started = try scene.pair.bootTime(ofFirst: "restarted", at: bed.b, Scene.vm)
            try await awaitBoot(scene, after: before)
            try await Task.sleep(for: .seconds(2))
            #expect(watch.frames(from: moment, before: started) > 0, "while the lease lived it was heard")
            #expect(watch.frames(from: started) == 0, "two guests were heard")

            try await deposed.end(scene)
            try await scene.pair.wait(bed.b, Scene.vm, for: "protected", within: .seconds(90))
            #expect(!scene.guest.process.isRunning, "the guest that was given up must be ended")
            #expect(watch.frames(from: started) == 0, "it was heard as it was ended")
            try await Scene.expectClean(verifier)
            try scene.expectEqualDisks()
        }
    }

    /// Both hosts live, so the guest stays where it is; what it writes waits until the witness said that it runs alone.
    @Test func aCutLinkRestartsNoGuest() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed) { $0.pair.hasSecondPath = true }
            let pair = scene.pair
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 100))
            try await protect(scene)
            try await eventually("both hosts hear each other on both paths", within: .seconds(10)) {
                try bed.hosts.allSatisfy { host in
                    let report = try pair.status(host, Scene.vm)?.peerReport
                    return report?.link == "up" && report?.secondPath == true
                } ? true : nil
            }
            let before = try boot(of: scene)
            try await Task.sleep(for: .seconds(1))
            try bed.a.setLink("repl0", up: false)
            try await pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(20))
            try await verifier.waitForAnswers()
            try await eventually("the standby gives its images up", within: .seconds(20)) {
                try pair.status(bed.b, Scene.vm) == nil ? true : nil
            }
            try bed.a.setLink("repl0", up: true)
            try await pair.wait(bed.a, Scene.vm, for: "protected", within: .seconds(90))
            #expect(try boot(of: scene) == before)
            for host in bed.hosts { #expect(try events(scene, at: host, "restarted").isEmpty) }
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            #expect(report.ledger?.longestSilenceMs ?? 0 < 15_000, "\(report)")
            try scene.expectEqualDisks()
        }
    }

    /// The database first, although its name is not the first one's, and the other one so long after it.
    @Test func theGuestsOfALostHostAreStartedInTheirOrder() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed) { wishes in
                wishes.standbyLines = [
                    "    start_order: 20", "  zdb:", "    start_order: 10", "    start_delay_seconds: 3", "    disks:",
                    "      disk0: {path: \(bed.b.stateDirectory)/zdb.raw, format: raw}",
                ]
            }
            var database = GuestVM.Configuration()
            (database.name, database.vcpus, database.address) = ("zdb", 1, "10.78.1.11")
            database.nics = [GuestVM.NIC(tap: "tap1", mac: "52:54:00:00:01:0b")]
            database.disks = [try GuestDisk.create("\(bed.a.stateDirectory)/zdb.raw", mebibytes: 8)]
            try bed.b.addTap("tap1")
            let second = try await GuestVM.boot(on: bed.a, image: try GuestImage.build(), database)
            try await protect(scene)
            try await scene.pair.protect(second, ["--level", "restart"])
            try bed.a.cutPower()
            for vm in ["zdb", Scene.vm] { try await scene.pair.wait(bed.b, vm, for: "running", within: .seconds(60)) }
            let started = try ["zdb", Scene.vm].map { try scene.pair.bootTime(ofFirst: "restarted", at: bed.b, $0) }
            #expect(started[1] - started[0] >= 3_000_000_000, "\(started)")
            let told = try events(scene, at: bed.b, "state")
            #expect(told.contains("waits for its turn: zdb is to be started before it"), "\(told)")
        }
    }

    // MARK: - QEMU

    @Test func aGuestWhoseQEMUDiesIsBootedWhereItRan() async throws {
        try await Bed.with { bed in
            let (scene, verifier, before) = try await writing(on: bed)
            try await scene.guest.killAndWait()
            _ = try await protected(scene, at: bed.a, otherThan: scene.guest.pid)
            try await awaitBoot(scene, after: before)
            try await Scene.expectClean(verifier)
            #expect(try events(scene, at: bed.a, "restarted").contains("was started here from its disk"))
            #expect(try events(scene, at: bed.b, "restarted").isEmpty && bed.b.qemus.isEmpty)
            #expect(try scene.pair.status(bed.b, Scene.vm)?.role == "standby")
            try scene.expectEqualDisks()
        }
    }

    /// It boots again in its own QEMU, and stays protected at its level.
    @Test(arguments: ["restart", "system"]) func aGuestThatHangsIsResetByItsWatchdog(level: String) async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed) { wishes in
                wishes.kernel = .generic
                wishes.moreArguments = ["-device", "i6300esb"]
            }
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.pair.protect(scene.guest, ["--level", level])
            let before = try boot(of: scene)
            try await Task.sleep(for: .seconds(1))
            #expect(try events(scene, at: bed.a, "guest_hung").isEmpty, "a guest that feeds it is left alone")
            try control(scene).hang()
            try await awaitBoot(scene, after: before)
            try await Scene.expectClean(verifier)
            #expect(try events(scene, at: bed.a, "guest_hung").contains("QEMU's action for that is “reset”"))
            let status = try #require(try scene.pair.status(bed.a, Scene.vm))
            #expect(status.state == "protected" && status.level == level && status.pid == scene.guest.pid, "\(status)")
            #expect(try events(scene, at: bed.a, "restarted").isEmpty && events(scene, at: bed.b, "promoted").isEmpty)
        }
    }

    /// Whoever ends the guest in order is obeyed.
    @Test func aGuestThatIsQuitStaysDown() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed) { $0.hasTestMonitor = true }
            try await protect(scene)
            let monitor = try scene.testMonitor()
            defer { monitor.close() }
            _ = try? monitor.execute("quit")
            try await scene.guest.process.wait(within: .seconds(20))
            try await eventually("the images are given up", within: .seconds(20)) {
                try scene.pair.list(bed.b).isEmpty ? true : nil
            }
            try await Task.sleep(for: .seconds(8))
            #expect(bed.a.qemus.isEmpty && bed.b.qemus.isEmpty)
            for host in bed.hosts { #expect(try events(scene, at: host, "restarted").isEmpty) }
        }
    }

    // MARK: - Agents

    /// The primary's agent is killed and comes back at once: whoever the witness names goes on, and no write is lost.
    @Test func anAgentThatIsRestartedFindsItsGuestOrGivesWay() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await protect(scene)
            let before = try boot(of: scene)
            try await Task.sleep(for: .seconds(1))
            try await scene.pair.agent(bed.a)?.killAndWait()
            try await scene.pair.start(bed.a)
            let owner = try await eventually("one of the hosts protects the guest again", within: .seconds(90)) {
                let owners = try bed.hosts.filter { host in
                    let status = try scene.pair.status(host, Scene.vm)
                    return status?.role == "primary" && status?.state == "protected"
                }
                return owners.count == 1 ? owners.first : nil
            }
            if owner === bed.a {
                #expect(try boot(of: scene) == before)
                let report = try await verifier.finish()
                #expect(report.isClean, "\(report)")
            } else {
                try await awaitBoot(scene, after: before)
                try await Scene.expectClean(verifier)
            }
            try scene.expectEqualDisks()
        }
    }

    /// The same, while the standby's agent stands still and cannot take over: the guest does not notice.
    @Test func anAgentThatIsRestartedWhileNobodyTakesOverGoesOnWithItsGuest() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            let pair = scene.pair
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 100))
            try await protect(scene)
            let before = try boot(of: scene)
            try await Task.sleep(for: .seconds(1))
            let granted = try events(scene, at: bed.a, "granted")
            pair.agent(bed.b)?.kill(SIGSTOP)
            try await pair.agent(bed.a)?.killAndWait()
            try await pair.start(bed.a)
            try await eventually("host A goes on alone", within: .seconds(30)) {
                try events(scene, at: bed.a, "granted") != granted ? true : nil
            }
            pair.agent(bed.b)?.kill(SIGCONT)
            try await pair.wait(bed.a, Scene.vm, for: "protected", within: .seconds(90))
            try await verifier.waitForAnswers()
            #expect(try boot(of: scene) == before)
            for host in bed.hosts { #expect(try events(scene, at: host, "restarted").isEmpty) }
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            try scene.expectEqualDisks()
        }
    }
}
