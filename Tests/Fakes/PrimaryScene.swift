import Disk
import Foundation
import Hypervisor
import Leases
import Logging
import Messages
import Model
import Pair
import Protocol
import Registers
import Synchronization

/// A primary's shell with a guest, an arbiter and nodes that can be its standby, all of them fakes.
public final class PrimaryScene: Sendable {
    /// How it is put together.
    public struct Setup {
        public var rule = Rule.arbiter
        public var reprotection = PrimaryMachine.Reprotection.automatic
        public var origin = PrimaryOrigin.named
        public var record = LocalRecord()
        /// What the arbiter has at first.
        public var register: Register?
        public var nodes = [FakeNodes.standby]
        public var pages = 64
        public var nics = 1
        public var disks = 0
        public var mayPinMemory = true
        /// Whether its NICs are on taps.
        public var hasTaps = true
        /// Where the servers of its disks would be.
        public var serving: ServingPlaces?
        /// What persisting says, given what is to be persisted.
        public var persist: @Sendable (LocalRecord) throws -> Void = { _ in }
        public var identify: @Sendable (VMIdentity?, Bool) throws(SessionError) -> VMIdentity
        public var options: PrimaryOptions
        /// Epochs end after so long without output.
        public mutating func endEpochs(after milliseconds: Int) {
            options.tuning.epochMilliseconds = milliseconds
            options.idleEpochMilliseconds = milliseconds
        }

        /// Called before the shell starts.
        public var prepare: (PrimaryScene) -> Void = { _ in }

        init() {
            identify = { (identity: VMIdentity?, _: Bool) throws(SessionError) -> VMIdentity in
                guard let identity else { throw SessionError(.refused, "a fake guest has an identity") }
                return identity
            }
            // Heartbeats are counted by the VM's name.
            let number = PrimaryScene.count.wrappingAdd(1, ordering: .relaxed).newValue
            options = PrimaryOptions(
                vm: VMName(unchecked: "guest-\(number)"), qmpPath: "/fake", standby: FakeNodes.standby)
            // Nothing is taken for silence on a machine that is busy, and only output ends an epoch.
            options.silenceMilliseconds = 60_000
            options.silenceFloorMilliseconds = 60_000
            options.idleEpochMilliseconds = 60_000
            options.stallMilliseconds = 60_000
            options.tuning = EpochTuning(epochMilliseconds: 60_000)
        }
    }

    public struct Failure: Error, CustomStringConvertible {
        public var description: String
    }

    private static let count = Atomic<Int>(0)
    /// What a test waits for comes within so many looks, on a machine that is busy, and however long that stands still.
    private static let looks = 10_000

    public let vm: VMName
    public let guest: FakeGuest
    public let register = FakeRegister()
    package let barrier = FakeBarrier()
    public let starter = FakeStarter()
    public let shell: PrimaryShell
    private let standbys: [NodeName: FakeStandby]
    private let told: Told

    /// What the shell reported and persisted.
    private final class Told: Sendable {
        let reports = Mutex<[SessionReport]>([])
        let records = Mutex<[LocalRecord]>([])
    }

    private init(_ setup: Setup) async throws {
        vm = setup.options.vm
        guest = try FakeGuest(
            vm, pages: setup.pages, nics: setup.nics, disks: setup.disks, mayPinMemory: setup.mayPinMemory,
            hasTaps: setup.hasTaps)
        if let first = setup.register { register.set(vm, first) }
        var standbys: [NodeName: FakeStandby] = [:]
        for node in setup.nodes { standbys[node] = FakeStandby(node, register: register) }
        self.standbys = standbys
        let (told, persist) = (Told(), setup.persist)
        self.told = told
        var log = Logger(label: "scene")
        log.logLevel = .critical
        var custody = Custody(
            node: FakeNodes.primary, rule: setup.rule, arbiter: setup.rule == .arbiter ? register : nil,
            reprotection: setup.reprotection, record: setup.record,
            identify: setup.identify,
            persist: { record in
                try persist(record)
                told.records.withLock { $0.append(record) }
            })
        custody.serving = setup.serving
        if setup.rule == .arbiter {
            custody.leases = try Leases(node: FakeNodes.primary, arbiter: register, log: log) { [barrier] in barrier }
        }
        var options = setup.options
        if case .found = setup.origin { options.foundPID = guest.pid }
        shell = try PrimaryShell(
            options: options, origin: setup.origin, custody: custody, software: "test",
            guests: FakeSource(guest), starter: starter, log: log,
            connect: { [standbys] (node, handler) throws(SessionError) in
                guard let standby = standbys[node] else { throw SessionError(.peerLost, "there is no \(node)") }
                return try standby.dial(handler)
            },
            report: { report in told.reports.withLock { $0.append(report) } })
        for standby in standbys.values { try await standby.start() }
    }

