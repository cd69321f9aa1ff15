import Messages
import Model
import Pair
import Protocol
import Storage
import Testing
import Wire

/// A guest that falls and rests at level `component`: which parts, and which turns, in which order.
@Suite struct KeepLevelTests {
    private static let beta = NodeName(unchecked: "beta")
    private static let identity = StandbyIdentity(node: beta, incarnation: 3)
    private static let after: UInt64 = 1_000_000_000
    private static let retry: UInt64 = 5_000_000_000

    /// Alpha's, paired at that level, and a clock that is turned by hand.
    private struct Scene {
        var duty: PrimaryDuty
        var now: UInt64 = 1_000_000_000
        var sight = DegradeMachine.Sight()

        init(at level: Level = .system, asked: Level? = nil) throws {
            let alpha = NodeName(unchecked: "alpha")
            let register = Register(
                term: Term(4), owner: alpha, mode: .solo, session: .none, standby: nil, lineage: Lineage(9),
                level: level)
            let names = PrimaryDuty.Names(
                VMName(unchecked: "db"), standby: beta, arbiter: "witness", isNamed: false, tookOver: false)
            let settings = DegradeMachine.Settings(floor: .component, after: after, targetAfter: 0, retry: retry)
            duty = PrimaryDuty(
                PrimaryMachine(tookOver: register, rule: .arbiter, reprotection: .automatic, seed: 1), names,
                tuning: EpochTuning(epochMilliseconds: 20),
                choice: StandbyChoice(beta, reserve: [], replaceAfter: 60_000_000_000), isAsked: true,
                degrade: LevelKeeper(settings, asked: asked))
            sight.isCalm = true
            try pair()
        }

        mutating func pair() throws {
            var wanted = duty.sealFirst(with: identity)
            if !duty.machine.level.holdsOutput { wanted = duty.hear(.attached(.gate)) }
            _ = agree(wanted)
            let isPaired = if case .paired = duty.machine.state { true } else { false }
            try #require(isPaired)
        }

        mutating func agree(_ outputs: [PrimaryDuty.Output]) -> [PrimaryDuty.Output] { duty.grant(outputs, at: now) }

        mutating func look(after seconds: Double = 0.05) -> [PrimaryDuty.Output] {
            now += UInt64(seconds * 1e9)
            return duty.keepLevel(sight, at: now)
        }

        /// An epoch that is not acknowledged for too long.
        mutating func beSlow() -> [PrimaryDuty.Output] {
            _ = duty.seal(Epoch(2), isLast: false)
            duty.expect(Epoch(2), .of(2), EpochTimings(), waited: 0, at: now)
            _ = look()
            return look(after: 1.1)
        }

        mutating func fall() -> [PrimaryDuty.Output] {
            _ = beSlow()
            _ = agree(duty.hear(.attached(.gate)))
            _ = duty.take(.acknowledge(Epoch(2), .of(2)), at: now)
            _ = duty.hear(.detached(.hold))
            return duty.hear(.detached(.memory))
        }

        mutating func settle() {
            _ = look()
            _ = duty.hear(.attached(.served))
            _ = agree(duty.hear(.attached(.detour)))
        }

        func sentence() -> String? { duty.keeper.sentence(of: duty, at: now) }
    }

    private func events(_ outputs: [PrimaryDuty.Output], _ kind: EventKind) -> [String] {
        outputs.compactMap { if case .report(.event(kind, let text)) = $0 { text } else { nil } }
    }

    /// Nothing that the disks' servers need is asked of a link that is too slow, and nothing of the guest's waits for them.
    @Test func theDisksAreServedOnlyWhenNothingIsHeldAnyMore() throws {
        var scene = try Scene()
        #expect(words(scene.beSlow()) == ["attach gate", "lease won"])
        let turn = scene.duty.hear(.attached(.gate))
        #expect(words(scene.agree(turn)) == ["persist 6", "send register", "lease won", "detach hold"])
        #expect(scene.duty.machine.level == .restart)
        #expect(scene.look(after: 0.1).isEmpty, "the last epoch is not acknowledged")
        _ = scene.duty.take(.acknowledge(Epoch(2), .of(2)), at: scene.now)
        #expect(words(scene.duty.hear(.detached(.hold))) == ["detach memory"])
        let fallen = events(scene.duty.hear(.detached(.memory)), .degraded)
        #expect(fallen.count == 1 && fallen[0].contains("level restart from here on instead of system"), "\(fallen)")
        let on = scene.look()
        #expect(words(on) == ["attach served"] && events(on, .state) == ["it goes on to level component"])
        #expect(scene.look(after: 10).isEmpty, "it does not climb meanwhile")
        #expect(words(scene.duty.hear(.attached(.served))) == ["attach detour"])
        let second = scene.duty.hear(.attached(.detour))
        let stands = scene.agree(second)
        #expect(words(stands) == ["persist 7", "send register", "lease won"])
        #expect(events(stands, .dialled) == ["it is protected at level component from here on"])
        #expect(scene.duty.dial?.inForce == .component && scene.duty.dial?.asked == .system)
        #expect(scene.duty.keeper.asked == .system)
        #expect(scene.sentence()?.contains("cannot be had") == false)
    }

