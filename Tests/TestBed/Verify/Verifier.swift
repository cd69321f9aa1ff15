import Foundation

/// Everything a client of the guest can hold against it: echo connections, redis, the disk ledger, and the guest's own
/// look at its memory. Started before a fault, finished after it.
public struct Verifier: Sendable {
    public struct Plan: Sendable {
        public var echoConnections = 16
        public var echoIntervalMs = 10
        public var echoBytes = 256
        /// 0 leaves redis or the disk alone.
        public var redisIntervalMs = 10
        public var ledgerIntervalMs = 10
        public var ledgerDisk = "/dev/vda"
        public var ledgerFirstSlot = 0
        public var ledgerSlots = 1024
        public var dirtying: GuestControl.Dirtying?
        public init() {}
    }

    public struct Report: Codable, Sendable {
        public var echo: EchoReport
        public var redis: RedisReport?
        public var ledger: LedgerReport?
        public var memory: GuestControl.MemoryReport?

        /// Bytes that were sent and did not come back, came back wrong, or came back though not due.
        public var bytesLost: Int { echo.lost + echo.unexpected }
        public var connectionsLost: Int {
            echo.connectionsLost + echo.mismatches.count + (redis?.connectionsLost ?? 0)
                + (ledger?.connectionsLost ?? 0)
        }
        /// Acknowledged redis elements and durable disk records that are gone, doubled, torn or out of place.
        public var recordsLost: Int {
            let inRedis = redis.map { $0.missing + $0.duplicated + $0.outOfOrder + $0.unexpected } ?? 0
            let onDisk = ledger.map { $0.lost + $0.torn + $0.unexpected } ?? 0
            return inRedis + onDisk
        }
        public var badPages: Int { memory?.bad ?? 0 }
        /// Of the echo connections together, in milliseconds.
        public var longestSilenceMs: Double { echo.longestSilenceMs }
        /// True only when every part worked, was checked, and lost nothing.
        public var isClean: Bool {
            echo.isClean && redis?.isClean ?? true && ledger?.isClean ?? true && badPages == 0
        }
    }

    public let control: GuestControl
    public let echo: Workload<EchoReport>
    public let redis: Workload<RedisReport>?
    public let ledger: Workload<LedgerReport>?
    private let watchesMemory: Bool

    /// Starts all parts of the plan on the client's host and waits until each had its first answer.
    public static func start(on client: BedHost, guest address: String, _ plan: Plan = Plan()) async throws -> Verifier
    {
        let verifier = try Verifier(client: client, address: address, plan: plan)
        if let dirtying = plan.dirtying { try verifier.control.dirty(dirtying) }
        try await verifier.echo.waitUntilRunning()
        try await verifier.redis?.waitUntilRunning()
        try await verifier.ledger?.waitUntilRunning()
        return verifier
    }

    private init(client: BedHost, address: String, plan: Plan) throws(BedError) {
        control = GuestControl(client: client, address: address)
        watchesMemory = plan.dirtying != nil
        echo = try Workload(
            on: client,
            [
                "echo", "address=\(address)", "connections=\(plan.echoConnections)",
                "interval_ms=\(plan.echoIntervalMs)", "bytes=\(plan.echoBytes)",
            ])
        redis =
            plan.redisIntervalMs == 0
            ? nil : try Workload(on: client, ["redis", "address=\(address)", "interval_ms=\(plan.redisIntervalMs)"])
        ledger =
            plan.ledgerIntervalMs == 0
            ? nil
            : try Workload(
                on: client,
                [
                    "ledger", "address=\(address)", "disk=\(plan.ledgerDisk)", "first=\(plan.ledgerFirstSlot)",
                    "slots=\(plan.ledgerSlots)", "interval_ms=\(plan.ledgerIntervalMs)",
                ])
    }

    /// Waits until echo bytes have come back that were sent after this call: the guest lives.
    public func waitForAnswers(within limit: Duration = .seconds(30)) async throws {
        let before = echo.progress?.received ?? 0
        try await eventually("another answer of the guest", within: limit) {
            if echo.process.exit != nil { throw BedError("the echo client is over: \(echo.process.errors)") }
            return (echo.progress?.received ?? 0) > before ? true : nil
        }
    }

    /// Waits until all is answered that was sent before: what was held for long takes longer to come than `finish` waits.
    public func waitForAllAnswers(within limit: Duration = .seconds(60)) async throws {
        let sent = echo.progress?.sent ?? 0
        try await eventually("the answers to \(sent) bytes", within: limit) {
            if echo.process.exit != nil { throw BedError("the echo client is over: \(echo.process.errors)") }
            return (echo.progress?.received ?? 0) >= sent ? true : nil
        }
    }

    /// Ends the work and judges it.
    public func finish() async throws -> Report {
        // All are told to end before any is waited for, so that none goes on against a guest that is being checked.
        for process in [echo.process, redis?.process, ledger?.process] { process?.kill(SIGTERM) }
        return Report(
            echo: try await echo.finish(), redis: try await redis?.finish(), ledger: try await ledger?.finish(),
            memory: watchesMemory ? try control.verifyMemory() : nil)
    }
}
