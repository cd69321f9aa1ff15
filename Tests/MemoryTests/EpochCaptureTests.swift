import Fakes
import Hypervisor
import LinuxSystem
import Memory
import Model
import Testing

/// A capture of a fake guest, and what it has copied so far.
private final class Rig {
    let guest: FakeGuest
    let capture: EpochCapture
    var slab: Slab
    var timings = EpochTimings()
    /// What a standby would have.
    var image: [UInt8]
    /// Pages of each slab that was exchanged.
    var exchanged: [Int] = []

    init(pages: Int = 32, mayPinMemory: Bool = true, isExact: Bool = true) throws {
        guest = try FakeGuest(pages: pages, mayPinMemory: mayPinMemory)
        capture = EpochCapture(
            of: guest, try guest.followMemory(purpose: "protected", isHelped: false), purpose: "protected",
            isExact: isExact)
        slab = try Slab()
        image = [UInt8](repeating: 0, count: pages * pageSize)
    }

    deinit { guest.end() }

    /// Takes over what the slab holds, in its order.
    func take(_ slab: Slab) {
        var position = 0
        for run in slab.runs.runs {
            let count = Int(run.count) * pageSize
            image.replaceSubrange(
                Int(run.first) * pageSize..<Int(run.first) * pageSize + count,
                with: slab.pages[position..<position + count])
            position += count
        }
        slab.reset()
    }

    func exchange(_ full: Slab) -> Slab {
        exchanged.append(full.runs.pages)
        take(full)
        return full
    }

    func copyWritten(while disks: EpochCapture.Disks) throws(SessionError) {
        try capture.copyWritten(while: disks, into: &slab, &timings) { [self] in exchange($0) }
    }

    func standStill(mayRunOn: Bool = true) throws(SessionError) {
        try capture.standStill(mayRunOn: mayRunOn, into: &slab, &timings) { [self] in exchange($0) }
    }

    /// A whole checkpoint.
    func checkpoint() throws(SessionError) {
        try standStill()
        take(slab)
        try guest.release()
        try guest.resume()
    }

    /// Its first checkpoint is made; from here on one command can make them.
    func begin(inOne: Bool = true) throws(SessionError) {
        _ = try capture.protectMemory()
        try checkpoint()
        guest.saveInOne(inOne)
        guest.forgetCalls()
        timings = EpochTimings()
    }

    func byte(_ page: Int) -> UInt8 { image[page * pageSize] }
}

@Suite struct EpochCaptureTests {
    /// The code of the error with which `body` failed.
    private func code(_ body: () throws(SessionError) -> Void) -> SessionError.Code? {
        do throws(SessionError) {
            try body()
            return nil
        } catch {
            return error.code
        }
    }

    @Test func whatWasEverTouchedIsReported() throws {
        let rig = try Rig()
        for page in [3, 4, 9] { rig.guest.write(page, 1) }
        let runs = try rig.capture.protectMemory()
        #expect(runs.map(\.first) == [3, 9] && runs.map(\.count) == [2, 1])
    }

    @Test(arguments: [true, false], [true, false])
    func disksEndWhatTheyHaveBegunWhereThatMatters(mayPin: Bool, isExact: Bool) throws {
        let rig = try Rig(mayPinMemory: mayPin, isExact: isExact)
        _ = try rig.capture.protectMemory()
        #expect(rig.guest.count(of: .drain) == (mayPin && isExact ? 1 : 0))
    }

    @Test func whatIsWrittenAfterTheProtectionIsFoundOnce() throws {
        let rig = try Rig()
        rig.guest.write(1, 1)
        _ = try rig.capture.protectMemory()
        rig.guest.write(2, 2)
        rig.guest.write(7, 7)
        try rig.copyWritten(while: .rest)
        #expect(rig.slab.runs.pages == 2)
        rig.take(rig.slab)
        #expect(rig.byte(2) == 2 && rig.byte(7) == 7 && rig.byte(1) == 0)
        try rig.copyWritten(while: .rest)
        #expect(rig.slab.runs.pages == 0)
        #expect(rig.timings.dirtyPages == 2)
    }

    /// I35: the page counts as written when the disk begins, and holds what was read only after the drain.
    @Test func aReadInFlightIsCopiedAfterTheDrain() throws {
        let rig = try Rig()
        _ = try rig.capture.protectMemory()
        rig.guest.beginRead(5, 55)
        rig.guest.forgetCalls()
        try rig.copyWritten(while: .work)
        #expect(rig.guest.calls == [.scan, .drain, .copy])
        rig.take(rig.slab)
        #expect(rig.byte(5) == 55)
    }

    @Test func disksThatRestAreNotDrained() throws {
        let rig = try Rig()
        _ = try rig.capture.protectMemory()
        rig.guest.write(1, 1)
        rig.guest.forgetCalls()
        try rig.copyWritten(while: .rest)
        #expect(rig.guest.calls == [.scan, .copy])
    }

