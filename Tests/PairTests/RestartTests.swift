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

/// A standby's shell at level `restart`: what it writes, when it answers for it, and how the guest starts from its disks.
@Suite(.timeLimit(.minutes(1))) struct RestartTests {
    /// So that who takes over waits for that long, about.
    private static func leases(_ arbiter: any Arbiter, milliseconds: UInt64) throws -> Leases {
        let length = milliseconds * 1_000_000
        return try Leases(
            node: FakeNodes.standby, arbiter: arbiter,
            timing: LeaseTiming(length: length, interval: 5_000_000, margin: 1_000_000, drift: 0),
            log: Logger(label: "lease") { _ in SwiftLogNoOpLogHandler() })
    }

    private func scene(lease milliseconds: UInt64 = 50, _ body: (StandbyScene) async throws -> Void) async throws {
        try await StandbyScene.with(
            { custody, register in
                custody.leases = try Self.leases(register, milliseconds: milliseconds)
            }, body)
    }

    // MARK: - Writes

    /// That each is in the image when it is answered for, the scene looks at by itself.
    @Test func whatIsWrittenIsAnsweredFor() async throws {
        try await scene { scene in
            #expect(scene.scene.standbys.guests.isEmpty && scene.shell.status.qemuPID == 0)
            try await scene.protect()
            #expect(scene.told.events.contains("checkpoint 1 is complete: this host can take over"))
            for number in 0..<20 {
                scene.primary.write(1, from: number)
                try await scene.wait(for: "its answer") { scene.primary.taken.last == UInt64(number + 1) }
            }
            scene.primary.write(200, from: 20, byte: 9)
            try await scene.wait(for: "all answers") { scene.primary.taken.last == 220 }
            scene.primary.zero(block: 1)
            try await scene.wait(for: "its answer") { scene.primary.taken.last == 221 }
            #expect(try scene.image(0, 12288) == [7, 0, 7].flatMap { [UInt8](repeating: $0, count: 4096) })
            #expect(scene.told.failures.isEmpty)
        }
    }

    /// They begin at the cut of checkpoint 1, which ends later.
    @Test func aWriteIsTakenBeforeCheckpointOneEnds() async throws {
        try await scene { scene in
            scene.primary.write(3)
            try await scene.wait(for: "their answers") { scene.primary.taken.last == 3 }
            #expect(scene.primary.acknowledged.isEmpty)
            try await scene.protect()
        }
    }

    /// I5, I38: whoever is asked wins what the image holds, and answers for nothing more.
    @Test func nothingIsAnsweredForOnceItAsksToTakeOver() async throws {
        try await scene { scene in
            try await scene.protect()
            scene.register.be(.waits)
            // Reported once it is decided, and under the lock that every answer needs.
            scene.told.onReport { [primary = scene.primary] report in
                if case .event(.detected, _) = report { primary.endAnswers() }
            }
            // Of these, some wait for the apply thread when it is asked.
            scene.primary.write(1000)
            scene.primary.send(TakeOver(term: Term(6), guestStands: false))
            scene.primary.write(1, from: 250, byte: 99)
            try await scene.wait(for: "the question") { !scene.register.asked.isEmpty }
            try await scene.settle()
            #expect(try scene.image(250 * 4096, 4096) == [UInt8](repeating: 7, count: 4096), "it came too late")
        }
    }

    @Test func anImageThatFailsIsLostAndAnswersForNothing() async throws {
        try await scene { scene in
            try await scene.protect()
            // As storage that takes nothing any more.
            try scene.closeImages()
            scene.primary.write(5)
            try await scene.wait(for: "the end") { scene.told.ended != nil && scene.primary.isClosed }
            #expect(scene.primary.taken.isEmpty)
            #expect(scene.told.failures.first?.hasPrefix("a write cannot be applied: ") == true)
            #expect(scene.primary.goodbyes.first?.hasPrefix("a write cannot be applied: ") == true)
            #expect(scene.shell.status.phase == .ended)
        }
    }

    // MARK: - What has no place

    enum Wrong: String, CaseIterable {
        case pages, pagesOfTheFirstCopy, deviceState, output, epochOne, epochThree, sequence, lateCopy, otherDisk
        case beyond, secondCheckpoint, fullCheckpoint, handOver

        func send(_ end: OtherEnd) {
            switch self {
            case .pages: Self.send(.pages, 2, end)
            case .pagesOfTheFirstCopy: Self.send(.pages, 0, end)
            case .deviceState: Self.send(.deviceState, 2, end)
            case .output: Self.send(.output, 2, end)
            case .epochOne: end.send(Self.zero(), epoch: 1)
            case .epochThree: end.send(Self.zero(), epoch: 3)
            case .sequence: Self.send(.diskZero, 2, sequence: 1, end)
            case .lateCopy:
                end.write(1)
                end.send(Self.zero())
            case .otherDisk: end.send(Self.zero(disk: 1), epoch: 2)
            case .beyond: end.send(Self.zero(length: 2 << 20), epoch: 2)
            case .secondCheckpoint: end.endCheckpoint(2)
            case .fullCheckpoint:
                end.endCheckpoint(sections: [CheckpointEnd.Section(type: .diskWrite, frames: 1, bytes: 4144)])
            case .handOver: end.send(TakeOver(term: Term(6), guestStands: true))
            }
        }

        private static func zero(disk: UInt16 = 0, length: UInt64 = 4096) -> DiskZero {
            DiskZero(disk: disk, mayUnmap: false, offset: 0, length: length)
        }

        /// A frame without a body.
        private static func send(_ type: FrameType, _ epoch: UInt64, sequence: UInt32 = 0, _ end: OtherEnd) {
            end.send(FrameHeader(type: type, length: 0, epoch: epoch, sequence: sequence, bodyCRC: 0))
        }
    }

    @Test(arguments: Wrong.allCases) func whatHasNoPlaceBreaksTheProtocol(_ wrong: Wrong) async throws {
        try await scene { scene in
            wrong.send(scene.primary)
            try await scene.wait(for: "the end") { scene.told.ended != nil && scene.primary.isClosed }
            #expect(scene.told.failures.count == 1 && scene.primary.goodbyes == scene.told.failures)
        }
    }

    /// A primary that does wrong costs the session and not the image.
    @Test func anImageOutlivesAPrimaryThatDoesWrong() async throws {
        try await scene { scene in
            try await scene.protect()
            Wrong.pages.send(scene.primary)
            try await scene.wait(for: "the start") { scene.told.takeOvers.count == 1 }
        }
    }

    @Test func pagesAreNotDigested() async throws {
        try await scene { scene in
            scene.primary.send(PageDigests(block: 0, first: 0, count: 1))
            try await scene.wait(for: "the end") { scene.told.ended != nil }
            #expect(scene.told.failures == ["digests of pages were asked for in a session that has disks only"])
        }
    }

    // MARK: - Taking over

    @Test func theGuestStartsFromItsDisksOnceTheLeaseIsOver() async throws {
        try await scene { scene in
            try await scene.protect()
            scene.primary.write(4)
            try await scene.wait(for: "the answers") { scene.primary.taken.last == 4 }
            scene.primary.hangUp()
            try await scene.wait(for: "the start") { scene.shell.status.phase == .running }
            let guests = scene.scene.standbys.guests
            #expect(guests.map(\.deeds) == [[.run, .forgetSharing, .close]])
            #expect(scene.scene.standbys.memoryAtBoot == [ReplicaScene.ramBytes] && scene.scene.imageIsFree)
            let report = try #require(scene.told.takeOvers.first)
            #expect(report.isStarted && !report.isBooted && report.qemuPID == guests.first?.pid)
            #expect(scene.register.current(StandbyScene.vm)?.owner == FakeNodes.standby)
            #expect(scene.told.failures.isEmpty)
        }
    }

    /// I26: the arbiter confirmed this host's own lease over and over.
    @Test func itDoesNotStartWhileTheOtherMayRun() async throws {
        try await scene(lease: 1 << 32) { scene in
            try await scene.protect()
            scene.primary.hangUp()
            try await scene.wait(for: "the term") {
                scene.register.current(StandbyScene.vm)?.owner == FakeNodes.standby
            }
            let readings = scene.register.readings
            try await scene.wait(for: "confirmations") { scene.register.readings > readings + 5 }
            #expect(scene.scene.standbys.guests.isEmpty && scene.shell.status.phase == .failingOver)
        }
    }

    @Test func aStartThatFailsIsTriedAgainWhenItIsAskedFor() async throws {
        try await scene { scene in
            try await scene.protect()
            scene.scene.standbys.failing = [.boot]
            scene.primary.hangUp()
            try await scene.wait(for: "the failure") { scene.shell.status.phase == .failed }
            let words = "web cannot be started from its disks, which stay as they are: the fake refuses to boot"
            #expect(scene.told.failures == [words] && scene.shell.status.lastError == words)
            #expect(!scene.scene.exists("ram.memory") && scene.scene.exists("manifest.json"))
            scene.scene.standbys.failing = []
            let report = try await takeOver(scene.shell).get()
            #expect(report.isStarted && scene.scene.standbys.memoryAtBoot == [ReplicaScene.ramBytes])
        }
    }

    private func takeOver(_ shell: StandbyShell) async -> Result<TakeOverReport, SessionError> {
        await withCheckedContinuation { done in
            shell.takeOver(reason: "it burnt") { done.resume(returning: $0) }
        }
    }

    // MARK: - The lease

    @Test func itPromisesUntilItAsksToTakeOver() async throws {
        try await scene { scene in
            try await scene.protect()
            scene.primary.send(PromiseAsked(question: 41, term: Term(5)))
            try await scene.wait(for: "the promise") { scene.primary.promises == [41] }
            scene.primary.send(PromiseAsked(question: 42, term: Term(4)))
            scene.register.be(.waits)
            scene.primary.send(TakeOver(term: Term(6), guestStands: false))
            for question in 43..<63 { scene.primary.send(PromiseAsked(question: UInt64(question), term: Term(5))) }
            try await scene.settle()
            #expect(scene.primary.promises == [41])
        }
    }

    @Test func withoutAnArbiterNothingWaitsForALease() throws {
        var custody = StandbyScene.custody(FakeRegister())
        #expect(custody.reasonToRefuse(.system) == nil)
        #expect(custody.reasonToRefuse(.restart)?.hasPrefix("beta has no arbiter") == true)
        custody.leases = try Self.leases(FakeRegister(), milliseconds: 50)
        #expect(custody.reasonToRefuse(.restart) == nil)
    }

    // MARK: - A restart of the agent

    @Test func aReplicaOfDisksIsTakenUpAgain() async throws {
        let scene = try ReplicaScene()
        scene.offer.session.level = .restart
        (scene.offer.blocks, scene.offer.nics) = ([], [])
        let first = try scene.make()
        try first.noteApplied(Epoch(1), deviceState: [])
        for disk in first.disks { try disk.image.close() }
        let (register, told) = (FakeRegister(), StandbyScene.Told())
        register.set(
            scene.offer.vm,
            Register(
                term: Term(5), owner: FakeNodes.primary, mode: .paired, session: scene.offer.session.session,
                standby: ReplicaScene.identity, lineage: scene.offer.session.lineage, level: .restart))
        var custody = StandbyScene.custody(register)
        custody.leases = try Self.leases(register, milliseconds: 50)
        let shell = try StandbyShell(
            replica: try scene.recover(), machine: nil, custody: custody, link: nil, heartbeatMilliseconds: 50,
            diskTimeoutMilliseconds: 5000, secondPath: nil, log: scene.log, report: { told.note($0) })
        #expect(shell.status.phase == .peerLost && shell.status.applied == Epoch(1) && !scene.imageIsFree)
        #expect(try await takeOver(shell).get().isStarted)
        // Nothing was to be loaded, also before the register was read.
        #expect(told.failures.isEmpty)
        #expect(Replica.resumed(in: scene.memoryDirectory) != nil || scene.bases.lent == [scene.offer.vm])
    }
}