    /// Puts a scene together, runs `body` with it and takes it down. Throws what `body` throws, and when anybody did what
    /// cannot be.
    public static func with(
        _ configure: (inout Setup) throws -> Void = { _ in }, _ body: (PrimaryScene) async throws -> Void
    ) async throws {
        await Turns.shared.take()
        defer { Turns.shared.giveBack() }
        var setup = Setup()
        try configure(&setup)
        let scene = try await PrimaryScene(setup)
        setup.prepare(scene)
        let outcome: Result<Void, any Error>
        do {
            try scene.shell.start()
            try await body(scene)
            outcome = .success(())
        } catch {
            outcome = .failure(error)
        }
        let violations = await scene.end()
        try outcome.get()
        guard violations.isEmpty else { throw Failure(description: violations.joined(separator: "; ")) }
    }

    /// Returns what was done that cannot be.
    private func end() async -> [String] {
        register.be(.answers)
        for standby in standbys.values {
            standby.be(reachable: false)
            standby.hangUp()
        }
        guest.die()
        var violations: [String] = []
        do {
            try await wait(for: "the shell's end") { self.ended != nil || restarted != nil }
        } catch {
            violations.append("\(error)")
        }
        for standby in standbys.values { await standby.stop() }
        violations += guest.violations
        for standby in standbys.values { violations += standby.violations }
        guest.end()
        return violations
    }

    // MARK: - What a test looks at

    public var standby: FakeStandby { standbys[FakeNodes.standby]! }
    public func standby(_ node: NodeName) -> FakeStandby { standbys[node]! }

    public var reports: [SessionReport] { told.reports.withLock { $0 } }
    public var records: [LocalRecord] { told.records.withLock { $0 } }
    public var phase: SessionPhase { shell.status.phase }
    public var current: Register? { register.current(vm) }

    public func events(_ kind: EventKind) -> [String] {
        reports.compactMap { if case .event(kind, let text) = $0 { text } else { nil } }
    }

    public var failures: [SessionError] {
        reports.compactMap { if case .failure(let error) = $0 { error } else { nil } }
    }

    public var acknowledged: [Epoch] {
        reports.compactMap { if case .acknowledged(let epoch) = $0 { epoch } else { nil } }
    }

    public var dropped: Int {
        reports.reduce(0) { if case .dropped(let frames) = $1 { $0 + frames } else { $0 } }
    }

    /// Why it is over; nil before.
    public var ended: String? {
        reports.lazy.compactMap { if case .ended(let reason) = $0 { reason } else { nil } }.first
    }

    /// The guest that was started in the place of one that died: another session goes on with that.
    public var restarted: (StartedGuest, Register)? {
        reports.lazy.compactMap { if case .restarted(let guest, let register) = $0 { (guest, register) } else { nil } }
            .first
    }

    public var gaveWay: LocalRecord? {
        reports.lazy.compactMap { if case .gaveWay(let record) = $0 { record } else { nil } }.first
    }

    /// Looks every millisecond until it is so.
    public func wait(for what: String, _ isSo: () -> Bool) async throws {
        var looks = 0
        while !isSo() {
            looks += 1
            guard looks < Self.looks else {
                throw Failure(
                    description:
                        "\(what) did not come: phase \(phase.rawValue), \(shell.status.lastError ?? "no error"),"
                        + " calls \(guest.calls.suffix(20).map(\.rawValue)), reports \(reports.suffix(12))")
            }
            try await Task.sleep(for: .milliseconds(1))
        }
    }

    public func wait(for phase: SessionPhase) async throws {
        try await wait(for: "phase \(phase.rawValue)") { self.phase == phase }
    }

    public func waitUntilProtected() async throws { try await wait(for: .protected) }

    /// The guest sends, and its epoch ends by it. Returns the epoch, which is whole at the standby.
    @discardableResult public func send(_ text: String, nic: UInt16 = 0) async throws -> Epoch {
        guest.send(text, nic: nic)
        var found: Epoch?
        try await wait(for: "the epoch of “\(text)”") {
            found = standby.output.first { $0.value.contains(text) }?.key
            return found != nil
        }
        return found ?? .firstCopy
    }

    public func waitUntilLeft(_ frames: [String], nic: UInt16 = 0) async throws {
        try await wait(for: "\(frames) leave, and not only \(guest.left(nic: nic))") { guest.left(nic: nic) == frames }
    }

    /// The guest runs at this host without a standby, and nothing is attached to it.
    public func waitUntilAlone() async throws {
        try await wait(for: "the guest alone") {
            shell.isAlone && guest.tapped == 0 && !guest.isPrepared && guest.isRunningNow
        }
    }

    public func waitUntilEnded() async throws { try await wait(for: "the end") { ended != nil } }
}