    @Test(arguments: [EpochCapture.Disks.rest, .work]) func aFullSlabIsExchanged(_ disks: EpochCapture.Disks) throws {
        let rig = try Rig()
        _ = try rig.capture.protectMemory()
        for page in 0..<10 { rig.guest.write(page * 2, UInt8(page + 1)) }
        rig.guest.limitScans(to: 3)
        try rig.copyWritten(while: disks)
        #expect(rig.exchanged == [3, 3, 3])
        #expect(rig.slab.runs.pages == 1)
        rig.take(rig.slab)
        #expect(rig.image == rig.guest.memory)
    }

    /// I35: what is found while the disks drain is copied once they have, into as many slabs as it takes.
    @Test(arguments: [true, false]) func whatIsFoundWhileDisksDrainIsCopiedWhenTheyHave(mayPin: Bool) throws {
        let rig = try Rig(mayPinMemory: mayPin)
        try rig.begin()
        for page in 0..<10 { rig.guest.write(page, 1) }
        rig.guest.beginRead(3, 9)
        rig.guest.limitScans(to: 4)
        try rig.guest.stopAndSaveInOne()
        try rig.copyWritten(while: .drain)
        #expect(rig.exchanged == [4, 4])
        rig.take(rig.slab)
        rig.guest.endReads()
        #expect((rig.image == rig.guest.memory) == mayPin)
    }

    // MARK: - Standing still

