import Crypto
import Foundation
import Messages
import Model
import NIOCore
import Pair
import Protocol
import Shipping
import Standby
import Storage
import Synchronization
import Transport
import Wire

/// A standby's shell, of a session whose level holds no output where nothing else is said. Its primary is the test, at the other end of a link over TLS on
/// loopback; its guest and its arbiter are fakes.
package final class StandbyScene {
    package let scene: ReplicaScene
    package let register = FakeRegister()
    package let primary: OtherEnd
    package let told = Told()
    package let shell: StandbyShell
    private let replica: Replica
    package let identity: StandbyIdentity
    private let listener: LinkListener
    /// What the guest has beside its disks.
    private let blocks: [RAMBlock]
    private let nics: [OfferedNIC]
    private var term: UInt64 = 5
    private var level: Level

    package static let vm = VMName(unchecked: "web")

    /// What the shell reported.
    package final class Told: Sendable {
        private let reports = Mutex<[SessionReport]>([])
        private let hook = Mutex<(@Sendable (SessionReport) -> Void)?>(nil)

        package var events: [String] {
            reports.withLock { $0 }.compactMap { if case .event(_, let text) = $0 { text } else { nil } }
        }

        package var failures: [String] {
            reports.withLock { $0 }.compactMap { if case .failure(let error) = $0 { error.message } else { nil } }
        }

        package var takeOvers: [TakeOverReport] {
            reports.withLock { $0 }.compactMap { if case .tookOver(let report, _, _) = $0 { report } else { nil } }
        }

        package var ended: String? {
            reports.withLock { $0 }.lazy.compactMap { if case .ended(let reason) = $0 { reason } else { nil } }.first
        }

        /// Called with each report, where it is made.
        package func onReport(_ body: @escaping @Sendable (SessionReport) -> Void) { hook.withLock { $0 = body } }

        package init() {}

        package func note(_ report: SessionReport) {
            reports.withLock { $0.append(report) }
            hook.withLock { $0 }?(report)
        }
    }

    private init(
        _ scene: ReplicaScene, at level: Level, _ configure: (inout Custody, FakeRegister) throws -> Void
    ) async throws {
        (self.scene, self.level) = (scene, level)
        (blocks, nics) = (scene.offer.blocks, scene.offer.nics)
        scene.offer.session.level = level
        if !level.holdsOutput { (scene.offer.blocks, scene.offer.nics) = ([], []) }
        scene.offer.silenceMilliseconds = 60_000
        var custody = Self.custody(register)
        try configure(&custody, register)
        var machine = StandbyMachine(node: custody.node, rule: custody.rule, record: custody.record, seed: 1)
        _ = machine.handle(.offered(scene.offer.session))
        _ = machine.handle(.persisted(machine.record.seen))
        guard let identity = machine.image?.identity else { throw PrimaryScene.Failure(description: "no image") }
        self.identity = identity
        replica = try Replica(
            offer: scene.offer, identity: identity, peer: FakeNodes.primary, places: scene.places, log: scene.log)
        _ = machine.handle(.prepared(scene.offer.session.session))

        let (door, primary) = (Door(), OtherEnd(imagePath: scene.imagePath))
        self.primary = primary
        listener = try await LinkListener.start(
            host: "127.0.0.1", port: 0, identity: FakeNodes.identity(FakeNodes.standby), allowed: [FakeNodes.primary],
            group: FakeNodes.group, refused: { _ in }, makeHandler: { door.open($0) })
        let link = try await LinkDialer.connect(
            host: "127.0.0.1", port: listener.port, identity: FakeNodes.identity(FakeNodes.primary),
            expectedPeer: FakeNodes.standby, timeout: .seconds(10), group: FakeNodes.group, handler: primary)
        // The dialer may have it first.
        while door.link == nil { try await Task.sleep(for: .milliseconds(1)) }
        primary.take(link, other: door.link)
        shell = try StandbyShell(
            replica: replica, machine: machine, custody: custody, link: door.link, heartbeatMilliseconds: 50,
            diskTimeoutMilliseconds: 60_000, secondPath: nil, log: scene.log,
            report: { [told] in told.note($0) })
        door.admit(to: shell)
    }

    package static func custody(_ register: FakeRegister) -> Custody {
        Custody(
            node: FakeNodes.standby, rule: .arbiter, arbiter: register, reprotection: .automatic, record: LocalRecord(),
            identify: { (_, _) throws(SessionError) in throw SessionError(.refused, "nobody asks a standby") },
            persist: { _ in })
    }

    /// Puts a scene together, runs `body` with it and takes it down.
    package static func with(
        at level: Level = .restart, _ configure: (inout Custody, FakeRegister) throws -> Void = { _, _ in },
        _ body: (StandbyScene) async throws -> Void
    ) async throws {
        await Turns.shared.take()
        defer { Turns.shared.giveBack() }
        let scene = try await StandbyScene(try ReplicaScene(), at: level, configure)
        let outcome: Result<Void, any Error>
        do {
            try await body(scene)
            outcome = .success(())
        } catch {
            outcome = .failure(error)
        }
        // Its primary goes on alone: a replica that is left is outdated.
        scene.register.set(vm, scene.alone)
        scene.register.be(.answers)
        scene.primary.hangUp()
        scene.shell.dismiss(reason: "the test is over")
        await scene.listener.shutdown()
        try outcome.get()
        guard scene.primary.violations.isEmpty else {
            throw PrimaryScene.Failure(description: scene.primary.violations.joined(separator: "; "))
        }
    }

    /// Looks every millisecond until it is so.
    package func wait(for what: String, _ isSo: () -> Bool) async throws {
        for _ in 0..<10_000 {
            if isSo() { return }
            try await Task.sleep(for: .milliseconds(1))
        }
        throw PrimaryScene.Failure(
            description: "\(what) did not come: phase \(shell.status.phase.rawValue), events \(told.events),"
                + " failures \(told.failures), ended \(told.ended ?? "not"), closed \(primary.isClosed),"
                + " answers \(primary.taken)")
    }

    /// The register of the pair.
    package var pair: Register {
        Register(
            term: Term(term), owner: FakeNodes.primary, mode: .paired, session: scene.offer.session.session,
            standby: identity, lineage: scene.offer.session.lineage, level: level)
    }

    /// One in which nobody waits for this standby.
    private var alone: Register {
        Register(
            term: Term(99), owner: FakeNodes.primary, mode: .solo, session: .none, standby: nil,
            lineage: scene.offer.session.lineage, level: .restart)
    }

    /// The first copy is whole, checkpoint 1 is acknowledged, and the pair is known.
    package func protect() async throws {
        primary.send(Synced(frameCount: 0, byteCount: 0))
        primary.endCheckpoint()
        try await wait(for: "protection") { shell.status.phase == .protected }
        try await wait(for: "its acknowledgement") { primary.acknowledged == [1] }
        tellPair()
    }

    private func tellPair() {
        register.set(Self.vm, pair)
        primary.send(RegisterMessage(pair).frame)
    }

    // MARK: - The dial

    /// The register names another level, as the next term has it.
    package func turn(to level: Level) {
        term += 1
        self.level = level
        tellPair()
    }

    package func askForMemory() { primary.send(AttachMessage(.memory, blocks: blocks, nics: nics).frame) }

    /// What the standby says about memory that it is to attach.
    package func attachMemory() async throws -> AttachedMessage {
        let count = primary.attached.count + 1
        askForMemory()
        try await wait(for: "an answer about memory") { primary.attached.count == count }
        return primary.attached[count - 1]
    }

    /// All that was sent before is done.
    package func settle() async throws {
        let count = primary.replies + 1
        primary.send(DiskRead(id: UInt64(count), disk: 0, offset: 0, length: 1))
        try await wait(for: "an answer") { primary.replies == count }
    }

    /// Nothing can be written to them any more.
    package func closeImages() throws { for disk in replica.disks { try disk.image.close() } }

    /// What the image has there.
    package func image(_ offset: Int, _ count: Int) throws -> [UInt8] {
        try OtherEnd.read(scene.imagePath, offset, count)
    }
}

