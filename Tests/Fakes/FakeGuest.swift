/// Fakes of what a pair of hosts stands on: a guest, an arbiter, a standby. Tests of the shells need no QEMU and no root with
/// them.
///
/// Owns what it starts: a child process for each guest, links on loopback. May call: everything below Pair, and Pair.

import CLinux
import Foundation
import Glibc
import Hypervisor
import LinuxSystem
import Logging
import Model

/// A guest of some pages in this process. Its hypervisor is a child process that sleeps, so that it can be killed and waited
/// for as a real one.
///
/// It keeps to the order in which a real one can be checkpointed: what a caller cannot have meant is a violation, which the
/// test looks at in the end. A test works as the guest does from any thread, and waits while the guest stands still.
public final class FakeGuest: Guest, @unchecked Sendable {
    // SAFETY: everything that changes lies behind `condition`.

    /// What was asked of the guest.
    public enum Call: String, Sendable, CaseIterable {
        case open, close, prepare, removeLeftovers, followMemory, drain, scan, copy
        case holdStill, canSaveInOne, stopAndSaveInOne, awaitDrained, awaitSaved, stopAndSave, finishSave,
            wasResumedByOthers
        case release, resume, takeDeviceState, confirmCheckpoint, confirmMemory, letRunOn
        case mirror, unmirror, tap, untap, leftServed, whileStopped, resumeAnyway, stopAnyway, kill
        case lookAtPort, reset
    }

    /// Where its checkpoint stands.
    enum Stand: Equatable {
        case runs, held
        /// Its devices are being saved; by one command, disks may still write.
        case saving(inOne: Bool)
        case saved(inOne: Bool)
        /// It may run on, and does so by itself where one command made the checkpoint.
        case released
    }

    struct State {
        var memory: [UInt8]
        /// Pages that were ever touched, and those that were written since they were last protected.
        var touched: Set<Int> = []
        var written: Set<Int> = []
        /// What the disks read into pages, which arrives without a mark (I35).
        var reads: [Int: UInt8] = [:]
        /// What the pages held when they were last copied.
        var copied: [UInt8]
        var stand = Stand.runs
        var isPausedByOthers = false
        var stopsNested = 0
        var stoppedByUs = false
        var isOpen = true
        var isPrepared = false
        var checkpoints = 0
        var cuts: [[UInt8]] = []
        var calls: [Call] = []
        var violations: [String] = []
        var failures: [Call: SessionError] = [:]
        var stalledAt: Call?
        var hooks: [Call: [@Sendable () -> Void]] = [:]
        var news: [GuestNews] = []
        var savesInOne = false
        var isInOneRefused = false
        var isResumedMeanwhile = false
        var pagesPerScan = Int.max
        var progress = 1.0
        var mirrorFailure: SessionError?
        var mirrors = 0
        var heldMirrors = 0
        /// Of the last mirror.
        var mirrorSocket: OwnedNumber?
        var direct: [[UInt8]] = []
        var isEnded = false
        var isDying = false
        var isMigratedAway = false
        var diskBound: DiskBound?
        var diskFaults: [DiskFault] = []
        var agent: FakeAgent?

        mutating func fill(_ page: Int, _ byte: UInt8) {
            memory.replaceSubrange(
                page * pageSize..<(page + 1) * pageSize, with: repeatElement(byte, count: pageSize))
        }

        /// What the disks read arrives.
        mutating func endReads() {
            for (page, byte) in reads { fill(page, byte) }
            reads = [:]
        }
    }

    public let vm: VMName
    public let pages: Int
    public let description: GuestDescription
    public let drives: [GuestDisk]
    public let offeredDisks: [OfferedDisk]
    public let offeredNICs: [OfferedNIC]
    public let mayPinMemory: Bool
    public let pid: Int32
    public var standstill = StandstillClock()
    public var diskBound: DiskBound? {
        get { locked { $0.diskBound } }
        set { locked { $0.diskBound = newValue } }
    }
    private let process: PidDescriptor
    private let newsArrived: EventDescriptor
    private let condition = NSCondition()
    private var state: State
    private var taps: [UInt16: FakeTap] = [:]

