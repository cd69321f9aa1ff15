import Foundation
import TestBed
import Testing

/// A verifier that cannot fail proves nothing: each mistake of a server must show.
@Suite(.timeLimit(.minutes(1)))
struct EchoClientTests {
    private func report(of mistake: FaultyEchoServer.Mistake, intervalMs: Int = 2) throws -> EchoReport {
        let server = try FaultyEchoServer(mistake)
        defer { server.close() }
        var options = EchoClient.Options()
        options.port = server.port
        options.connections = 3
        options.intervalMs = intervalMs
        options.recordBytes = 300
        options.drainMs = 200
        var client = try EchoClient(options)
        let end = ContinuousClock.now + .milliseconds(400)
        return client.run(until: { ContinuousClock.now > end }, progress: { _, _ in })
    }

    @Test func anHonestServerIsClean() throws {
        for interval in [0, 2] {
            let report = try report(of: .none, intervalMs: interval)
            #expect(report.isClean, "\(report)")
            #expect(report.sent == report.received && report.sent > 15_000 && report.sent % 300 == 0)
            #expect(report.connections == 3 && report.latencyP99Ms > 0 && report.latencyP50Ms <= report.latencyP99Ms)
        }
    }

    @Test(arguments: FaultyEchoServer.Mistake.allCases.filter { $0 != .none })
    func aMistakeIsReported(mistake: FaultyEchoServer.Mistake) throws {
        let report = try report(of: mistake)
        #expect(!report.isClean, "\(report)")
        #expect(report.sent == report.received + report.lost)
        #expect(report.connectionsLost == (mistake == .hangUp ? 1 : 0))
        switch mistake {
        case .dropByte, .changeByte, .doubleByte, .swapBytes:
            #expect(report.mismatches.count == 1 && report.lost > 0)
            // Two equal neighbours hide a dropped or doubled byte for one place.
            #expect(report.mismatches.first?.contains("connection 0: byte 500") == true, "\(report.mismatches)")
        case .keepTheLast, .hangUp: #expect(report.lost > 0)
        case .answerTwiceAtTheEnd: #expect(report.unexpected > 0 || !report.mismatches.isEmpty)
        case .none: break
        }
        // The other two connections were served well.
        #expect(report.received > 2 * 5000)
    }

    @Test func noServerIsNamed() throws {
        let server = try FaultyEchoServer(.none)
        server.close()
        var options = EchoClient.Options()
        options.port = server.port
        options.connections = 0
        #expect(throws: BedError.self) { try EchoClient(options) }
    }
}
