import Fakes
import Foundation
import Leases
import Logging
import Messages
import Model
import Pair
import Protocol
import Registers
import Standby
import Testing
import Wire

/// A standby's shell while the dial is turned: memory comes and goes, writes go through, by epochs, and through again.
@Suite(.timeLimit(.minutes(1))) struct AttachedMemoryTests {
    private func scene(at level: Level = .restart, _ body: (StandbyScene) async throws -> Void) async throws {
        try await StandbyScene.with(
            at: level,
            { custody, register in
                custody.leases = try Self.leases(register)
            }, body)
    }

    private static func leases(_ arbiter: any Arbiter) throws -> Leases {
        try Leases(
            node: FakeNodes.standby, arbiter: arbiter,
            timing: LeaseTiming(length: 50_000_000, interval: 5_000_000, margin: 1_000_000, drift: 0),
            log: Logger(label: "lease") { _ in SwiftLogNoOpLogHandler() })
    }

    private func blocks(_ bytes: UInt8...) -> [UInt8] { bytes.flatMap { [UInt8](repeating: $0, count: 4096) } }

    /// Up, until checkpoint `epoch` is acknowledged: the first one whose output is held.
    private func rise(_ scene: StandbyScene, _ sent: SentCheckpoints, _ epoch: UInt64) async throws {
        let answer = try await scene.attachMemory()
        #expect(answer.refusal == nil && answer.qemuPID == scene.shell.status.qemuPID && answer.qemuPID > 0)
        #expect(answer.part == .memory && answer.baseBytes == 0)
        sent.beginMemory()
        try sent.page(0, byte: 1)
        sent.endCopy()
        try sent.page(1, byte: UInt8(epoch), epoch: epoch)
        try sent.end(epoch, state: [UInt8(epoch), 1])
        try await scene.wait(for: "acknowledgement \(epoch)") { scene.primary.acknowledged.last == epoch }
    }

    private func sent(_ scene: StandbyScene, after epoch: UInt64) async throws {
        try await scene.wait(for: "acknowledgement \(epoch)") { scene.primary.acknowledged.last == epoch }
    }

    /// Checkpoint 1 is acknowledged, and the register is turned down.
    private func leave(_ scene: StandbyScene) async throws -> SentCheckpoints {
        let sent = try SentCheckpoints(scene.primary)
        try sent.page(0, byte: 1)
        sent.endCopy()
        try sent.end(1, state: [1])
        try await self.sent(scene, after: 1)
        scene.turn(to: .restart)
        return sent
    }

    /// All of the way up and down, twice. What is answered for is in the image then, which the scene looks at by itself.
    @Test func theDialIsTurnedUpAndDownTwice() async throws {
        try await scene { scene in
            let sent = try SentCheckpoints(scene.primary)
            try await scene.protect()
            scene.primary.write(1, from: 0, byte: 1)
            try await scene.wait(for: "an answer") { scene.primary.taken.last == 1 }
            for round in 0..<2 as Range<UInt64> {
                let first = 2 + 3 * round
                // It goes through while memory comes.
                scene.primary.write(1, from: 1, byte: 2, epoch: first)
                try await rise(scene, sent, first)
                #expect(scene.primary.taken.last == 2 + 2 * round)
                scene.turn(to: .system)
                try sent.write(block: 2, byte: UInt8(first), epoch: first + 1)
                try await scene.settle()
                #expect(try scene.image(8192, 4096) == blocks(round == 0 ? 0 : 2), "it is staged")
                try sent.end(first + 1, state: [3, 3])
                try await self.sent(scene, after: first + 1)
                try await scene.settle()
                #expect(try scene.image(0, 12288) == blocks(1, 2, UInt8(first)))

                scene.turn(to: .restart)
                scene.primary.send(Through(), epoch: first + 3)
                try sent.end(first + 2, state: [4])
                try await self.sent(scene, after: first + 2)
                scene.primary.send(DetachMessage(.memory).frame)
                scene.primary.write(1, from: 0, byte: 1, epoch: first + 3)
                try await scene.wait(for: "an answer") { scene.primary.taken.last == 3 + 2 * round }
                let files = try FileManager.default.contentsOfDirectory(atPath: scene.scene.memoryDirectory).sorted()
                #expect(files == ["device-state", "manifest.json"] && scene.shell.status.qemuPID == 0)
                let guests = scene.scene.standbys.guests
                #expect(guests.count == Int(round) + 1 && guests.allSatisfy { $0.ending != nil })
                #expect(scene.shell.status.stagedBytes == 0)
            }
            #expect(scene.primary.acknowledged == [1, 2, 3, 4, 5, 6, 7] && scene.told.failures.isEmpty)
        }
    }

    /// What the last checkpoint wrote must not come after it.
    @Test func aWriteWaitsForTheCheckpointBeforeIt() async throws {
        try await scene(at: .system) { scene in
            let sent = try await self.leave(scene)
            try sent.write(block: 3, byte: 10, epoch: 2)
            try sent.write(block: 4, byte: 10, epoch: 2)
            scene.primary.send(Through(), epoch: 3)
            scene.primary.write(1, from: 3, byte: 11, epoch: 3)
            try await scene.settle()
            #expect(scene.primary.taken.isEmpty)
            #expect(try scene.image(3 * 4096, 8192) == blocks(0, 0))
            scene.primary.write(1, from: 5, byte: 12, epoch: 3)
            try sent.end(2, state: [2])
            try await scene.wait(for: "the answers") { scene.primary.taken.last == 2 }
            #expect(scene.primary.acknowledged == [1, 2])
            #expect(try scene.image(3 * 4096, 3 * 4096) == blocks(11, 10, 12))
            scene.primary.write(1, from: 4, byte: 13, epoch: 3)
            try await scene.wait(for: "an answer at once") { scene.primary.taken.last == 3 }
        }
    }

    /// They were never answered for, and what is to be there before them never came whole.
    @Test func whatIsHeldBackWhenItTakesOverIsForgotten() async throws {
        try await scene(at: .system) { scene in
            let sent = try await self.leave(scene)
            try sent.write(block: 3, byte: 10, epoch: 2)
            scene.primary.send(Through(), epoch: 3)
            scene.primary.write(1, from: 4, byte: 11, epoch: 3)
            try await scene.settle()
            scene.primary.hangUp()
            try await scene.wait(for: "the start") { scene.shell.status.phase == .running }
            #expect(try scene.image(3 * 4096, 8192) == blocks(0, 0) && scene.primary.taken.isEmpty)
            #expect(scene.told.takeOvers.map(\.isStarted) == [true] && scene.scene.standbys.memoryWasFresh)
        }
    }

    @Test func whatHasNoRoomIsRefusedAndTheDisksGoOn() async throws {
        try await scene { scene in
            let sent = try SentCheckpoints(scene.primary)
            try await scene.protect()
            scene.scene.standbys.failing = [.start]
            let answer = try await scene.attachMemory()
            #expect(answer.refusal == "the fake refuses to start" && answer.qemuPID == 0)
            scene.primary.send(DetachMessage(.memory).frame)
            scene.primary.write(1)
            try await scene.wait(for: "an answer") { scene.primary.taken.last == 1 }
            #expect(!scene.scene.exists("ram.memory") && !scene.scene.exists("slot-0"))
            scene.scene.standbys.failing = []
            try await rise(scene, sent, 2)
            #expect(scene.told.failures.isEmpty)
        }
    }

    /// The primary does not wait any longer. Whether it was made by then or not, there is none.
    @Test func whatIsTakenBackIsNotThere() async throws {
        try await scene { scene in
            try await scene.protect()
            scene.askForMemory()
            scene.primary.send(DetachMessage(.memory).frame)
            try await scene.settle()
            #expect(!scene.scene.exists("ram.memory") && scene.shell.status.qemuPID == 0)
            #expect(scene.scene.standbys.guests.allSatisfy { $0.ending != nil })
            try await rise(scene, try SentCheckpoints(scene.primary), 2)
        }
    }

    // MARK: - Taking over

    @Test func theGuestStartsFromItsDisksWhileItsMemoryComes() async throws {
        try await scene { scene in
            let sent = try SentCheckpoints(scene.primary)
            try await scene.protect()
            #expect(try await scene.attachMemory().refusal == nil)
            try sent.page(0, byte: 1)
            scene.primary.write(1)
            try await scene.wait(for: "an answer") { scene.primary.taken.last == 1 }
            scene.primary.hangUp()
            try await scene.wait(for: "the start") { scene.shell.status.phase == .running }
            try expectStart(of: scene)
            #expect(try scene.image(0, 4096) == blocks(7))
        }
    }

    /// The register does not name the level yet, whose parts are all there.
    @Test func theGuestStartsFromItsDisksUntilTheRegisterSaysSystem() async throws {
        try await scene { scene in
            let sent = try SentCheckpoints(scene.primary)
            try await scene.protect()
            try await rise(scene, sent, 2)
            try sent.write(block: 8, byte: 9, epoch: 3)
            try sent.output([1, 2], epoch: 3)
            try sent.end(3, state: [3])
            try await self.sent(scene, after: 3)
            // Never whole.
            try sent.write(block: 9, byte: 9, epoch: 4)
            try await scene.settle()
            scene.primary.hangUp()
            try await scene.wait(for: "the start") { scene.shell.status.phase == .running }
            try expectStart(of: scene)
            #expect(try scene.image(8 * 4096, 8192) == blocks(9, 0))
        }
    }

    private func expectStart(of scene: StandbyScene) throws {
        let standbys = scene.scene.standbys
        #expect(standbys.runningAtBoot == 0 && standbys.memoryWasFresh)
        #expect(standbys.memoryAtBoot == [ReplicaScene.ramBytes] && standbys.guests.count == 2)
        let report = try #require(scene.told.takeOvers.first)
        #expect(report.isStarted && !report.isBooted && report.qemuPID == standbys.guests[1].pid)
        #expect(!standbys.guests[0].deeds.contains(.run) && scene.told.failures.isEmpty)
    }

    @Test func theGuestGoesOnFromItsMemoryOnceTheRegisterSaysSystem() async throws {
        try await scene { scene in
            let sent = try SentCheckpoints(scene.primary)
            try await scene.protect()
            try await rise(scene, sent, 2)
            scene.turn(to: .system)
            try sent.page(2, of: 1, byte: 5, epoch: 3)
            try sent.write(block: 8, byte: 9, epoch: 3)
            try sent.output([1, 2], epoch: 3)
            try sent.end(3, state: [6, 6])
            try sent.output([3], epoch: 4)
            try await self.sent(scene, after: 3)
            try await scene.settle()
            scene.primary.hangUp()
            try await scene.wait(for: "the guest") { scene.shell.status.phase == .running }
            var video = [UInt8](repeating: 0, count: Int(ReplicaScene.videoBytes))
            video.replaceSubrange(8192..<12288, with: blocks(5))
            let guests = scene.scene.standbys.guests
            #expect(guests.count == 1)
            #expect(
                guests.first?.deeds.prefix(3) == [
                    .load([1: video], state: [6, 6]), .send(nic: "nic0", [0, 0, 0, 2, 1, 2]), .run,
                ])
            #expect(try scene.image(8 * 4096, 4096) == blocks(9))
            let report = try #require(scene.told.takeOvers.first)
            #expect(!report.isStarted && !report.isBooted && report.epoch == Epoch(3))
        }
    }

    // MARK: - QEMU

    @Test func aQEMUThatEndsWhileItWaitsEndsTheSession() async throws {
        try await scene { scene in
            try await scene.protect()
            for _ in 0..<2 {
                #expect(try await scene.attachMemory().refusal == nil)
                scene.primary.send(DetachMessage(.memory).frame)
            }
            #expect(try await scene.attachMemory().refusal == nil)
            scene.scene.standbys.guests.last?.end(by: 11)
            try await scene.wait(for: "the end") { scene.told.ended != nil && scene.primary.isClosed }
            let words = "the QEMU that waited for web here was ended by signal 11"
            #expect(scene.primary.goodbyes.first?.hasPrefix(words) == true)
        }
    }

    /// Nothing that is started from disks needs one.
    @Test(arguments: [Level.restart, .system])
    func aQEMUThatEndsOnceThePrimaryIsLostIsMissedOnlyWhereItHasTheMemory(_ level: Level) throws {
        var machine = StandbyMachine(node: FakeNodes.standby, rule: .arbiter, record: LocalRecord(), seed: 1)
        let session = SessionID(7)
        _ = machine.handle(
            .offered(
                SessionOffer(
                    session: session, term: Term(1), lineage: Lineage(9), level: level, primary: FakeNodes.primary)))
        _ = machine.handle(.persisted(machine.record.seen))
        _ = machine.handle(.prepared(session))
        var duty = StandbyDuty(
            machine, of: StandbyScene.vm, arbiter: "witness", ceiling: 500, isLinked: true, applied: machine.applied)
        _ = duty.handle(.staged(session, Epoch(1)))
        _ = duty.apply(Epoch(1))
        _ = duty.loseLink("silent", at: 0, hostLives: false)
        #expect(duty.machine.state == .arbitrating)
        #expect(duty.loseQEMU("died").isEmpty == (level == .restart))
        #expect((duty.machine.state == .arbitrating) == (level == .restart))
    }

    // MARK: - A restart of the agent

    /// What is there does not tell what is to be done with it.
    @Test(arguments: [Level.restart, .system])
    func theRegisterDecidesWhatBecomesOfAReplicaThatIsTakenUp(_ level: Level) async throws {
        let scene = try ReplicaScene()
        let (blocks, nics) = (scene.offer.blocks, scene.offer.nics)
        scene.offer.session.level = .restart
        (scene.offer.blocks, scene.offer.nics) = ([], [])
        let first = try scene.make()
        try first.attachMemory(blocks, nics)
        first.memory?.target(0)?[5] = 5
        try first.noteApplied(Epoch(2), deviceState: [9])
        for disk in first.disks { try disk.image.close() }
        // What a fake had of it does not live on.
        scene.standbys.guests.last?.end(by: 9)
        let (register, told) = (FakeRegister(), StandbyScene.Told())
        register.set(
            scene.offer.vm,
            Register(
                term: Term(5), owner: FakeNodes.primary, mode: .paired, session: scene.offer.session.session,
                standby: ReplicaScene.identity, lineage: scene.offer.session.lineage, level: level))
        var custody = StandbyScene.custody(register)
        custody.leases = try Self.leases(register)
        let shell = try StandbyShell(
            replica: try scene.recover(), machine: nil, custody: custody, link: nil, heartbeatMilliseconds: 50,
            diskTimeoutMilliseconds: 5000, secondPath: nil, log: scene.log, report: { told.note($0) })
        #expect(shell.status.qemuPID == 4000 && shell.status.applied == Epoch(2))
        let report = try await withCheckedContinuation { done in
            shell.takeOver(reason: "it burnt") { done.resume(returning: $0) }
        }.get()
        #expect(report.isStarted == (level == .restart) && !report.isBooted && told.failures.isEmpty)
        let guests = scene.standbys.guests.dropFirst()
        #expect(guests.count == (level == .restart ? 2 : 1) && guests.last?.deeds.contains(.run) == true)
        #expect(guests.first?.deeds.contains { if case .load = $0 { true } else { false } } == (level == .system))
        #expect(scene.standbys.memoryWasFresh && scene.standbys.runningAtBoot == 0)
    }

    // MARK: - What has no place

    enum Wrong: String, CaseIterable {
        case secondAttach, earlyThrough, earlierWrite, lateCopy, sequence, pagesAfterDetach, stagedAfterDetach
        case detachWhileStaged, handOver, otherPage

        func send(_ end: OtherEnd, _ sent: SentCheckpoints) throws {
            switch self {
            case .secondAttach: end.send(AttachMessage(.memory, blocks: [], nics: []).frame)
            case .earlyThrough: end.send(Through(), epoch: 3)
            case .earlierWrite: try sent.write(block: 0, byte: 1, epoch: 1)
            case .lateCopy:
                end.write(1)
                try sent.write(block: 0, byte: 1, epoch: 0)
            case .sequence:
                end.send(FrameHeader(type: .diskZero, length: 0, epoch: 2, sequence: 1, bodyCRC: 0))
            case .pagesAfterDetach:
                end.send(DetachMessage(.memory).frame)
                try sent.page(0, byte: 1)
            case .stagedAfterDetach:
                end.send(DetachMessage(.memory).frame)
                try sent.write(block: 0, byte: 1, epoch: 3)
            case .detachWhileStaged:
                try sent.write(block: 0, byte: 1, epoch: 3)
                end.send(DetachMessage(.memory).frame)
            case .handOver: end.send(TakeOver(term: Term(6), guestStands: true))
            case .otherPage: try sent.page(0, of: 7, byte: 1)
            }
        }
    }

    /// It costs the session and not the disks.
    @Test(arguments: Wrong.allCases) func whatHasNoPlaceBreaksTheProtocol(_ wrong: Wrong) async throws {
        try await scene { scene in
            let sent = try SentCheckpoints(scene.primary)
            try await scene.protect()
            try await rise(scene, sent, 2)
            try wrong.send(scene.primary, sent)
            try await scene.wait(for: "the start") { scene.shell.status.phase == .running }
            try await scene.wait(for: "the goodbye") { scene.primary.goodbyes == scene.told.failures }
            #expect(scene.told.failures.count == 1)
            #expect(scene.scene.standbys.memoryWasFresh && scene.told.takeOvers.map(\.isStarted) == [true])
        }
    }
}