    @Test func severalCommandsInTheirOrder() throws {
        let rig = try Rig()
        try rig.begin(inOne: false)
        rig.guest.write(1, 1)
        try rig.standStill()
        #expect(
            rig.guest.calls == [
                .canSaveInOne, .stopAndSave, .scan, .copy, .finishSave, .wasResumedByOthers,
            ])
    }

    @Test func oneCommandInItsOrder() throws {
        let rig = try Rig()
        try rig.begin()
        rig.guest.write(1, 1)
        try rig.standStill()
        // Looked through while the disks drain, copied when they have; then what was written meanwhile.
        #expect(
            rig.guest.calls == [
                .canSaveInOne, .stopAndSaveInOne, .scan, .awaitDrained, .copy, .awaitSaved, .scan, .copy,
            ])
    }

    @Test func nothingIsWaitedForWhereNothingCanBePinned() throws {
        let rig = try Rig(mayPinMemory: false)
        try rig.begin()
        rig.guest.write(1, 1)
        try rig.standStill()
        #expect(rig.guest.calls == [.canSaveInOne, .stopAndSaveInOne, .scan, .copy, .awaitSaved, .scan, .copy])
    }

    @Test func theLastCheckpointIsNeverOneCommand() throws {
        let rig = try Rig()
        try rig.begin()
        try rig.standStill(mayRunOn: false)
        #expect(rig.guest.count(of: .canSaveInOne) == 0 && rig.guest.count(of: .stopAndSaveInOne) == 0)
        #expect(rig.guest.count(of: .stopAndSave) == 1)
    }

    @Test func whatDisksWriteWhileTheyDrainIsFound() throws {
        let rig = try Rig()
        try rig.begin()
        rig.guest.write(1, 1)
        rig.guest.once(at: .awaitSaved) { [guest = rig.guest] in guest.write(2, 22, byDisk: true) }
        try rig.checkpoint()
        #expect(rig.byte(2) == 22)
        #expect(rig.guest.violations.isEmpty)
    }

    @Test(arguments: [true, false]) func whatADiskReadUnseenIsInTheCheckpoint(inOne: Bool) throws {
        let rig = try Rig()
        try rig.begin(inOne: inOne)
        rig.guest.beginRead(6, 66)
        try rig.checkpoint()
        #expect(rig.byte(6) == 66)
        #expect(rig.guest.violations.isEmpty)
    }

    @Test func aReadThatBeginsDuringTheCopyIsFound() throws {
        let rig = try Rig()
        try rig.begin()
        rig.guest.write(3, 1)
        rig.guest.once(at: .copy) { [guest = rig.guest] in guest.beginRead(3, 33) }
        try rig.checkpoint()
        #expect(rig.byte(3) == 33)
        #expect(rig.guest.violations.isEmpty)
    }

    /// The test bed plants this: the guest's cut tells.
    @Test func forgettingPinsIsNoticed() throws {
        let rig = try Rig(isExact: false)
        try rig.begin()
        rig.guest.beginRead(6, 66)
        try rig.checkpoint()
        #expect(rig.guest.violations == ["checkpoint 2 has other contents of pages [6]"])
    }

    @Test func aGuestThatRanOnInsteadIsStoppedBySeveralCommands() throws {
        let rig = try Rig()
        try rig.begin()
        rig.guest.write(1, 1)
        rig.guest.refuseInOne()
        rig.guest.once(at: .stopAndSave) { [guest = rig.guest] in guest.write(2, 2) }
        try rig.checkpoint()
        #expect(rig.guest.count(of: .awaitSaved) == 1 && rig.guest.count(of: .stopAndSave) == 1)
        #expect(rig.byte(1) == 1 && rig.byte(2) == 2)
        #expect(rig.guest.violations.isEmpty)
    }

    @Test func aGuestThatWasResumedMeanwhileIsStoppedAgain() throws {
        let rig = try Rig()
        try rig.begin(inOne: false)
        rig.guest.write(1, 1)
        rig.guest.beResumedMeanwhile()
        rig.guest.once(at: .stopAndSave) {}
        rig.guest.once(at: .stopAndSave) { [guest = rig.guest] in
            guest.write(1, 11)
            guest.write(2, 2)
        }
        try rig.checkpoint()
        #expect(rig.guest.count(of: .stopAndSave) == 2)
        #expect(rig.byte(1) == 11 && rig.byte(2) == 2)
        #expect(rig.guest.violations.isEmpty)
    }

    @Test func aGuestThatIsHeldStillIsNotStoppedTwice() throws {
        let rig = try Rig()
        try rig.begin()
        rig.guest.write(1, 1)
        try rig.guest.holdStill(for: .output)
        try rig.checkpoint()
        #expect(rig.guest.count(of: .stopAndSaveInOne) == 0)
        #expect(rig.guest.violations.isEmpty && rig.byte(1) == 1 && rig.guest.isRunningNow)
    }

    // MARK: - What goes wrong

    @Test(arguments: [
        FakeGuest.Call.stopAndSave, .finishSave, .wasResumedByOthers, .canSaveInOne, .stopAndSaveInOne, .awaitSaved,
        .scan, .copy,
    ]) func aGuestThatDiesIsLost(at call: FakeGuest.Call) throws {
        let rig = try Rig()
        try rig.begin(inOne: ![.stopAndSave, .finishSave, .wasResumedByOthers].contains(call))
        rig.guest.write(1, 1)
        rig.guest.once(at: call) { [guest = rig.guest] in guest.die() }
        #expect(code { () throws(SessionError) in try rig.standStill() } == .guestLost)
    }

    @Test func aGuestThatDiesBeforeItIsFollowedIsLost() throws {
        let rig = try Rig()
        rig.guest.die()
        #expect(code { () throws(SessionError) in _ = try rig.capture.protectMemory() } == .guestLost)
    }

    @Test(arguments: [FakeGuest.Call.scan, .copy]) func memoryThatCannotBeReadIsNoDeath(at call: FakeGuest.Call) throws
    {
        let rig = try Rig()
        try rig.begin()
        rig.guest.write(1, 1)
        rig.guest.fail(at: call, SessionError(.system, "planted"))
        do throws(SessionError) {
            try rig.standStill()
            Issue.record("it did not fail")
        } catch {
            #expect(error.code == .system)
            #expect(error.message.contains("guest cannot be protected"))
        }
    }

    @Test(arguments: [FakeGuest.Call.drain, .stopAndSave]) func whatTheGuestSaysIsPassedOn(at call: FakeGuest.Call)
        throws
    {
        let rig = try Rig()
        try rig.begin(inOne: false)
        rig.guest.fail(at: call, SessionError(.qemu, "planted"))
        let failed = code { () throws(SessionError) in
            if call == .drain { try rig.copyWritten(while: .work) } else { try rig.standStill() }
        }
        #expect(failed == .qemu)
    }

    @Test func anEndedCaptureHasNoProcess() throws {
        let rig = try Rig()
        #expect(rig.capture.exitNumber == rig.guest.exitDescriptor)
        rig.capture.end()
        #expect(rig.capture.exitNumber == -1)
    }

    // MARK: - Whatever happens

    /// Many checkpoints of a guest that works, whose disks read and write, and which others meddle with.
    @Test(arguments: 0..<12) func eachCheckpointIsTheGuestAtItsCut(seed: UInt64) throws {
        let rig = try Rig(pages: 48)
        var random = Generator(state: seed &+ 1)
        try rig.begin(inOne: seed % 3 != 0)
        if seed % 4 == 1 { rig.guest.limitScans(to: 5) }
        func work(_ guest: FakeGuest, byDisk: Bool = false) {
            for _ in 0..<Int.random(in: 0..<12, using: &random) {
                let (page, byte) = (Int.random(in: 0..<48, using: &random), UInt8.random(in: 1...255, using: &random))
                if Int.random(in: 0..<4, using: &random) == 0 {
                    guest.beginRead(page, byte)
                } else {
                    guest.write(page, byte, byDisk: byDisk)
                }
            }
        }
        for _ in 0..<20 {
            work(rig.guest)
            if Bool.random(using: &random) { try rig.copyWritten(while: .work) }
            work(rig.guest)
            switch Int.random(in: 0..<5, using: &random) {
            case 0: rig.guest.refuseInOne()
            case 1: try rig.guest.holdStill(for: .output)
            case 2:
                let (page, byte) = (Int.random(in: 0..<48, using: &random), UInt8.random(in: 1...255, using: &random))
                rig.guest.once(at: .awaitSaved) { [guest = rig.guest] in guest.write(page, byte, byDisk: true) }
            case 3: rig.guest.beResumedMeanwhile()
            default: break
            }
            try rig.checkpoint()
            #expect(rig.image == rig.guest.cuts.last)
        }
        #expect(rig.guest.violations.isEmpty)
    }
}

/// The same numbers for the same seed.
private struct Generator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ (state >> 29)
    }
}
