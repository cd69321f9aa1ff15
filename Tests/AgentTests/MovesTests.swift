import Agent
import Fakes
import Foundation
import Journal
import Logging
import Model
import Pair
import RomulusAPI
import Telemetry
import TestBed
import Testing

/// Switchovers that the operator waits for. What they wait for is told by the session's reports alone: a wait that none of
/// them ends lasts longer than a test may.
@Suite(.timeLimit(.minutes(1))) struct MovesTests {
    private static func with(
        _ manner: FakeStandby.TakingOver, _ body: (PrimaryScene, Moves) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory("moves")
        defer { directory.remove() }
        let roster = Roster(node: "alpha", registry: Registry()) { _ in DesiredReport(protect: .manual) }
        let journal = EventJournal(path: "\(directory.path)/journal.sqlite") { Issue.record("\($0)") }
        defer { journal.close() }
        var log = Logger(label: "moves")
        log.logLevel = .critical
        let moves = Moves(
            node: "alpha", hasArbiter: true, roster: roster, journal: journal,
            chronicle: Chronicle(log: log, journal: journal, roster: roster))
        try await PrimaryScene.with {
            $0.reprotection = .manual
        } _: { scene in
            scene.guest.saveInOne()
            scene.standby.takeOver(manner)
            try await scene.waitUntilProtected()
            let vm = scene.vm
            roster.install(
                VMRecord(
                    name: vm, part: .primary(scene.shell), role: .primary, peer: "beta", level: .system, term: Term(1),
                    tuning: EpochTuning(epochMilliseconds: 20), metrics: roster.metrics(of: vm, peer: "beta"),
                    qmp: "/q", pid: nil, state: .connecting))
            // As the agent does with them.
            let news = Task {
                var count = 0
                while !Task.isCancelled {
                    let now = scene.reports.filter(Self.isNews).count
                    if now > count { roster.changes.publish() }
                    count = now
                    try? await Task.sleep(for: .milliseconds(1))
                }
            }
            defer { news.cancel() }
            try await body(scene, moves)
        }
    }

    /// As the reporter has it: running figures are none.
    private static func isNews(_ report: SessionReport) -> Bool {
        switch report {
        case .acknowledged, .epoch, .released, .dropped, .memoryCopied, .stoodStill: false
        default: true
        }
    }

    private static func move(_ vm: VMName, _ moves: Moves) async throws(APIError) -> VMStatus {
        try await moves.switchover(SwitchoverRequest(vm: vm, waitMilliseconds: 600_000))
    }

    @Test func aSwitchoverEndsWhenTheGuestRunsThere() async throws {
        try await Self.with(.yes) { scene, moves in
            _ = try await Self.move(scene.vm, moves)
            #expect(scene.shell.switchover == .done)
            try await scene.waitUntilEnded()
        }
    }

    /// The second time the same is no news for the journal, and the operator hears of it all the same.
    @Test func aRefusalIsToldEachTime() async throws {
        try await Self.with(.declines("its QEMU is too old")) { scene, moves in
            for _ in 1...2 {
                let error = await #expect(throws: APIError.self) { try await Self.move(scene.vm, moves) }
                #expect(
                    error?.message.hasSuffix("beta did not go on: its QEMU is too old") == true
                )
                try await scene.waitUntilProtected()
                try await scene.wait(for: "it runs on") { scene.guest.isRunningNow }
            }
        }
    }

    @Test func anArbiterThatIsAwayRefusesEachTime() async throws {
        try await Self.with(.yes) { scene, moves in
            scene.register.be(.isUnreachable)
            for _ in 1...2 {
                let error = await #expect(throws: APIError.self) { try await Self.move(scene.vm, moves) }
                #expect(error?.code == .refused)
                #expect(error?.message.contains("cannot be moved now, and runs on: the arbiter would have to") == true)
            }
        }
    }
}
