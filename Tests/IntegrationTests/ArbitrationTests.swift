import Foundation
import TestBed
import Testing

/// Nobody helps: a witness on a third machine decides who goes on.
@Suite(.serialized, .timeLimit(.minutes(4))) struct ArbitrationTests {
    private func scene(_ bed: Bed, reprotects: Bool = true, queues: Int = 1) async throws -> Scene {
        var wishes = Scene.Wishes()
        wishes.queues = queues
        wishes.pair.arbiter = .witness
        wishes.pair.reprotectsByItself = reprotects
        return try await Scene.make(on: bed, wishes)
    }

    @Test func aLostHostIsReplacedWithoutHelp() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            try bed.a.cutPower()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(20))
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// The standby's host is lost: the primary holds until the witness agrees, goes on alone, and protects the guest again
    /// when the host is back.
    @Test func aLostStandbyIsReplacedWhenItReturns() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .milliseconds(500))
            bed.b.killAll()
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(20))
            try await verifier.waitForAnswers()
            try await scene.pair.start(bed.b)
            try await scene.pair.wait(bed.a, Scene.vm, for: "protected", within: .seconds(60))
            bed.a.killAll()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(20))
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// The standby's host is cut off and comes back: what it kept of the guest's memory is not sent again, and what is made of
    /// it takes over without a loss.
    @Test func aStandbyThatWasCutOffIsBroughtUpToDate() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            for link in ["repl0", "lan0"] { try bed.b.setLink(link, up: false) }
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(20))
            try await verifier.waitForAnswers()
            for link in ["repl0", "lan0"] { try bed.b.setLink(link, up: true) }
            try await scene.pair.wait(bed.a, Scene.vm, for: "protected", within: .seconds(60))
            let copies = try scene.memoryCopies()
            let (first, last) = (try #require(copies.first), try #require(copies.last))
            print("first copy: \(first); after the cut: \(last)")
            #expect(copies.count > 1 && first.present == 0)
            #expect(last.sent * 4 < first.sent && last.present > last.sent * 4, "\(first), then \(last)")
            bed.a.killAll()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(20))
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// What is kept of a replica that was given up goes when the operator says so.
    @Test func whatIsKeptOfAReplicaIsGivenUpByUnprotect() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, reprotects: false)
            try await scene.pair.protect(scene.guest)
            for link in ["repl0", "lan0"] { try bed.b.setLink(link, up: false) }
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(20))
            for link in ["repl0", "lan0"] { try bed.b.setLink(link, up: true) }
            let kept = "\(bed.b.shmDirectory)/romulus/.bases/\(Scene.vm)"
            try await eventually("the replica is given up and its memory kept", within: .seconds(30)) {
                try scene.pair.status(bed.b, Scene.vm) == nil && FileManager.default.fileExists(atPath: kept)
                    ? true : nil
            }
            let outcome = try scene.pair.romulus(bed.b, ["unprotect", Scene.vm])
            #expect(outcome.status == 0, "\(outcome.errors)")
            #expect(!FileManager.default.fileExists(atPath: kept))
            #expect(try scene.pair.romulus(bed.b, ["unprotect", Scene.vm]).status != 0)
        }
    }

    /// The whole host is frozen for longer than any timeout and goes on: it must not release anything, end its guest, and
    /// become the standby of the guest that took its place.
    @Test func aFrozenHostThatThawsGivesWayAndBecomesTheStandby() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            let frozen = bed.a.processes
            for pid in frozen { kill(pid, SIGSTOP) }
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(20))
            try await verifier.waitForAnswers()
            for pid in frozen { kill(pid, SIGCONT) }
            try await scene.pair.wait(bed.b, Scene.vm, for: "protected", within: .seconds(60))
            #expect(!scene.guest.process.isRunning, "the guest that was given up must be ended")
            #expect(try scene.pair.status(bed.a, Scene.vm)?.role == "standby")
            // Its memory was kept when it was ended.
            let copy = try #require(try scene.memoryCopies(from: bed.b).last)
            print("first copy to the host that thawed: \(copy)")
            #expect(copy.present > copy.sent, "\(copy)")
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// There and back again: the guest's second host ends it in its turn, and what was its memory there is not sent again.
    @Test(arguments: [1, 2]) func aGuestThatWasResumedGoesBackAndItsMemoryIsKept(queues: Int) async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, queues: queues)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            for (host, other) in [(bed.a, bed.b), (bed.b, bed.a)] {
                let frozen = host.processes
                for pid in frozen { kill(pid, SIGSTOP) }
                try await scene.pair.wait(other, Scene.vm, for: "running", within: .seconds(20))
                try await verifier.waitForAnswers()
                for pid in frozen { kill(pid, SIGCONT) }
                try await scene.pair.wait(other, Scene.vm, for: "protected", within: .seconds(60))
                let copy = try #require(try scene.memoryCopies(from: other).last)
                print("first copy from host \(other.name): \(copy)")
                #expect(copy.present > copy.sent, "\(copy)")
            }
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// The primary's agent is killed and comes back at once: whoever the witness names goes on, and only that one.
    @Test(arguments: [1, 2]) func anAgentThatIsRestartedFindsItsGuestOrGivesWay(queues: Int) async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, queues: queues)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            try await scene.pair.agent(bed.a)?.killAndWait()
            try await scene.pair.start(bed.a)
            try await eventually("one of the hosts protects the guest again", within: .seconds(60)) {
                let states = try bed.hosts.map { try scene.pair.status($0, Scene.vm) }
                let primaries = states.filter { $0?.role == "primary" && $0?.state == "protected" }
                return primaries.count == 1 ? true : nil
            }
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// While the witness is away the standby's QEMU has the guest and does not run it. An agent that is killed then finds it
    /// again, and goes on from it once the witness answers.
    @Test func anAgentThatIsRestartedFindsTheGuestThatItHadLoaded() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, reprotects: false)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            try await scene.pair.agent(bed.witness)?.killAndWait()
            bed.a.killAll()
            try await scene.pair.wait(bed.b, Scene.vm, for: "peer_lost", within: .seconds(20))
            try await Task.sleep(for: .seconds(1))
            try await scene.pair.agent(bed.b)?.killAndWait()
            try await scene.pair.start(bed.b)
            try await scene.pair.wait(bed.b, Scene.vm, for: "peer_lost", within: .seconds(20))
            try await scene.pair.restartArbiter()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(20))
            #expect(try scene.pair.takeOverSteps(bed.b, Scene.vm).loaded == 0, "it was loaded before")
            try await verifier.waitForAnswers()
            // After seconds of silence TCP waits as long again before it tries once more.
            try await Task.sleep(for: .seconds(8))
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// A witness that is away is seen at both hosts before it is needed, and so is its return.
    @Test func aWitnessThatIsAwayIsSeen() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            try await scene.pair.protect(scene.guest)
            try await eventually("both hosts know that it answers", within: .seconds(15)) {
                try bed.hosts.allSatisfy { try scene.pair.status($0, Scene.vm)?.arbiter?.lastAnswerMs != nil }
                    ? true : nil
            }
            #expect(try scene.pair.romulus(bed.a, ["status", "--check"]).status == 0)
            try await scene.pair.agent(bed.witness)?.killAndWait()
            for host in bed.hosts {
                try await eventually("its loss is seen at host \(host.name)", within: .seconds(15)) {
                    try scene.pair.romulus(host, ["status", "--check"]).status == 2 ? true : nil
                }
                #expect(try scene.pair.status(host, Scene.vm)?.state == "protected")
                let text = try scene.pair.romulus(host, ["status", Scene.vm]).output
                #expect(text.contains("does not answer, last answer"), "\(text)")
                let events = try scene.pair.romulus(host, ["events", "--kind", "arbiter_lost"]).output
                #expect(events.contains("nobody takes over before it does"), "\(events)")
            }
            try await scene.pair.restartArbiter()
            for host in bed.hosts {
                try await eventually("its return is seen at host \(host.name)", within: .seconds(15)) {
                    try scene.pair.romulus(host, ["status", "--check"]).status == 0 ? true : nil
                }
                let events = try scene.pair.romulus(host, ["events", "--kind", "arbiter_back"]).output
                #expect(events.contains("answers again"), "\(events)")
            }
        }
    }

    /// What the standby fails for is known at the primary, and what is told of a VM is true when it is told.
    @Test func theStandbysReasonTravels() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, reprotects: false)
            try await scene.pair.protect(scene.guest)
            kill(try #require(try scene.pair.status(bed.b, Scene.vm)?.pid), SIGKILL)
            let lost = try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(20))
            #expect(lost.lastError?.contains("hostb: the QEMU that waited for web here") == true, "\(lost)")
            try await Task.sleep(for: .seconds(2))
            #expect(try scene.pair.status(bed.a, Scene.vm)?.since == lost.since, "the state was entered once")
            kill(try #require(lost.pid), SIGKILL)
            try await eventually("the guest's end is told", within: .seconds(10)) {
                let now = try scene.pair.status(bed.a, Scene.vm)
                return now?.state == "failed" && now?.lastError?.contains("died") == true ? true : nil
            }
            #expect(try scene.pair.status(bed.a, Scene.vm)?.lastError?.contains("runs on") == false)
        }
    }

    /// A QEMU that stands still is told while it does, and its end too.
    @Test func aQEMUThatStandsStillIsSeen() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            try await scene.pair.protect(scene.guest)
            let pid = try #require(try scene.pair.status(bed.a, Scene.vm)?.pid)
            kill(pid, SIGSTOP)
            let status = try await scene.pair.wait(bed.a, Scene.vm, for: "stalled", within: .seconds(8))
            let told = try await eventually("the standby says so too", within: .seconds(8)) {
                let status = try scene.pair.status(bed.b, Scene.vm)
                return status?.state == "stalled" ? status : nil
            }
            #expect(told.role == "standby")
            kill(pid, SIGCONT)
            #expect(status.lastError == nil, "\(status.lastError ?? "")")
            let events = try scene.pair.romulus(bed.a, ["events", Scene.vm, "--kind", "stalled"]).output
            #expect(events.contains("was stopped"), "\(events)")
            try await scene.pair.wait(bed.a, Scene.vm, for: "protected", within: .seconds(8))
            try await scene.pair.wait(bed.b, Scene.vm, for: "protected", within: .seconds(8))
            let over = try scene.pair.romulus(bed.a, ["events", Scene.vm, "--kind", "stall_over"]).output
            #expect(over.contains("takes checkpoints again"), "\(over)")
        }
    }

    /// Without the witness a protected VM goes on, and a takeover waits for it.
    @Test func withoutTheWitnessNothingIsDecided() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, reprotects: false)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await scene.pair.agent(bed.witness)?.killAndWait()
            try await Task.sleep(for: .seconds(2))
            #expect(try scene.pair.status(bed.a, Scene.vm)?.state == "protected")
            bed.a.killAll()
            try await scene.pair.wait(bed.b, Scene.vm, for: "peer_lost", within: .seconds(20))
            try await Task.sleep(for: .seconds(3))
            #expect(try scene.pair.status(bed.b, Scene.vm)?.state == "peer_lost")
            try await scene.pair.restartArbiter()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(20))
            try await verifier.waitForAnswers()
            // After seconds of silence TCP waits as long again before it tries once more.
            try await Task.sleep(for: .seconds(8))
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }
}
