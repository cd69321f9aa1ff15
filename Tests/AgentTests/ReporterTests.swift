import Agent
import Foundation
import Journal
import Logging
import Memory
import Model
import Pair
import RomulusAPI
import Standby
import Telemetry
import TestBed
import Testing

/// What becomes of a session's reports: in the roster, in the journal and in what survives a restart.
@Suite(.timeLimit(.minutes(1))) struct ReporterTests {
    private struct Scene {
        let directory: TemporaryDirectory
        let store: VMStore
        let pursuits = Pursuits()
        let roster: Roster
        let journal: EventJournal
        let reporter: Reporter
        let options = PrimaryOptions(
            vm: VMName(unchecked: "web"), qmpPath: "/q", standby: NodeName(unchecked: "beta"))
        var vm: VMName { options.vm }

        static func with(_ body: (Scene) async throws -> Void) async throws {
            let scene = try Scene()
            defer {
                scene.journal.close()
                scene.directory.remove()
            }
            try await body(scene)
        }

        private init() throws {
            directory = try TemporaryDirectory("reporter")
            var log = Logger(label: "reporter")
            log.logLevel = .critical
            store = try VMStore("\(directory.path)/vms")
            let (store, pursuits) = (store, pursuits)
            roster = Roster(node: "alpha", registry: Registry()) { pursuits.report($0) }
            journal = EventJournal(path: "\(directory.path)/journal.sqlite") { Issue.record("\($0)") }
            let chronicle = Chronicle(log: log, journal: journal, roster: roster)
            let configuration = try Configuration.load(
                "node: alpha\ntls: {ca: /c, certificate: /d, key: /k}", path: "r.yaml")
            let words = Words(configuration: configuration, store: store, roster: roster, chronicle: chronicle)
            reporter = Reporter(
                roster: roster, pursuits: pursuits,
                guests: HeldGuests(
                    store: store, bases: MemoryBases(in: "\(directory.path)/memory", minutes: 0, log: log),
                    roster: roster, words: words, chronicle: chronicle), chronicle: chronicle)
            roster.install(
                VMRecord(
                    name: options.vm, part: .none, role: .primary, peer: "beta", level: .system, term: Term(3),
                    tuning: EpochTuning(epochMilliseconds: 20),
                    metrics: roster.metrics(of: options.vm, peer: "beta"), qmp: "/q", pid: nil, state: .protected))
        }

        /// Whether the report is published as a change of the roster.
        func isNews(_ report: SessionReport) -> Bool {
            let seen = roster.changes.version
            reporter.primary(options, reported: report)
            return roster.changes.version > seen
        }

        func events() async throws -> [Event] {
            #expect(await journal.saved(within: .seconds(30)))
            return try await journal.events(EventQuery(), wait: .zero)
        }
    }

    @Test func anEventIsInTheJournalAndIsNews() async throws {
        try await Scene.with { scene in
            #expect(scene.isNews(.event(.standbyLost, "the standby is lost")))
            let event = try #require(try await scene.events().last)
            #expect(event.vm == scene.vm && event.kind == .standbyLost && event.term == 3)
            #expect(event.message == "the standby is lost")
        }
    }

    @Test func aDecisionIsNewsOnly() async throws {
        try await Scene.with { scene in
            #expect(scene.isNews(.moved))
            let events = try await scene.events()
            #expect(events.isEmpty)
        }
    }

    @Test func runningFiguresAreKeptAndAreNoNews() async throws {
        try await Scene.with { scene in
            #expect(!scene.isNews(.acknowledged(Epoch(9))))
            #expect(!scene.isNews(.epoch(EpochTimings())))
            #expect(!scene.isNews(.dropped(frames: 2)))
            #expect(scene.roster[scene.vm]?.acknowledged == Epoch(9))
            #expect(scene.roster[scene.vm]?.recent.timings.count == 1)
            let events = try await scene.events()
            #expect(events.isEmpty)
        }
    }

    @Test func aRefusalKeepsTheRegisterThatStandsAgainstIt() async throws {
        try await Scene.with { scene in
            let register = Register(
                term: Term(8), owner: NodeName(unchecked: "beta"), mode: .solo, session: .none, standby: nil,
                lineage: Lineage(1), level: .system)
            #expect(scene.isNews(.failure(SessionError(.standbyRefused, "no room", knows: register))))
            #expect(scene.pursuits.contested(scene.vm) == register)
            let first = try await scene.events()
            #expect(first.map(\.kind) == [.refused])
            #expect(scene.isNews(.failure(SessionError(.qemu, "it does not answer"))))
            let both = try await scene.events()
            #expect(both.map(\.kind) == [.refused, .error])
        }
    }

    @Test func aGuestIsRememberedFromItsFindingToItsEnd() async throws {
        try await Scene.with { scene in
            _ = scene.isNews(.found(pid: getpid(), lineage: Lineage(4)))
            #expect(scene.store[scene.vm].guest?.pid == getpid())
            #expect(scene.store[scene.vm].guest?.standby == scene.options.standby)
            #expect(scene.isNews(.ended("protection was ended by the operator")))
            #expect(scene.store[scene.vm].guest == nil)
            #expect(scene.roster[scene.vm]?.isActive == false)
            let ended = try #require(try await scene.events().last)
            #expect(ended.kind == .ended)
            #expect(ended.message == "the session of web ended: protection was ended by the operator")
        }
    }

    @Test func aBootIsNoPromotionAndStaysInTheStatus() async throws {
        try await Scene.with { scene in
            var result = TakeOverReport()
            (result.epoch, result.isBooted) = (Epoch(812), true)
            result.decisionToRunning = 250_000_000
            scene.reporter.standby(scene.vm, reported: .tookOver(result, .primaryLost, reason: "it was silent"))
            let events = try await scene.events()
            #expect(events.map(\.kind) == [.coldBoot] && events[0].epoch == 812)
            #expect(
                events[0].message
                    == "the memory of web was lost: it was booted here from its disk as of epoch 812, 250.0 ms after the"
                    + " decision (it was silent)")
            #expect(scene.roster[scene.vm]?.coldBoot?.epoch == 812)
            #expect(scene.roster[scene.vm]?.metrics.coldBoots.value == 1)
        }
    }

    @Test func whatAStandbysEndLeavesIsNothing() async throws {
        try await Scene.with { scene in
            scene.reporter.standby(scene.vm, reported: .ended("the operator gave the replica up"))
            #expect(scene.roster[scene.vm] == nil)
            let events = try await scene.events()
            #expect(events.map(\.message) == ["the replica of web was given up: the operator gave the replica up"])
        }
    }
}