    @Test func aPartThatCannotBeHadLeavesItAtRestart() throws {
        var scene = try Scene()
        _ = scene.fall()
        #expect(words(scene.look()) == ["attach served"])
        #expect(words(scene.duty.hear(.attached(.served))) == ["attach detour"])
        #expect(words(scene.duty.hear(.attachFailed(.detour, "no bridge"))) == ["detach served"])
        let stays = events(scene.duty.hear(.detached(.served)), .state)
        let why = "level component cannot be had: detour cannot be attached: no bridge"
        #expect(stays == ["it stays at level restart; \(why)"])
        #expect(scene.duty.machine.level == .restart)
        let sentence = try #require(scene.sentence())
        #expect(sentence.hasPrefix("degraded: the standby has not acknowledged an epoch for "), "\(sentence)")
        #expect(sentence.contains("; \(why); climbs back in 5 s"), "\(sentence)")
        #expect(scene.look().isEmpty, "it is tried once")
        #expect(words(scene.look(after: 5)) == ["attach memory"])
    }

    @Test func aGuestThatCannotBeHadThereIsNotTried() throws {
        var scene = try Scene()
        let word = scene.duty.keeper.learn([.component: "disk disk0 is a qcow2 image"])
        #expect(word == "should it fall, then to level restart, not to component: disk disk0 is a qcow2 image")
        let fallen = events(scene.fall(), .degraded)
        #expect(fallen.first?.contains("; level component cannot be had: disk disk0 is a qcow2 image") == true)
        #expect(scene.look().isEmpty && scene.duty.machine.level == .restart)
        _ = scene.duty.keeper.learn([.restart: "no tap", .component: "no tap"])
        #expect(scene.look(after: 100).isEmpty)
    }

    /// A trial that fails ends where it began.
    @Test func itClimbsFromComponentAndFallsBackToIt() throws {
        var scene = try Scene()
        _ = scene.fall()
        scene.settle()
        #expect(words(scene.look(after: 6)) == ["attach memory"])
        (scene.sight.written, scene.sight.taken) = (2, 1)
        _ = scene.look()
        #expect(words(scene.look(after: 1.1)).isEmpty, "the copy of the memory is under way")
        let stands = scene.duty.hear(.attachFailed(.memory, "not wanted"))
        #expect(words(stands).isEmpty)
        #expect(events(stands, .degraded).first?.contains("level component from here on instead of system") == true)
        #expect(scene.duty.dial?.attached == Level.component.parts)
        scene.sight.taken = 2
        #expect(words(scene.look(after: 11)) == ["attach memory"])
        #expect(words(scene.duty.hear(.attached(.memory))) == ["attach hold"])
        let up = scene.agree(scene.duty.hear(.attached(.hold)))
        #expect(words(up) == ["persist 8", "send register", "lease won", "detach detour"])
        _ = scene.duty.hear(.detached(.detour))
        _ = scene.duty.hear(.detached(.gate))
        let climbed = scene.duty.hear(.detached(.served))
        #expect(events(climbed, .climbed).count == 1 && scene.duty.keeper.asked == nil)
        #expect(scene.sentence() == nil)
    }

    @Test func itDoesNotClimbWhileADiskIsLost() throws {
        var scene = try Scene()
        _ = scene.fall()
        scene.settle()
        var report = ServedReport()
        (report.lost, report.loss) = ("it failed", 1)
        _ = scene.duty.hear(disk: 0, "disk0", report)
        #expect(scene.look(after: 100).isEmpty)
        report.lost = nil
        _ = scene.duty.hear(disk: 0, "disk0", report)
        #expect(words(scene.look()) == ["attach memory"])
    }

    /// It had climbed, and a disk was lost before its server was taken away: it falls to where that stays.
    @Test func aLostDiskIsNotFallenPast() throws {
        var scene = try Scene(at: .component, asked: .system)
        _ = scene.duty.hear(.attached(.served))
        _ = scene.duty.hear(.attached(.detour))
        #expect(words(scene.look(after: 6)) == ["attach memory"])
        _ = scene.duty.hear(.attached(.memory))
        _ = scene.agree(scene.duty.hear(.attached(.hold)))
        _ = scene.duty.hear(.detached(.detour))
        #expect(scene.duty.machine.level == .system)
        var report = ServedReport()
        (report.lost, report.loss) = ("it failed", 1)
        _ = scene.duty.hear(disk: 0, "disk0", report)
        _ = scene.duty.hear(.detached(.gate))
        #expect(words(scene.beSlow()) == ["attach gate", "lease won"])
        #expect(scene.duty.dial?.target == .component)
    }

    /// What an earlier session left at `restart` goes on from there.
    @Test func aNewSessionAtRestartGoesOn() throws {
        var scene = try Scene(at: .restart, asked: .system)
        #expect(words(scene.look()) == ["attach served"])
    }
}
