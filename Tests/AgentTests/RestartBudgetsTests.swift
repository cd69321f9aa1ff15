import Agent
import Foundation
import Journal
import Model
import Protocol
import Testing

/// How often a guest was started again is known to the next agent.
@Suite struct RestartBudgetsTests {
    private static let minute: Int64 = 60_000_000_000
    private static let vm = VMName(unchecked: "web")

    /// Whether it may be started by an agent that begins now.
    private func takes(_ path: String, at minutes: Int64, boot: String = "one") throws -> Bool {
        let clock = JournalClock { JournalTime(wall: 0, boot: minutes * Self.minute, bootID: boot) }
        let budgets = RestartBudgets(RestartBudget(limit: 2, minutes: 10), try VMStore(path), clock: clock)
        return budgets.change(Self.vm) { $0.take(at: $1) }
    }

    @Test func theNextAgentGoesOnCounting() throws {
        let path = "\(NSTemporaryDirectory())/romulus-restarts-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(try takes(path, at: 100) && takes(path, at: 101))
        #expect(try !takes(path, at: 102))
        // The host was started anew: that is as if both had just been.
        #expect(try !takes(path, at: 1, boot: "two"))
        #expect(try takes(path, at: 10, boot: "two") && takes(path, at: 11, boot: "two"))
        #expect(try !takes(path, at: 12, boot: "two"))
        #expect(try takes(path, at: 20, boot: "two"))
    }
}