    /// Of its memory's only block.
    static let block: UInt16 = 0
    /// So often a test that wants the guest to run looks for that.
    private static let looks = 5000

    public init(
        _ vm: VMName = VMName(unchecked: "guest"), pages: Int = 64, nics: Int = 1, disks: Int = 0,
        mayPinMemory: Bool = true, hasTaps: Bool = true,
        uuid: String? = "0b5e0c3e-52a6-4a4e-9a2c-111122223333"
    ) throws {
        self.vm = vm
        self.pages = pages
        self.mayPinMemory = mayPinMemory
        pid = try Self.startProcess()
        process = try PidDescriptor(pid)
        newsArrived = try EventDescriptor()
        state = State(
            memory: [UInt8](repeating: 0, count: pages * pageSize),
            copied: [UInt8](repeating: 0, count: pages * pageSize))
        offeredNICs = (0..<nics).map { OfferedNIC(index: UInt16($0), netdev: "net\($0)") }
        offeredDisks = (0..<disks).map { OfferedDisk(index: UInt16($0), id: "disk\($0)", size: 1 << 20) }
        drives = (0..<disks).map {
            GuestDisk(
                name: "disk\($0)", device: "disk\($0)", qdev: nil, node: "node\($0)", format: "raw", file: "/disk\($0)",
                isBlockDevice: false, virtualSize: 1 << 20, readOnly: false, removable: false)
        }
        var description = GuestDescription(
            process: ProcessIdentity(pid: pid, uid: getuid(), gid: getgid()),
            qemu: QEMUVersion(major: 7, minor: 2, micro: 0, package: ""), executable: "/bin/sleep",
            arguments: ["sleep"],
            workingDirectory: "/", guestName: vm.description, machineType: "pc-i440fx-7.2", accelerator: .tcg,
            vcpus: [GuestCPU(index: 0, thread: pid)],
            memorySize: MemorySize(base: UInt64(pages * pageSize), plugged: 0),
            blocks: [
                GuestRAMBlock(
                    name: "pc.ram", length: UInt64(pages * pageSize), maximum: UInt64(pages * pageSize),
                    hostAddress: 1 << 32, regionAddress: 0, tracked: true, backend: "pc.ram")
            ], disks: drives,
            nics: (0..<nics).map { index in
                GuestNIC(
                    name: "nic\(index)", model: "virtio-net-pci", mac: "52:54:00:00:00:0\(index)",
                    netdev: "net\(index)",
                    backend: hasTaps ? "tap" : "user", interface: hasTaps ? "tap\(index)" : nil)
            }, devices: [])
        description.identity = uuid.flatMap { VMIdentity(qemu: $0) }
        self.description = description
    }

    deinit { end() }

