import Foundation
import TestBed
import Testing

/// The promise itself: whatever a client saw acknowledged is there after the host is gone.
@Suite(.serialized, .timeLimit(.minutes(4))) struct FailoverTests {
    /// Twelve failovers, two in a row of each guest, under TCP, memory, disk and redis load that goes on over both, with 2 and 4
    /// vCPUs: there when QEMU alone dies (the agents take over by themselves), and back, in one half of them when QEMU dies
    /// again, in the other when the whole host is lost. Half of the guests run on the newer QEMU, most have a disk that writes
    /// into pinned memory, late; one has a card of two queues, which is held at its tap. After each failover the guest is protected again, and its memory compared with its replica's.
    @Test(arguments: 1...6) func nothingAcknowledgedIsLost(round: Int) async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.vcpus = round.isMultiple(of: 2) ? 2 : 4
            wishes.qemu = round % 4 < 2 ? .newer : .installed
            wishes.queues = round.isMultiple(of: 5) ? 2 : 1
            wishes.slowReads = round % 3 == 0 ? nil : 5
            let scene = try await Scene.make(on: bed, wishes)
            let (pair, vm) = (scene.pair, Scene.vm)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await pair.protect(scene.guest)
            try await Task.sleep(for: .milliseconds(500 + round * 137 % 900))
            let protected = try await goToTheOtherHost(scene, verifier)
            try pair.verify(bed.b, vm)
            try await Task.sleep(for: .milliseconds(500 + round * 251 % 900))
            if round % 4 < 2 {
                let qemu = try #require(protected.pid)
                kill(qemu, SIGKILL)
                try await pair.wait(bed.a, vm, for: "running", within: .seconds(60))
            } else {
                bed.b.killAll()
                try await scene.failOver(at: bed.a)
            }
            try await verifier.waitForAnswers()
            try await Task.sleep(for: .seconds(1))
            let report = try await verifier.finish()
            #expect(report.isClean, "round \(round): \(report)")
            #expect(report.bytesLost == 0)
            #expect(report.recordsLost == 0)
            #expect(report.connectionsLost == 0)
            let inside = try verifier.control.diskDigest()
            let outside = try Child.run(["sha256sum", scene.primaryDisk])
            #expect(outside.hasPrefix(inside))
        }
    }

    /// A QEMU upgrade that is rolled through a pair: the guest goes on under the newer QEMU of the other host, and back.
    @Test(arguments: GuestVM.Machine.allCases) func aGuestMovesToAnotherQEMUAndBack(machine: GuestVM.Machine)
        async throws
    {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.machine = machine
            wishes.machineVersion = "7.2"
            wishes.graphics = .std
            wishes.pair.qemus = ["a": .installed, "b": .newer]
            let scene = try await Scene.make(on: bed, wishes)
            let (pair, vm) = (scene.pair, Scene.vm)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 100))
            try await pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            let there = try await goToTheOtherHost(scene, verifier)
            let qemu = try #require(there.pid)
            let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(qemu)/exe")
            #expect(try program == QEMUProgram.newer.path())
            kill(qemu, SIGKILL)
            try await pair.wait(bed.a, vm, for: "running", within: .seconds(60))
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// The guest's QEMU dies; it goes on at host B, and is protected there with host A as its standby.
    private func goToTheOtherHost(_ scene: Scene, _ verifier: Verifier) async throws -> Pair.Status {
        let (pair, host) = (scene.pair, scene.bed.b)
        try await scene.guest.killAndWait()
        let there = try await pair.wait(host, Scene.vm, for: "running", within: .seconds(60))
        try await verifier.waitForAnswers()
        let monitor = try #require(there.qmp)
        let outcome = try pair.romulus(host, ["protect", Scene.vm, "--qmp", monitor, "--standby", "hosta"])
        #expect(outcome.status == 0, "\(outcome.errors)")
        return try await pair.wait(host, Scene.vm, for: "protected", within: .seconds(60))
    }

    struct Machine: CustomTestStringConvertible {
        var testDescription: String
        var wishes: Scene.Wishes
    }

    static let machines: [Machine] = {
        func machine(_ name: String, _ change: (inout Scene.Wishes) -> Void) -> Machine {
            var wishes = Scene.Wishes()
            change(&wishes)
            return Machine(testDescription: name, wishes: wishes)
        }
        return [
            machine("q35, newer QEMU") {
                $0.machine = .q35
                $0.qemu = .newer
            },
            machine("pc with VGA, newer QEMU") {
                $0.graphics = .std
                $0.qemu = .newer
            },
            machine("q35 with VGA, e1000, 1 vCPU") {
                $0.machine = .q35
                $0.graphics = .std
                $0.nic = .e1000
                $0.kernel = .generic
                $0.vcpus = 1
            },
            machine("RAM split around 4 GiB, 8 vCPUs") {
                $0.memoryMiB = 4608
                $0.vcpus = 8
            },
            machine("a card of four queues, 4 vCPUs") {
                $0.queues = 4
                $0.vcpus = 4
            },
            machine("qcow2 at the standby") { $0.standbyFormat = .qcow2 },
        ]
    }()

    @Test(arguments: machines) func kindsOfMachines(machine: Machine) async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed, machine.wishes)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 100))
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            bed.a.killAll()
            try await scene.failOver()
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(machine.testDescription): \(report)")
        }
    }

    @Test func aFailoverAskedForAtThePrimaryEndsTheGuestThere() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            let early = try scene.pair.romulus(bed.b, ["failover", Scene.vm, "--yes"])
            #expect(early.status == 5, "a standby whose primary is alive must refuse: \(early.errors)")
            #expect(early.errors.contains("alive"))
            let outcome = try scene.pair.romulus(bed.a, ["failover", Scene.vm, "--yes"])
            #expect(outcome.status == 0, "\(outcome.errors)")
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(30))
            #expect(!scene.guest.process.isRunning)
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")

            let told = try scene.pair.romulus(bed.b, ["why", Scene.vm])
            #expect(told.output.contains("  1  Detected at ") && told.output.contains("  2  Promoted, "), "\(told)")
            let asked = try scene.pair.romulus(bed.a, ["why", Scene.vm])
            #expect(asked.output.contains("  1  Asked for by somebody at "), "\(asked)")
            let refused = try scene.pair.romulus(bed.b, ["events", "--kind", "refused"])
            #expect(refused.output.contains("a failover was refused"), "\(refused)")
        }
    }

    @Test func aShutdownIsNotAFailure() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed)
            try await scene.pair.protect(scene.guest)
            _ = try? GuestControl(client: bed.client, address: scene.address).shell("poweroff -f", limit: .seconds(5))
            try await scene.pair.wait(bed.a, Scene.vm, for: "unprotected", within: .seconds(30))
            try await eventually("the replica is given up", within: .seconds(30)) {
                try scene.pair.status(bed.b, Scene.vm) == nil ? true : nil
            }
        }
    }

    @Test func aRebootStaysProtected() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed)
            try await scene.pair.protect(scene.guest)
            _ = try? GuestControl(client: bed.client, address: scene.address).shell("reboot -f", limit: .seconds(5))
            try await eventually("the guest is up again", within: .seconds(60)) {
                scene.guest.console.components(separatedBy: "ROMULUS-GUEST READY").count >= 3 ? true : nil
            }
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            #expect(try scene.pair.status(bed.a, Scene.vm)?.state == "protected")
            bed.a.killAll()
            try await scene.failOver()
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }
}
