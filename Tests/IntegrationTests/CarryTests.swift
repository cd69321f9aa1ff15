import Foundation
import TestBed
import Testing

/// Level `component`: a guest whose host has lost its network is heard through the other host.
@Suite(.serialized, .timeLimit(.minutes(5))) struct CarryTests {
    private func protect(_ scene: Scene) async throws {
        try await scene.pair.protect(scene.guest, ["--level", "component"])
        #expect(try scene.pair.status(scene.bed.a, Scene.vm)?.level == "component")
        // Both hosts have looked at their uplinks.
        try await Task.sleep(for: .seconds(1))
    }

    private func events(_ scene: Scene, _ kind: String) throws -> [Substring] {
        try scene.pair.romulus(scene.bed.a, ["events", Scene.vm, "--kind", kind, "--output", "json"]).output
            .split(separator: "\n")
    }

    private func wait(for kind: String, count: Int = 1, _ scene: Scene, within limit: Duration) async throws {
        try await eventually("\(count) events \(kind)", within: limit) {
            try events(scene, kind).count >= count ? true : nil
        }
    }

    /// At which port of the LAN's switch the guest is.
    private func place(_ scene: Scene) throws -> String? {
        let table = try scene.bed.lan.run(["bridge", "fdb", "show", "br", "br-g"])
        let line = table.split(separator: "\n").first { $0.hasPrefix(scene.guest.configuration.nics[0].mac) }
        return line.map { String($0.split(separator: " ")[2]) }
    }

    /// How a host comes to have no network.
    enum Fault: String, CaseIterable, CustomTestStringConvertible {
        case unplugged, cut
        var testDescription: String { rawValue }

        func begin(_ bed: Bed) throws {
            switch self {
            case .unplugged: try bed.lan.setLink("port-a", up: false)
            case .cut: try bed.lan.run(["ip", "link", "set", "port-a", "nomaster"])
            }
        }

        func end(_ bed: Bed) throws {
            switch self {
            case .unplugged: try bed.lan.setLink("port-a", up: true)
            case .cut: try bed.lan.run(["ip", "link", "set", "port-a", "master", "br-g"])
            }
        }

        /// The longest silence of a client, in milliseconds.
        var bound: Double { self == .unplugged ? 1000 : 3000 }
    }

    @Test(arguments: Fault.allCases) func aHostWithoutANetworkIsHeardThroughTheOther(_ fault: Fault) async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            let mac = scene.guest.configuration.nics[0].mac
            let watches = try ["port-a", "port-b"].map { try FrameWatch($0, of: bed.lan, from: mac) }
            // What is heard of others in a network: they ask all for addresses.
            let noise = try bed.client.spawn([
                "bash", "-c", "while :; do echo x > /dev/udp/10.78.9.$((RANDOM % 250))/9; sleep 0.1; done",
            ])
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes(everyMs: 20))
            try await protect(scene)
            #expect(try place(scene) == "port-a")

            try fault.begin(bed)
            try await wait(for: "carried", scene, within: .seconds(20))
            try await verifier.waitForAnswers()
            let moment = bootNanoseconds()
            try await Task.sleep(for: .seconds(2))
            #expect(watches[0].frames(from: moment) == 0, "its own host's uplink has nothing of it")
            #expect(watches[1].frames(from: moment) > 20)
            #expect(try place(scene) == "port-b")
            let status = try scene.pair.romulus(bed.a, ["status", Scene.vm]).output
            #expect(status.contains("NIC net0, through hostb"), "\(status)")
            // It lives by this part.
            for level in ["restart", "system"] {
                let outcome = try scene.pair.romulus(bed.a, ["dial", Scene.vm, level, "--wait", "--timeout", "20"])
                #expect(outcome.status == 1 && outcome.errors.contains("detour is in use"), "\(outcome)")
            }

            try fault.end(bed)
            try await wait(for: "carried_home", scene, within: .seconds(30))
            try await verifier.waitForAnswers()
            let home = bootNanoseconds()
            try await Task.sleep(for: .seconds(2))
            #expect(watches[0].frames(from: home) > 20 && watches[1].frames(from: home) == 0)
            #expect(try place(scene) == "port-a")
            #expect(try scene.pair.status(bed.a, Scene.vm)?.state == "protected")
            noise.kill()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            #expect(report.longestSilenceMs < fault.bound, "\(report.echo)")
            print("longest silence of a client, \(fault.rawValue): \(Int(report.longestSilenceMs)) ms")

            let outcome = try scene.pair.romulus(bed.a, ["dial", Scene.vm, "restart", "--wait", "--timeout", "20"])
            #expect(outcome.status == 0, "\(outcome)")
            #expect(!bed.b.hasLink("rmlport0"))
        }
    }

    /// The agent of a carried guest is frozen, so the standby asks for the guest, which runs on at its old host.
    @Test func theStandbyLetsNothingOutOnceItAsksForTheGuest() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            let mac = scene.guest.configuration.nics[0].mac
            let watches = try ["port-a", "port-b"].map { try FrameWatch($0, of: bed.lan, from: mac) }
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes(everyMs: 20))
            try await protect(scene)
            try Fault.unplugged.begin(bed)
            try await wait(for: "carried", scene, within: .seconds(20))
            try await verifier.waitForAnswers()

            let moment = bootNanoseconds()
            scene.pair.agent(bed.a)?.kill(SIGSTOP)
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(60))
            #expect(scene.guest.process.isRunning, "this shows nothing")
            let granted = try scene.pair.bootTime(ofFirst: "granted", at: bed.b, Scene.vm)
            #expect(watches[1].frames(from: moment) > 0)
            #expect(watches[1].frames(from: granted, before: granted + 3_500_000_000) == 0, "two guests were heard")
            #expect(watches[0].frames(from: moment) == 0)
            #expect(!bed.b.hasLink("rmlport0"))
            // It has to ask who has the guest.
            try Fault.unplugged.end(bed)
            scene.pair.agent(bed.a)?.kill(SIGCONT)
            try await scene.pair.wait(bed.b, Scene.vm, for: "protected", as: "primary", within: .seconds(90))
            _ = try? await verifier.finish()
        }
    }

    @Test func withoutAWayThroughTheOtherHostTheLevelStays() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            try await scene.pair.protect(scene.guest, ["--level", "restart"])
            // The tap that the guest would have at the standby.
            try bed.b.run(["ip", "link", "set", "tap0", "nomaster"])
            func dial() throws -> Pair.Outcome {
                try scene.pair.romulus(bed.a, ["dial", Scene.vm, "component", "--wait", "--timeout", "20"])
            }
            let refused = try dial()
            #expect(refused.status == 1 && refused.errors.contains("at hostb: tap tap0 is in no bridge"), "\(refused)")
            #expect(try scene.pair.status(bed.a, Scene.vm)?.level == "restart")
            try bed.b.run(["ip", "link", "set", "tap0", "master", "br0"])
            let outcome = try dial()
            #expect(outcome.status == 0, "\(outcome)")
            try bed.a.run(["ip", "link", "set", "lan0", "nomaster"])
            let without = try dial()
            #expect(without.status != 0 && without.errors.contains("has no uplink"), "\(without)")
        }
    }
}
