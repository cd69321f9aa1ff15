import Foundation

/// A verifier's client process, at work in the client's namespace.
public struct Workload<Report: WorkloadReport>: Sendable {
    public let process: Child

    /// - Parameter orders: the words after the program's name, as `ClientProgram` lists them.
    public init(on host: BedHost, _ orders: [String]) throws(BedError) {
        process = try host.spawn(
            [try Programs.path("romulus-bed-client")] + orders, name: "client-\(orders.first ?? "")")
    }

    private func newest(_ isRight: (ClientLine<Report>) -> Bool) -> Report? {
        for line in process.output.split(separator: "\n").reversed() {
            if let parsed = ClientLine<Report>.parsed(line), isRight(parsed) { return parsed.report }
        }
        return nil
    }

    /// Waits until everything it does has been answered once.
    public func waitUntilRunning(within limit: Duration = .seconds(20)) async throws {
        try await eventually("the first answer to \(process.name)", within: limit) {
            if newest({ _ in true }) != nil { return true }
            if let exit = process.exit { throw BedError("\(process.name) ended (\(exit)): \(process.errors)") }
            return nil as Bool?
        }
    }

    /// The newest report; once a second there is one. Nil before the first.
    public var progress: Report? { newest { _ in true } }

    /// Ends the work and waits for the verdict.
    public func finish(within limit: Duration = .seconds(90)) async throws -> Report {
        process.kill(SIGTERM)
        try await process.wait(within: limit)
        guard let report = newest({ $0.event == .final }) else {
            throw BedError("\(process.name) left no report: \(process.errors)")
        }
        return report
    }
}
