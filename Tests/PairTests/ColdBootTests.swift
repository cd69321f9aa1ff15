import Fakes
import Foundation
import Model
import Pair
import Protocol
import Registers
import Standby
import Synchronization
import Testing

/// A standby's shell whose guest takes no state: what it does then, and what it says.
@Suite(.timeLimit(.minutes(1))) struct ColdBootTests {
    private let scene: ReplicaScene
    private let told = Told()

    private final class Told: Sendable {
        let reports = Mutex<[SessionReport]>([])
        var words: [String] { reports.withLock { $0 }.compactMap(Self.word) }

        private static func word(_ report: SessionReport) -> String? {
            switch report {
            case .failure(let error): "failure: \(error.message)"
            case .tookOver(let result, _, _): "\(result.isBooted ? "booted" : "resumed") from \(result.epoch)"
            case .becamePrimary(let register, _): "primary at term \(register.term), \(register.mode.rawValue)"
            case .ended: "ended"
            default: nil
            }
        }
    }

    init() throws { scene = try ReplicaScene() }

    /// A shell that took a replica of epoch 6 up, which an earlier run of its agent left.
    private func shell(boots: Bool) throws -> StandbyShell {
        let first = try scene.make()
        try first.noteApplied(Epoch(6), deviceState: [6])
        for disk in first.disks { try disk.image.close() }
        let custody = Custody(
            node: "beta", rule: .manual(.runAlone), arbiter: nil, reprotection: .automatic, bootsFromDisk: boots,
            record: LocalRecord(),
            identify: { (_, _) throws(SessionError) in throw SessionError(.refused, "nobody asks a standby") },
            persist: { _ in })
        return try StandbyShell(
            replica: try scene.recover(), machine: nil, custody: custody, link: nil, heartbeatMilliseconds: 50,
            diskTimeoutMilliseconds: 5000, secondPath: nil, log: scene.log,
            report: { [told] report in told.reports.withLock { $0.append(report) } })
    }

    private func takeOver(_ shell: StandbyShell) async -> Result<TakeOverReport, SessionError> {
        await withCheckedContinuation { done in
            shell.takeOver(reason: "it burnt") { done.resume(returning: $0) }
        }
    }

    @Test func aGuestThatTakesNoStateIsBooted() async throws {
        scene.standbys.failing = [.load]
        let shell = try shell(boots: true)
        let report = try await takeOver(shell).get()
        #expect(report.isBooted && report.epoch == Epoch(6))
        // The thread that booted it says so a moment later.
        while !told.words.contains(where: { $0.hasPrefix("primary") }) { try await Task.sleep(for: .milliseconds(1)) }
        #expect(
            told.words == [
                "failure: web cannot be resumed from checkpoint 6: the fake refuses to load", "booted from 6",
                "primary at term 1004, solo",
            ])
        #expect(shell.status.phase == .running)
    }

    @Test func whatIsSwitchedOffIsNotDone() async throws {
        scene.standbys.failing = [.load]
        let shell = try shell(boots: false)
        await #expect(throws: SessionError.self) { try await takeOver(shell).get() }
        #expect(shell.status.phase == .failed && scene.standbys.guests.count == 2)
        #expect(shell.status.lastError == "beta may go on, and its QEMU did not load checkpoint 6")
        shell.dismiss(reason: "the test is over")
    }

    @Test func aBootThatFailsSaysSoAndIsTriedAgainWhenItIsAskedFor() async throws {
        scene.standbys.failing = [.load, .boot]
        let shell = try shell(boots: true)
        let words = "web cannot be booted from its disk as of epoch 6, which stays as it is: the fake refuses to boot"
        let error = await #expect(throws: SessionError.self) { try await takeOver(shell).get() }
        #expect(error?.message == words)
        #expect(shell.status.phase == .failed && told.words.last == "failure: \(words)")
        scene.standbys.failing = []
        #expect(try await takeOver(shell).get().isBooted)
    }
}
