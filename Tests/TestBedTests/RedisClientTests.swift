import Foundation
import TestBed
import Testing

/// The redis list, judged by rule and against a real redis.
@Suite(.timeLimit(.minutes(1)))
struct RedisClientTests {
    private func verdict(_ numbers: [Int], more: [String] = []) -> RedisReport {
        var report = RedisReport()
        report.sent = 6
        report.acknowledged = 5
        report.judge(numbers.map { RedisClient.element($0) } + more)
        return report
    }

    @Test func everyAcknowledgedElementOnceAndInOrderIsClean() {
        #expect(verdict([1, 2, 3, 4, 5]).isClean)
        #expect(verdict([1, 2, 3, 4, 5, 6]).isClean, "sent, and the answer was lost")
    }

    @Test func whatIsWrongIsCounted() {
        #expect(verdict([1, 2, 4, 5]).missing == 1 && !verdict([1, 2, 4, 5]).isClean)
        #expect(verdict([1, 2, 3, 4]).missing == 1)
        #expect(verdict([]).missing == 5)
        #expect(verdict([1, 2, 2, 3, 4, 5]).duplicated == 1 && !verdict([1, 2, 2, 3, 4, 5]).isClean)
        #expect(verdict([1, 3, 2, 4, 5]).outOfOrder == 1 && !verdict([1, 3, 2, 4, 5]).isClean)
        #expect(verdict([1, 2, 3, 4, 5, 6, 7]).unexpected == 1, "never sent")
        #expect(verdict([1, 2, 3, 4, 5], more: ["6:0"]).unexpected == 1, "a wrong checksum")
        #expect(!verdict([1, 2, 3, 4, 5], more: ["x"]).isClean)
    }

    private func run(_ change: @Sendable (BedHost) throws -> Void) async throws -> RedisReport {
        try await Bed.with { bed in
            let redis = try bed.client.spawn(
                [
                    "redis-server", "--port", "6379", "--bind", "127.0.0.1", "--save", "", "--dir",
                    bed.client.stateDirectory,
                ])
            let client = try Workload<RedisReport>(on: bed.client, ["redis", "address=127.0.0.1", "interval_ms=1"])
            try await client.waitUntilRunning()
            try await eventually("30 elements", within: .seconds(20)) {
                (client.progress?.acknowledged ?? 0) >= 30 ? true : nil
            }
            try change(bed.client)
            let report = try await client.finish()
            #expect(redis.isRunning)
            return report
        }
    }

    @Test func aRealListIsClean() async throws {
        let report = try await run { _ in }
        #expect(report.isClean && report.latencyP99Ms > 0, "\(report)")
    }

    @Test func aRealListWithAnElementLessIsNot() async throws {
        let report = try await run { host in
            try host.run(["redis-cli", "LREM", "ledger", "1", RedisClient.element(7)])
        }
        #expect(report.isVerified && report.missing == 1 && !report.isClean, "\(report)")
    }
}