/// Passes the frames of the link that is opened first on to the shell, once there is one.
private final class Door: LinkHandler {
    private let opened = Mutex<Link?>(nil)
    private let shell = Mutex<StandbyShell?>(nil)

    var link: Link? { opened.withLock { $0 } }

    func open(_ link: Link) -> any LinkHandler {
        opened.withLock { $0 = link }
        return self
    }

    func admit(to shell: StandbyShell) { self.shell.withLock { $0 = shell } }

    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        shell.withLock { $0 }?.link(link, received: header, body: body)
    }

    func linkClosed(_ link: Link, error: LinkError?) { shell.withLock { $0 }?.linkClosed(link, error: error) }
}

/// A primary's end of a link, as the test wants it.
package final class OtherEnd: LinkHandler {
    private struct State {
        var link: Link?
        var other: Link?
        var taken: [UInt64] = []
        var acknowledged: [UInt64] = []
        var promises: [UInt64] = []
        var goodbyes: [String] = []
        var attached: [AttachedMessage] = []
        var replies = 0
        var isClosed = false
        /// Nothing may be answered for after it.
        var isOver = false
        /// Where the writes lie, in their order, and what they are all of.
        var writes: [(offset: Int, byte: UInt8)] = []
        var violations: [String] = []
    }

    private static let mark: UInt64 = 0x6d61_726b
    private let imagePath: String
    private let state = Mutex(State())

    init(imagePath: String) { self.imagePath = imagePath }

    fileprivate func take(_ link: Link, other: Link?) {
        state.withLock { state in
            (state.link, state.other) = (link, other)
        }
    }

    /// The counts that came, in order.
    package var taken: [UInt64] { state.withLock { $0.taken } }
    package var acknowledged: [UInt64] { state.withLock { $0.acknowledged } }
    /// The questions that were answered by a promise.
    package var promises: [UInt64] { state.withLock { $0.promises } }
    package var goodbyes: [String] { state.withLock { $0.goodbyes } }
    package var attached: [AttachedMessage] { state.withLock { $0.attached } }
    package var link: Link? { state.withLock { $0.link } }
    package var replies: Int { state.withLock { $0.replies } }
    package var isClosed: Bool { state.withLock { $0.isClosed } }
    package var violations: [String] { state.withLock { $0.violations } }

    package func send(_ frame: ByteBuffer) { _ = state.withLock { $0.link }?.send(frame) }
    package func send(_ header: FrameHeader) {
        var frame = ByteBuffer(repeating: 0, count: FrameHeader.size)
        frame.withUnsafeMutableReadableBytes { header.write(into: $0) }
        send(frame)
    }
    package func send(_ body: some FrameBody, epoch: UInt64 = 0) { send(controlFrame(body, epoch: Epoch(epoch))) }
    package func hangUp() { state.withLock { $0.link }?.close(LinkError(peer: "beta", .lost("by the test"))) }

    /// From what is sent to this end next on, no write may be answered for.
    package func endAnswers() {
        _ = state.withLock { $0.other }?.send(controlFrame(Heartbeat(sent: Self.mark, echo: Self.mark)))
    }

    package func endCheckpoint(_ epoch: UInt64 = 1, sections: [CheckpointEnd.Section] = []) {
        let nothing = SHA256().finalize().withUnsafeBytes { CheckpointDigest($0) }
        send(CheckpointEnd(digest: nothing, sections: sections), epoch: epoch)
    }

    /// Block after block of 4096 bytes, each all of one byte, as one piece of the stream.
    package func write(_ count: Int, from first: Int = 0, byte: UInt8 = 7, epoch: UInt64 = 2) {
        var frames = ByteBuffer()
        for number in first..<(first + count) {
            let block = [UInt8](repeating: byte, count: 4096)
            let offset = number * 4096 % Int(ReplicaScene.diskBytes)
            state.withLock { $0.writes.append((offset, byte)) }
            block.withUnsafeBytes { data in
                _ = frames.writeImmutableBuffer(
                    controlFrame(DiskWrite(disk: 0, offset: UInt64(offset), data: data), epoch: Epoch(epoch)))
            }
        }
        do {
            try state.withLock { $0.link }?.enqueue(frames)
        } catch {
            state.withLock { $0.violations.append("writes cannot be sent: \(error)") }
        }
    }

    /// The block is zero from then on.
    package func zero(block number: Int) {
        state.withLock { $0.writes.append((number * 4096, 0)) }
        send(DiskZero(disk: 0, mayUnmap: true, offset: UInt64(number * 4096), length: 4096), epoch: 2)
    }

    static func read(_ path: String, _ offset: Int, _ count: Int) throws -> [UInt8] {
        let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
        defer { try? file.close() }
        try file.seek(toOffset: UInt64(offset))
        return Array(try file.read(upToCount: count) ?? Data())
    }

    package func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        state.withLock { state in
            do {
                try body.withUnsafeReadableBytes { try note(header, $0, &state) }
                if header.type == .attached { state.attached.append(try AttachedMessage(body)) }
                if header.type == .goodbye { state.goodbyes.append(try GoodbyeMessage(body).reason) }
            } catch {
                state.violations.append("a \(header.type) frame cannot be read: \(error)")
            }
        }
    }

    private func note(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, _ state: inout State) throws {
        switch header.type {
        case .ack: state.acknowledged.append(header.epoch)
        case .promise: state.promises.append(try Promise(parsing: body).question)
        case .diskReadReply: state.replies += 1
        case .heartbeat where !body.isEmpty:
            if try Heartbeat(parsing: body).echo == Self.mark { state.isOver = true }
        case .diskTaken: try note(DiskTaken(parsing: body), &state)
        default: break
        }
    }

    /// What is answered for is in the image.
    private func note(_ answer: DiskTaken, _ state: inout State) throws {
        let before = state.taken.last ?? 0
        if state.isOver { state.violations.append("\(answer.count) writes were answered for too late") }
        guard answer.count > before, answer.count <= UInt64(state.writes.count) else {
            state.violations.append("\(answer.count) of \(state.writes.count) writes were taken, after \(before)")
            return
        }
        for write in state.writes[Int(before)..<Int(answer.count)]
        where try Self.read(imagePath, write.offset, 4096) != [UInt8](repeating: write.byte, count: 4096) {
            state.violations.append("the write at \(write.offset) was answered for, and is not in the image")
        }
        state.taken.append(answer.count)
    }

    package func linkClosed(_ link: Link, error: LinkError?) {
        state.withLock { $0.isClosed = true }
        link.close()
    }
}