    private static func startProcess() throws -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // A socket of somebody else's that lived on in it would not be closed for whoever is at its other end.
        _ = rml_spawn_close_from(&actions, 3)
        for number in Int32(0)..<3 { posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_RDWR, 0) }
        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("600"), nil]
        defer { for argument in arguments { free(argument) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, "/bin/sleep", &actions, nil, &arguments, environ)
        guard code == 0 else { throw SystemError(operation: "start", errno: code, subject: "/bin/sleep") }
        return pid
    }

    /// Ends the process, and what waits for the guest. Idempotent.
    public func end() {
        let isFirst = locked { state -> Bool in
            defer { state.isEnded = true }
            return !state.isEnded
        }
        guard isFirst else { return }
        try? process.kill()
        var status: Int32 = 0
        waitpid(pid, &status, 0)
        condition.lock()
        let taps = Array(taps.values)
        condition.broadcast()
        condition.unlock()
        for tap in taps { tap.close() }
    }

    func locked<Value>(_ body: (inout State) -> Value) -> Value {
        condition.lock()
        defer { condition.unlock() }
        return body(&state)
    }

    // MARK: - What the guest does

    /// Writes a page as the guest's processors do, or its disks where it stands still.
    public func write(_ page: Int, _ byte: UInt8, byDisk: Bool = false) {
        if !byDisk { waitUntilRunning() } else { condition.lock() }
        defer { condition.unlock() }
        state.touched.insert(page)
        state.written.insert(page)
        state.fill(page, byte)
    }

    /// Its disk begins to read into a page: the page counts as written now, and gets what was read at `endReads`, unseen.
    public func beginRead(_ page: Int, _ byte: UInt8) {
        locked { state in
            state.touched.insert(page)
            state.written.insert(page)
            state.reads[page] = byte
        }
    }

    public func endReads() { locked { $0.endReads() } }

    /// Sends a frame on its NIC.
    public func send(_ text: String, nic: UInt16 = 0) {
        waitUntilRunning()
        defer { condition.unlock() }
        if let tap = taps[nic] { tap.output(Array(text.utf8)) } else { state.direct.append(Array(text.utf8)) }
    }

    /// Sends bytes that are no frame.
    public func sendTorn(_ bytes: [UInt8], nic: UInt16 = 0) {
        waitUntilRunning()
        defer { condition.unlock() }
        taps[nic]?.outputRaw(bytes)
    }

    /// The frames that reached the network, in order.
    public func left(nic: UInt16 = 0) -> [String] {
        condition.lock()
        defer { condition.unlock() }
        let tapped = state.direct.map { String(decoding: $0, as: UTF8.self) }
        return tapped + (taps[nic]?.left.map { String(decoding: $0, as: UTF8.self) } ?? [])
    }

    /// Returns with the lock held.
    private func waitUntilRunning() {
        condition.lock()
        var looks = 0
        while !runs, !state.isEnded, looks < Self.looks {
            wait()
            looks += 1
        }
    }

    /// With the lock held, until something changes. Nobody tells of a death, so it looks again soon.
    private func wait() { _ = condition.wait(until: Date(timeIntervalSinceNow: 0.002)) }

    private var runs: Bool {
        state.stand == .runs && !state.isPausedByOthers && state.stopsNested == 0 && !process.hasExited()
    }

    /// Its processors run.
    public var isRunningNow: Bool {
        condition.lock()
        defer { condition.unlock() }
        return runs
    }

    // MARK: - What happens to it

    public func takeDiskFault() -> DiskFault? {
        locked { $0.diskFaults.isEmpty ? nil : $0.diskFaults.removeFirst() }
    }

    /// Its hypervisor tells of it.
    public func failDisk(_ fault: DiskFault) {
        locked { $0.diskFaults.append(fault) }
        newsArrived.signal()
    }

    public func tell(_ news: GuestNews) {
        locked { $0.news.append(news) }
        newsArrived.signal()
    }

    public func pauseByOthers() {
        locked { $0.isPausedByOthers = true }
        tell(.paused)
    }

    public func resumeByOthers() {
        locked { $0.isPausedByOthers = false }
        tell(.resumed)
    }

    /// Somebody has all of it sent away; what stays behind is paused for good.
    public func migrateAway() {
        locked { $0.isMigratedAway = true }
        pauseByOthers()
    }

    /// Returns when it is dead.
    public func die() {
        try? process.kill()
        _ = try? process.waitForExit(timeout: nil)
        condition.lock()
        condition.broadcast()
        condition.unlock()
    }

    /// It is being killed: its memory is gone, and its process ends with `die`.
    public func beginToDie() {
        locked { $0.isDying = true }
        newsArrived.signal()
    }

    /// It closes its end of the NIC's output filter.
    public func closeTap(nic: UInt16 = 0) { locked { _ in taps[nic] }?.shutDown() }

    // MARK: - What the test wants of it

    /// Every further call of this kind fails.
    public func fail(at call: Call, _ error: SessionError) { locked { $0.failures[call] = error } }
    public func failNoMore() { locked { $0.failures = [:] } }
    /// Such a call does not return until `goOn`, or until the guest is dead.
    public func stall(at call: Call) { locked { $0.stalledAt = call } }
    public func goOn() { locked { $0.stalledAt = nil } }
    /// At the next such call `body` is called before it is served; several are called at one call each, in their order.
    public func once(at call: Call, _ body: @escaping @Sendable () -> Void) {
        locked { $0.hooks[call, default: []].append(body) }
    }
    /// One command can make its checkpoints, but the first.
    public func saveInOne(_ can: Bool = true) { locked { $0.savesInOne = can } }
    /// The next checkpoint that is one command lets the guest run on instead.
    public func refuseInOne() { locked { $0.isInOneRefused = true } }
    /// During the next checkpoint of several commands somebody lets the guest run on.
    public func beResumedMeanwhile() { locked { $0.isResumedMeanwhile = true } }
    /// A scan stops after so many pages.
    public func limitScans(to pages: Int) { locked { $0.pagesPerScan = pages } }
    public func setMirrors(progress: Double) { locked { $0.progress = progress } }
    public func failMirrors(_ error: SessionError) { locked { $0.mirrorFailure = error } }

    public var calls: [Call] { locked { $0.calls } }
    public func count(of call: Call) -> Int { locked { $0.calls.count { $0 == call } } }
    public func forgetCalls() { locked { $0.calls = [] } }
    public var violations: [String] { locked { $0.violations } }
    public var memory: [UInt8] { locked { $0.memory } }
    /// Its memory at each of its checkpoints, from the first on.
    public var cuts: [[UInt8]] { locked { $0.cuts } }
    public var isPrepared: Bool { locked { $0.isPrepared } }
    /// NICs whose output comes to a gate.
    public var tapped: Int { locked { _ in taps.values.count { $0.isAttached } } }
    public var mirrored: Int { locked { $0.mirrors } }
    /// Mirrors whose server may end without the guest's writes being done.
    public var heldMirrors: Int { locked { $0.heldMirrors } }
    /// Where the last mirror would speak NBD, as QEMU does; it says nothing by itself.
    public var mirrorSocket: Int32? { locked { $0.mirrorSocket?.number } }

    // MARK: - The port: steps

    /// Notes a call, lets the test interfere, and serves it under the lock.
    func step<Value>(_ call: Call, _ body: (inout State) -> Value) throws(SessionError) -> Value {
        let hook = locked { state -> (@Sendable () -> Void)? in
            state.calls.append(call)
            if !state.isOpen, call != .open, call != .scan, call != .copy {
                state.violations.append("\(call) of a guest that was closed")
            }
            guard var hooks = state.hooks[call], !hooks.isEmpty else { return nil }
            defer { state.hooks[call] = hooks }
            return hooks.removeFirst()
        }
        hook?()
        condition.lock()
        defer { condition.unlock() }
        while state.stalledAt == call, !process.hasExited() { wait() }
        if process.hasExited(), call != .close, call != .open { throw SessionError(.guestLost, "the guest is dead") }
        if let error = state.failures[call] { throw error }
        return body(&state)
    }

    private func demand(_ isSo: Bool, _ call: Call, _ state: inout State) {
        if !isSo { state.violations.append("\(call) while the guest is \(state.stand)") }
    }

    public func opened() throws(SessionError) {
        try step(.open) { $0.isOpen = true }
    }

    public func prepare() throws(SessionError) { try step(.prepare) { $0.isPrepared = true } }

    public func removeLeftovers() throws(SessionError) { try step(.removeLeftovers) { $0.isPrepared = false } }

    public func followMemory(purpose: String, isHelped: Bool) throws(SessionError) -> any GuestMemory {
        try step(.followMemory) { _ in FakeMemory(self) }
    }

    public func drainDisks() throws(SessionError) { try step(.drain) { $0.endReads() } }

    public func holdStill(for cause: Standstill.Cause) throws(SessionError) {
        try step(.holdStill) { state in
            demand(state.stand == .runs, .holdStill, &state)
            if !state.isPausedByOthers { state.stand = .held }
        }
    }

    public var isHeldStill: Bool { locked { $0.stand == .held } }
    public var stoppedByUs: Bool { locked { $0.stoppedByUs } }

    public func canSaveInOne() throws(SessionError) -> Bool {
        try step(.canSaveInOne) { $0.savesInOne && $0.stand == .runs && !$0.isPausedByOthers && $0.checkpoints > 0 }
    }

    public func stopAndSaveInOne() throws(SessionError) {
        try step(.stopAndSaveInOne) { state in
            demand(state.stand == .runs, .stopAndSaveInOne, &state)
            state.stand = .saving(inOne: true)
            state.stoppedByUs = !state.isPausedByOthers
        }
    }

    public func awaitDrained() throws(SessionError) -> Bool {
        try step(.awaitDrained) { state in
            demand(state.stand == .saving(inOne: true), .awaitDrained, &state)
            state.endReads()
            return !state.isInOneRefused
        }
    }

    public func awaitSaved() throws(SessionError) -> Bool {
        try step(.awaitSaved) { state in
            demand(state.stand == .saving(inOne: true), .awaitSaved, &state)
            state.endReads()
            state.stand = state.isInOneRefused ? .runs : .saved(inOne: true)
            defer { state.isInOneRefused = false }
            return !state.isInOneRefused
        }
    }

    public func stopAndSave() throws(SessionError) {
        try step(.stopAndSave) { state in
            demand(state.stand == .runs || state.stand == .held, .stopAndSave, &state)
            state.stoppedByUs = state.stand == .held || !state.isPausedByOthers
            state.stand = .saving(inOne: false)
            state.endReads()
        }
    }

    public func finishSave() throws(SessionError) {
        try step(.finishSave) { state in
            demand(state.stand == .saving(inOne: false), .finishSave, &state)
            state.stand = .saved(inOne: false)
        }
    }

    public func wasResumedByOthers() throws(SessionError) -> Bool {
        try step(.wasResumedByOthers) { state in
            demand(state.stand == .saved(inOne: false), .wasResumedByOthers, &state)
            defer { state.isResumedMeanwhile = false }
            if state.isResumedMeanwhile { state.stand = .runs }
            return state.isResumedMeanwhile
        }
    }

    /// What was copied must be the guest's memory at its cut.
    private func cut(_ state: inout State) {
        state.cuts.append(state.memory)
        state.checkpoints += 1
        let wrong = (0..<pages).filter { page in
            let bytes = page * pageSize..<(page + 1) * pageSize
            return state.memory[bytes] != state.copied[bytes]
        }
        if !wrong.isEmpty {
            state.violations.append("checkpoint \(state.checkpoints) has other contents of pages \(wrong)")
        }
        if !state.reads.isEmpty {
            state.violations.append("checkpoint \(state.checkpoints) was taken with reads in flight")
        }
    }

    public func release() throws(SessionError) {
        try step(.release) { state in
            guard case .saved(let inOne) = state.stand else { return demand(false, .release, &state) }
            cut(&state)
            if inOne { state.stand = .released }
        }
    }

    public func resume() throws(SessionError) {
        try step(.resume) { state in
            demand(state.stand == .released || state.stand == .saved(inOne: false), .resume, &state)
            state.stand = .runs
            condition.broadcast()
        }
    }

    public func takeDeviceState() throws(SessionError) -> [UInt8] {
        try step(.takeDeviceState) { state in
            // The last checkpoint of a session lets nothing run on.
            if case .saved = state.stand { cut(&state) } else { demand(state.stand == .runs, .takeDeviceState, &state) }
            return (0..<256).map { UInt8(truncatingIfNeeded: $0) } + Array("\(state.checkpoints)".utf8)
        }
    }

    public func confirmCheckpoint() throws(SessionError) { try step(.confirmCheckpoint) { _ in } }
    public func confirmMemory() throws(SessionError) { try step(.confirmMemory) { _ in } }

    public func letRunOn() {
        locked { state in
            state.calls.append(.letRunOn)
            state.stand = .runs
            condition.broadcast()
        }
    }

    // MARK: - The port: what is attached

    public func mirror(_ disk: OfferedDisk, to descriptor: Int32, copies: Bool) throws(SessionError) -> any DiskTap {
        try step(.mirror) { state in
            if state.stopsNested == 0 { state.violations.append("a mirror began while the guest ran") }
            state.mirrors += 1
            let mirror = FakeMirror(self, descriptor)
            state.mirrorSocket = mirror.socket
            return mirror
        }
    }

    public func serve(_ disk: OfferedDisk, at socket: String) throws(SessionError) -> any ServedTap {
        throw SessionError(.refused, "the disks of this guest are not served")
    }

    /// Those that an earlier agent left: there are none, or nobody can tell.
    public func leftServed() throws(SessionError) -> [UInt16] { try step(.leftServed) { _ in [] } }

    public func tap(_ nic: OfferedNIC) throws(SessionError) -> any NICTap {
        let tap: FakeTap
        do throws(SystemError) {
            tap = try FakeTap(self, nic.index)
        } catch {
            throw SessionError(.system, "no sockets: \(error)")
        }
        let before = try step(.tap) { state -> FakeTap? in
            defer { taps[nic.index] = tap }
            return taps[nic.index]
        }
        // What left before stays known.
        if let before {
            before.close()
            locked { $0.direct += before.left }
        }
        return tap
    }

    func untap(_ nic: UInt16) throws(SessionError) {
        try step(.untap) { state in
            if state.stopsNested == 0 { state.violations.append("an output filter was taken out while the guest ran") }
        }
        guard let tap = locked({ _ in taps.removeValue(forKey: nic) }) else { return }
        tap.close()
        locked { $0.direct += tap.left }
    }

    public func whileStopped<Failure: Error>(
        for cause: Standstill.Cause, _ body: () throws(Failure) -> Void
    ) throws(Failure) {
        locked { state in
            state.calls.append(.whileStopped)
            state.stopsNested += 1
        }
        standstill.begin(cause)
        defer {
            locked { state in
                state.stopsNested -= 1
                condition.broadcast()
            }
            standstill.end(after: .resume)
        }
        try body()
    }

    public func flushImages() {}

    public func agentLine() throws(SessionError) -> any GuestAgentLine {
        guard let agent = locked({ $0.agent }) else { throw SessionError(.refused, "it has no port for an agent") }
        return agent
    }
    public func isAgentPortOpen(_ line: any GuestAgentLine) throws(SessionError) -> Bool {
        try step(.lookAtPort) { $0.agent?.isPortOpen ?? false }
    }
    public func reset() throws(SessionError) {
        let agent = try step(.reset) { $0.agent }
        agent?.isPortOpen = false
        tell(.reset)
    }
    /// From the next session on.
    public var agent: FakeAgent? {
        get { locked(\.agent) }
        set { locked { $0.agent = newValue } }
    }

    // MARK: - The port: between sessions, and the process

    public func isRunning() throws(SessionError) -> Bool { isRunningNow }
    public func isMigratedAway() throws(SessionError) -> Bool { locked { $0.isMigratedAway } }
    public func writtenDiskBytes() throws(SessionError) -> UInt64 { 0 }

    public func takeNews() -> [GuestNews] {
        _ = newsArrived.take()
        return locked { state in
            defer { state.news = [] }
            return state.news
        }
    }

    public func resumeAnyway() {
        locked { state in
            state.calls.append(.resumeAnyway)
            (state.stand, state.isPausedByOthers) = (.runs, false)
            condition.broadcast()
        }
    }

    public func stopAnyway() {
        locked { state in
            state.calls.append(.stopAnyway)
            state.isPausedByOthers = true
        }
    }

    public func close() {
        locked { state in
            state.calls.append(.close)
            (state.isOpen, state.isPrepared) = (false, false)
        }
    }

    public var blocks: [RAMBlock] { description.ramBlocks }
    public var trackedBlocks: [TrackedBlock] { description.trackedPlaces }
    public var isAlive: Bool { !process.hasExited() && !locked(\.isDying) }
    public var exitDescriptor: Int32 { process.number }
    public var pollDescriptor: Int32 { newsArrived.number }
    public func end(by body: (borrowing PidDescriptor) -> Void) { body(process) }
    public func kill() {
        locked { $0.calls.append(.kill) }
        die()
    }
    public func hasEnded(within timeout: UInt64) -> Bool {
        locked(\.isDying) || (try? process.waitForExit(timeout: timeout)) ?? true
    }
    public func raisePriority(and helper: Int32?, encoder: Int32?) -> EpochPriority? { nil }
}

/// Finds the guest whatever its address is.
public struct FakeSource: GuestSource {
    private let guest: FakeGuest

    public init(_ guest: FakeGuest) { self.guest = guest }

    public func open(
        _ vm: VMName, at address: String, log: Logger, elsewhere: (GuestDescription) -> [String]
    ) throws(SessionError) -> any Guest {
        try guest.opened()
        return guest
    }
}
