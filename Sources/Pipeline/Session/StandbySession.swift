import Foundation
import GuestNetwork
import LinuxSystem
import Logging
import Model
import NIOCore
import Protocol
import QEMU
import Storage
import Synchronization
import Transport
import Wire

/// The standby's side of one protected VM: stages what arrives, acknowledges, applies, and resumes the guest when it
/// has to.
///
/// Frames arrive on the link's event loop, which stages them and acknowledges; a thread of its own applies them and
/// does everything that may take long. One lock guards the state machine, so staging, acknowledging and resuming are
/// serialised: nothing is acknowledged once the guest was resumed here.
public final class StandbySession: LinkHandler, Sendable {
    /// What the apply thread has to do next, in order.
    private enum Work: Sendable {
        case direct(FrameHeader, ByteBuffer)
        case checkpoint(Epoch)
        case read(DiskRead)
        case digests(DiskDigests)
        case pageDigests(PageDigests)
        case load(from: Epoch)
        case resume(from: Epoch)
        case endReplica
        case dismantle(reason: String)
    }

    private struct State {
        var machine: StandbyMachine
        var stage: Stage
        var link: Link?
        var work: [Work] = []
        var workHead = 0
        var directBytes = 0
        /// What came of the first copy, to compare with what the primary says it sent.
        var firstCopy = Synced(frameCount: 0, byteCount: 0)
        var pending: [(header: FrameHeader, body: ByteBuffer)] = []
        var readingPaused = false
        var outputs: [HeldOutput] = []
        var takeOver: TakeOverRequest?
        /// Of epochs that are staged and not acknowledged.
        var digests: [Epoch: CheckpointDigest] = [:]
        var hasStarted = false
        var watch: PeerWatch
        /// The link is lost, and the primary's host is heard: the primary may ask first, until then.
        var heldBack: (reason: String, until: UInt64)?
        /// Under which the guest runs here.
        var won: Register?
        var status: StandbyStatus
        var finished = false
        /// Whether the memory is kept, as the base of a later replica, when this one is dismantled.
        var keepsMemory = true

        mutating func enqueue(_ item: Work) { work.append(item) }
        mutating func dequeue() -> Work? {
            guard workHead < work.count else { return nil }
            defer {
                workHead += 1
                if workHead == work.count {
                    work.removeAll(keepingCapacity: true)
                    workHead = 0
                }
            }
            return work[workHead]
        }
    }

    private struct TakeOverRequest: Sendable {
        var cause: TakeOverCause
        var reason: String
        var decidedAt: UInt64
        var completions: [@Sendable (Result<TakeOverReport, SessionError>) -> Void] = []
    }

    /// The most of the first copy that waits in memory for the apply thread, in bytes.
    private static let directBytesMax = 64 << 20

    public let vm: VMName
    private let offer: OfferMessage
    private var session: SessionID { offer.session.session }
    private let replica: Replica
    private let state: Mutex<State>
    private let wake: EventDescriptor
    private let startedAt = MonotonicClock.now()
    private let heartbeat = Mutex<HeartbeatThread?>(nil)
    private let heartbeatMilliseconds: Int
    private let custody: Custody
    private let questions: ArbiterQuestions?
    private let report: @Sendable (SessionReport) -> Void
    private let log: Logger
    /// After a restart of the agent: the first epoch that is applied once more.
    private let firstRecovered: Epoch?

    /// Goes on with a replica whose QEMU waits for its state. `report` is called from any thread.
    /// - Parameters:
    ///   - machine: the one that accepted the offer; nil for a replica that an earlier run of the agent left.
    ///   - secondPath: another way to the primary's host.
    public init(
        replica: Replica, machine accepted: StandbyMachine?, custody: Custody, link: Link?,
        heartbeatMilliseconds: Int, secondPath: SecondPath?, log: Logger,
        report: @escaping @Sendable (SessionReport) -> Void
    ) throws(SystemError) {
        vm = replica.offer.vm
        offer = replica.offer
        self.replica = replica
        self.custody = custody
        questions = custody.arbiter.map { ArbiterQuestions(replica.offer.vm, $0) }
        self.report = report
        self.log = log
        wake = try EventDescriptor()
        var stage = Stage(slots: replica.slots)
        let recovered = replica.recovering ? stage.recover() : []
        firstRecovered = recovered.first
        let machine =
            accepted
            ?? StandbyMachine(
                node: custody.node, arbitration: custody.rule, record: custody.record,
                fences: Set(custody.fences.keys), seed: .random(in: 1 ... .max), found: replica.image,
                staged: recovered.last ?? replica.appliedEpoch,
                applied: recovered.first.map { Epoch($0.number - 1) } ?? replica.appliedEpoch)
        var status = StandbyStatus()
        status.staged = recovered.last ?? replica.appliedEpoch
        status.applied = replica.appliedEpoch
        status.qemuPID = replica.qemuPID
        status.qmpPath = replica.qmpPath
        status.phase = replica.recovering ? .peerLost : .syncing
        self.heartbeatMilliseconds = heartbeatMilliseconds
        let limits = SilenceJudge.Limits(
            replica.offer, interval: heartbeatMilliseconds, peerInterval: replica.offer.heartbeatMilliseconds)
        let watch = PeerWatch(limits, secondPath: secondPath, now: startedAt)
        state = Mutex(State(machine: machine, stage: stage, link: link, watch: watch, status: status))
        // An earlier run may have been killed in the middle of an apply: everything complete is applied once more.
        state.withLock { state in
            for epoch in recovered {
                restage(epoch, &state)
                state.enqueue(.checkpoint(epoch))
            }
        }
        let beats = try HeartbeatThread(
            "\(vm)", milliseconds: heartbeatMilliseconds,
            borne: replica.offer.silenceFloorMilliseconds ?? replica.offer.silenceMilliseconds
        ) { [weak self] in self?.beat($0) ?? .max }
        heartbeat.withLock { $0 = beats }
        _ = try NamedThread.start("apply-\(replica.offer.vm)") { [self] in run() }
    }

    public var status: StandbyStatus {
        state.withLock { state in
            var status = state.status
            status.stagedBytes = state.stage.stagedBytes
            status.term = state.machine.register?.term ?? offer.session.term
            status.peer = state.watch.view
            return status
        }
    }

    /// The primary's agent is heard, over the second path when the link is gone.
    public var hearsPrimary: Bool { state.withLock { $0.watch.hostLives } }

    /// The operator says that the primary is off: runs the guest here from the last committed checkpoint, once the
    /// arbiter agrees where there is one. `completion` is called once, from any thread.
    public func takeOver(
        reason: String, completion: @escaping @Sendable (Result<TakeOverReport, SessionError>) -> Void
    ) {
        state.withLock { state in
            stopHoldingBack(&state)
            switch state.machine.state {
            case .loading, .takingOver, .resuming, .arbitrating: state.takeOver?.completions.append(completion)
            default:
                state.takeOver = TakeOverRequest(
                    cause: .operator, reason: reason, decidedAt: MonotonicClock.now(), completions: [completion])
                perform(state.machine.handle(.force), &state)
            }
        }
        wake.signal()
    }

    /// Gives the replica up: ends its QEMU and removes its files, unless the guest runs here already.
    public func dismiss(reason: String) {
        state.withLock { state in
            stopHoldingBack(&state)
            state.status.lastError = reason
            state.keepsMemory = false
            perform(state.machine.handle(.giveUp), &state)
        }
        wake.signal()
    }

    /// How a switchover to this host stands.
    public var switchover: Switchover {
        state.withLock { state in
            switch state.machine.state {
            case .running: .done
            case .failed, .returning, .none: .failed(state.status.lastError ?? "no reason given")
            default: .underWay
            }
        }
    }

    /// Tells the primary what this host's operator wants of it. False when there is no primary to tell.
    public func ask(_ wish: WishMessage.Wish, because reason: String) -> Bool {
        state.withLock { state in
            guard let link = state.link else { return false }
            link.send(WishMessage(wish: wish, reason: reason).frame)
            return true
        }
    }

    /// Another offer for the same VM. When it is to be followed, this replica is given up, and the machine that goes on
    /// is returned; else the reason why not.
    public func consider(_ offer: SessionOffer) -> Result<StandbyMachine, SessionError> {
        state.withLock { state in
            var machine = state.machine
            for case .refuse(_, let reason, let known) in machine.handle(.offered(offer)) {
                return .failure(SessionError(.refused, reason, knows: known))
            }
            state.status.lastError = "a newer session takes its place"
            state.heldBack = nil
            state.link?.close()
            state.link = nil
            questions?.stop()
            state.enqueue(.dismantle(reason: "a newer session takes its place"))
            wake.signal()
            return .success(machine)
        }
    }

    /// When anything was last received from the primary's node, by `MonotonicClock`; 0 when there is no link to it.
    public var lastHeard: UInt64 { state.withLock { $0.link?.lastReceived ?? 0 } }

    /// The command line of the QEMU that waits here.
    public var command: StandbyCommand { replica.command }

    /// What tells the primary that this session is ready for its first copy.
    public var acceptance: ByteBuffer {
        AcceptMessage(
            identity: replica.image.identity, qemuPID: replica.qemuPID, qemuVersion: offer.guest.qemu.description,
            baseBytes: replica.baseBytes, heartbeatMilliseconds: heartbeatMilliseconds
        ).frame
    }

    // MARK: - Frames, on the link's event loop

    public func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        state.withLock { state in
            do throws(SessionError) {
                if state.readingPaused || !state.pending.isEmpty {
                    state.pending.append((header, body))
                } else {
                    try accept(header, body, &state)
                }
            } catch {
                fail(error, &state)
            }
        }
        wake.signal()
    }

    public func linkClosed(_ link: Link, error: LinkError?) {
        state.withLock { state in
            guard state.link === link else { return }
            loseLink(error.map { "\($0)" } ?? "the primary closed the connection", &state)
        }
        wake.signal()
    }

    private func accept(_ header: FrameHeader, _ body: ByteBuffer, _ state: inout State) throws(SessionError) {
        switch header.type {
        case .pages, .deviceState, .output, .diskWrite, .diskZero:
            try acceptData(header, body, &state)
        case .checkpointEnd:
            try acceptCheckpointEnd(header, body, &state)
        case .released:
            state.outputs.removeAll { $0.epoch.number <= header.epoch }
        case .heartbeat:
            break
        case .diskRead:
            state.enqueue(.read(try parse(body) { (bytes) throws(WireError) in try DiskRead(parsing: bytes) }))
        case .diskDigests:
            state.enqueue(.digests(try parse(body) { (bytes) throws(WireError) in try DiskDigests(parsing: bytes) }))
        case .pageDigests:
            state.enqueue(
                .pageDigests(try parse(body) { (bytes) throws(WireError) in try PageDigests(parsing: bytes) }))
        case .takeOver:
            let asked = try parse(body) { (bytes) throws(WireError) in try TakeOver(parsing: bytes) }
            let reason =
                asked.guestStands
                ? "a switchover: the guest stands still at the primary" : "the primary's agent saw the guest's QEMU die"
            report(.event("take-over-asked", reason))
            state.takeOver = TakeOverRequest(
                cause: asked.guestStands ? .switchover : .guestDied, reason: reason, decidedAt: MonotonicClock.now())
            perform(state.machine.handle(.takeOver(session, asked.term, guestStands: asked.guestStands)), &state)
        case .register:
            let message = try RegisterMessage(body)
            perform(state.machine.handle(.registerTold(session, message.register)), &state)
        case .goodbye:
            let message = try GoodbyeMessage(body)
            state.status.lastError = message.reason
            // Who only failed may come back.
            state.keepsMemory = message.kind == .failed
            perform(state.machine.handle(.dismissed(session)), &state)
        case .synced:
            let synced = try parse(body) { (bytes) throws(WireError) in try Synced(parsing: bytes) }
            guard synced.frameCount == state.firstCopy.frameCount, synced.byteCount == state.firstCopy.byteCount else {
                throw SessionError(
                    .protocolBroken,
                    "the first copy is not whole: \(state.firstCopy.frameCount) of \(synced.frameCount) frames came")
            }
        case .hello, .offer, .accept, .refuse, .ack, .diskReadReply, .diskDigestsReply, .pageDigestsReply, .wish,
            .registerRequest, .registerReply:
            throw SessionError(
                .protocolBroken, "a \(header.type) frame cannot come from a primary in a running session")
        }
    }

    private func acceptData(_ header: FrameHeader, _ body: ByteBuffer, _ state: inout State) throws(SessionError) {
        let epoch = Epoch(header.epoch)
        if epoch == .firstCopy {
            state.directBytes += body.readableBytes
            state.firstCopy.frameCount += 1
            state.firstCopy.byteCount += UInt64(FrameHeader.size + body.readableBytes)
            state.enqueue(.direct(header, body))
            if state.directBytes > Self.directBytesMax { pauseReading(&state) }
            return
        }
        switch try state.stage.add(header, body) {
        case .full:
            state.pending.append((header, body))
            pauseReading(&state)
        case .stored(let stored):
            do {
                try take(header, stored, &state)
            } catch let error as SessionError {
                throw error
            } catch {
                throw SessionError(.protocolBroken, "a \(header.type) frame of epoch \(epoch) is not valid: \(error)")
            }
        }
    }

    private func acceptCheckpointEnd(
        _ header: FrameHeader, _ body: ByteBuffer, _ state: inout State
    ) throws(SessionError) {
        let end = try parse(body) { (bytes) throws(WireError) in try CheckpointEnd(parsing: bytes) }
        let epoch = Epoch(header.epoch)
        try state.stage.finish(epoch, end)
        state.status.staged = epoch
        state.digests[epoch] = end.digest
        perform(state.machine.handle(.staged(session, epoch)), &state)
    }

    private func parse<Value>(
        _ body: ByteBuffer, _ parse: (UnsafeRawBufferPointer) throws(WireError) -> Value
    ) throws(SessionError) -> Value {
        do {
            return try body.withUnsafeReadableBytes { try parse($0) }
        } catch {
            throw SessionError(.protocolBroken, "the primary sent a frame that is not valid: \(error)")
        }
    }

    /// Puts the disk writes and the held output of a recovered epoch back to where they were.
    private func restage(_ epoch: Epoch, _ state: inout State) {
        guard let frames = state.stage.frames(of: epoch) else { return }
        var walk = StagedFrames(frames)
        do {
            while let (header, body) = try walk.next() { try take(header, body, &state) }
        } catch {
            fail(SessionError(.storage, "checkpoint \(epoch) cannot be taken up: \(error)"), &state)
        }
    }

    /// Takes note of what is in a staged frame that must be known before it is applied.
    private func take(_ header: FrameHeader, _ stored: UnsafeRawBufferPointer, _ state: inout State) throws {
        let epoch = Epoch(header.epoch)
        switch header.type {
        case .diskWrite:
            let write = try DiskWrite(parsing: stored)
            try replica.disk(write.disk).stage(epoch: epoch, offset: write.offset, data: write.data)
        case .diskZero:
            let zero = try DiskZero(parsing: stored)
            try replica.disk(zero.disk).stageZero(
                epoch: epoch, offset: zero.offset, length: zero.length, mayUnmap: zero.mayUnmap)
        case .output:
            state.outputs.append(HeldOutput(try OutputFrame(parsing: stored), epoch: epoch))
        default: break
        }
    }

    // MARK: - Decisions, under the lock

    private func handle(_ event: StandbyMachine.Event) {
        state.withLock { perform($0.machine.handle(event), &$0) }
        wake.signal()
    }

    private func perform(_ actions: [StandbyMachine.Action], _ state: inout State) {
        for action in actions {
            switch action {
            case .acknowledge(let epoch):
                guard let digest = state.digests.removeValue(forKey: epoch) else { break }
                state.link?.send(controlFrame(Ack(digest: digest), epoch: epoch))
            case .apply(let epoch): state.enqueue(.checkpoint(epoch))
            case .discard(let epoch):
                state.stage.discardIncomplete()
                state.pending = []
                state.digests = [:]
                for disk in replica.disks { disk.discard(after: epoch) }
            case .compareAndSet(let expected, let new, let nonce):
                report(.event("asked", new.question(to: custody.arbiter?.name)))
                questions?.compareAndSet(expecting: expected, to: new, nonce: nonce) { [weak self] answer in
                    self?.report(answer.event)
                    self?.handle(.answered(nonce, answer))
                }
            case .readRegister:
                questions?.read { [weak self] reading in
                    switch reading {
                    case .value(let register): self?.handle(.registerRead(register))
                    case .unknown(let reason):
                        self?.state.withLock { $0.status.lastError = reason }
                        self?.handle(.registerUnreadable(reason))
                    }
                }
            case .persist(let record): persist(record)
            case .fencePeer(let peer, let nonce):
                let reason = state.takeOver?.reason ?? "the primary is lost"
                custody.fences[peer]?.ask(for: vm, as: .standby, reason: reason) { [weak self] ending in
                    self?.handle(StandbyMachine.Event(ending, of: peer, nonce))
                }
            case .stopFencing: for fence in custody.fences.values { fence.stop(for: vm) }
            case .confirmDismissal:
                state.link?.send(GoodbyeMessage(kind: .unprotected, reason: "nothing goes on from here").frame)
            case .closeLink:
                state.link?.close()
                state.link = nil
            case .load(let epoch): state.enqueue(.load(from: epoch))
            case .resume(let epoch): state.enqueue(.resume(from: epoch))
            case .tellRunning(let register): state.link?.send(RegisterMessage(register).frame)
            case .becomePrimary(let register): state.won = register
            case .endReplica: state.enqueue(.endReplica)
            case .giveBack:
                let reason = "\(custody.node) gave the guest back: \(state.status.lastError ?? "no reason given")"
                state.link?.send(GoodbyeMessage(kind: .handedBack, reason: reason).frame)
            case .reportPrimaryLost:
                state.status.phase = .peerLost
            case .dismantle:
                let reason = state.status.lastError ?? "the primary ended protection"
                complete(.failure(SessionError(.refused, reason)), &state)
                state.enqueue(.dismantle(reason: reason))
            case .refuseCommand(let reason):
                complete(.failure(SessionError(.refused, "\(vm) cannot be taken over: \(reason)")), &state)
            case .report(let text):
                state.status.lastError = text
                report(.event("decided", text))
            case .prepare, .accept, .refuse:
                preconditionFailure("offers are answered before the session begins")
            }
        }
        switch state.machine.state {
        case .loading, .takingOver, .resuming: state.status.phase = .failingOver
        default: break
        }
    }

    private func complete(_ outcome: Result<TakeOverReport, SessionError>, _ state: inout State) {
        let completions = state.takeOver?.completions ?? []
        state.takeOver?.completions = []
        for completion in completions { completion(outcome) }
    }

    private func persist(_ record: LocalRecord) {
        decisionQueue.async { [self] in
            do {
                try custody.persist(record)
                handle(.persisted(record.seen))
            } catch {
                let failure = SessionError(
                    .system, "what was decided about \(vm) cannot be kept, so nothing rests on it: \(error)")
                state.withLock { $0.status.lastError = failure.message }
                report(.failure(failure))
            }
        }
    }

    private func pauseReading(_ state: inout State) {
        guard !state.readingPaused else { return }
        state.readingPaused = true
        state.link?.pauseReading()
    }

    /// Takes up frames that had to wait, once there is room again.
    private func resumeReading(_ state: inout State) {
        guard state.readingPaused, state.directBytes <= Self.directBytesMax / 2 else { return }
        state.readingPaused = false
        var waiting = state.pending[...]
        state.pending = []
        while let next = waiting.first, !state.readingPaused {
            waiting = waiting.dropFirst()
            do throws(SessionError) { try accept(next.header, next.body, &state) } catch { return fail(error, &state) }
        }
        state.pending.append(contentsOf: waiting)
        if !state.readingPaused { state.link?.resumeReading() }
    }

    /// What the primary did wrong ends the link and leaves the image whole; a failure of our own loses the image.
    private func fail(_ error: SessionError, _ state: inout State) {
        log.error("\(error)", metadata: ["vm": "\(vm)"])
        state.status.lastError = error.message
        report(.failure(error))
        let link = state.link
        state.link = nil
        link?.close()
        if error.code == .protocolBroken {
            loseLink(error.message, &state)
        } else {
            perform(state.machine.handle(.imageLost(error.message)), &state)
        }
    }

    private func losePrimary(_ reason: String, _ state: inout State) {
        let now = MonotonicClock.now()
        if state.status.lastError == nil { state.status.lastError = reason }
        if state.takeOver == nil {
            state.takeOver = TakeOverRequest(cause: .primaryLost, reason: reason, decidedAt: now)
        }
        let before = state.machine.state
        let actions = state.machine.handle(.linkLost(session))
        if !actions.isEmpty, before == .holding {
            report(.event("peer-lost", "the primary is not heard any more: \(reason)"))
        }
        perform(actions, &state)
    }

    // MARK: - The apply thread

    private func run() {
        var applier = Applier(memory: replica.memory, disks: replica.disks)
        var hasQEMU = true
        var loaded: TakeOverReport?
        defer { heartbeat.withLock { $0?.stop() } }
        defer { questions?.stop() }
        if replica.recovering { applier.restore(deviceState: replica.savedDeviceState(before: firstRecovered)) }
        while true {
            let (item, finished) = state.withLock { ($0.dequeue(), $0.finished) }
            if finished { return }
            guard let item else {
                waitReadable(
                    [wake.number, hasQEMU ? replica.qemuExitDescriptor : -1], nanoseconds: 1_000_000_000)
                _ = wake.take()
                if hasQEMU, let ending = replica.qemuEnding {
                    hasQEMU = false
                    loseQEMU(ending)
                }
                continue
            }
            do throws(SessionError) {
                try handle(item, &applier, &loaded)
            } catch {
                state.withLock { fail(error, &$0) }
            }
        }
    }

    /// Without its QEMU the replica is of no use: the primary must know that it has no standby any more.
    private func loseQEMU(_ ending: String) {
        state.withLock { state in
            let error = SessionError(.qemu, "the QEMU that waited for \(vm) here \(ending): protect it again")
            let actions = state.machine.handle(.imageLost(error.message))
            guard !actions.isEmpty else { return }
            state.status.lastError = error.message
            report(.failure(error))
            perform(actions, &state)
        }
    }

    private func handle(
        _ item: Work, _ applier: inout Applier, _ loaded: inout TakeOverReport?
    ) throws(SessionError) {
        switch item {
        case .direct(let header, let body):
            try body.withUnsafeReadableBytes { (bytes) throws(SessionError) in
                try applier.applyDirectly(header, bytes)
            }
            state.withLock { state in
                state.directBytes -= body.readableBytes
                state.status.firstCopyBytes += UInt64(body.readableBytes)
                resumeReading(&state)
            }
        case .checkpoint(let epoch):
            guard let frames = state.withLock({ $0.stage.frames(of: epoch) }) else { return }
            try applier.apply(epoch, frames)
            try replica.noteApplied(epoch, deviceState: applier.deviceState)
            state.withLock { state in
                state.stage.free(epoch)
                state.status.applied = epoch
                perform(state.machine.handle(.applied(session, epoch)), &state)
                if epoch == Epoch(1), case .holding = state.machine.state {
                    state.status.phase = .protected
                    report(.event("standby-ready", "checkpoint 1 is complete: this host can take over"))
                }
                resumeReading(&state)
            }
        case .read(let request): answer(request)
        case .digests(let request): answer(request)
        case .pageDigests(let request): try answer(request)
        case .load(let epoch): loaded = load(from: epoch, applier.deviceState)
        case .resume(let epoch): resume(from: epoch, applier.deviceState, loaded)
        case .endReplica:
            replica.endQEMU()
            handle(.replicaEnded)
        case .dismantle(let reason):
            replica.dismantle(keepingMemory: state.withLock { $0.keepsMemory })
            state.withLock { state in
                state.status.phase = .ended
                state.finished = true
                state.link?.close()
            }
            report(.ended(reason))
        }
    }

    private func answer(_ request: DiskRead) {
        var data = [UInt8](repeating: 0, count: Int(request.length))
        var status: UInt32 = 0
        do {
            let disk = try replica.disk(request.disk)
            try data.withUnsafeMutableBufferPointer { (bytes) throws(StorageError) in
                try disk.read(offset: request.offset, into: UnsafeMutableRawBufferPointer(bytes))
            }
        } catch {
            log.warning("a disk read of the primary failed: \(error)", metadata: ["vm": "\(vm)"])
            status = UInt32(EIO)
            data = []
        }
        let frame = data.withUnsafeBytes { controlFrame(DiskReadReply(id: request.id, status: status, data: $0)) }
        state.withLock { $0.link }?.send(frame)
    }

    private func answer(_ request: DiskDigests) {
        do {
            guard request.chunkSize == UInt32(ChunkDigest.chunkSize) else {
                throw SessionError(.protocolBroken, "digests of \(request.chunkSize)-byte chunks were asked for")
            }
            let digests = try replica.disk(request.disk).digests(
                firstChunk: request.first, count: Int(request.count))
            let frame = digests.withUnsafeBytes {
                controlFrame(
                    DiskDigestsReply(
                        disk: request.disk, chunkSize: request.chunkSize, first: request.first, digests: $0))
            }
            state.withLock { $0.link }?.send(frame)
        } catch {
            // The primary goes on without: it then sends everything.
            log.warning("digests of the disk image cannot be made: \(error)", metadata: ["vm": "\(vm)"])
        }
    }

    private func answer(_ request: PageDigests) throws(SessionError) {
        let digests = try replica.memory.digests(request)
        let frame = digests.withUnsafeBytes {
            controlFrame(PageDigestsReply(block: request.block, first: request.first, digests: $0))
        }
        state.withLock { $0.link }?.send(frame)
    }

    /// In a switchover: what came of it is known before the arbiter is asked.
    private func load(from epoch: Epoch, _ deviceState: [UInt8]) -> TakeOverReport? {
        let decidedAt = state.withLock { $0.takeOver?.decidedAt } ?? MonotonicClock.now()
        do throws(SessionError) {
            let loaded = try replica.load(from: epoch, deviceState: deviceState, decidedAt: decidedAt)
            handle(.loaded)
            return loaded
        } catch {
            report(.failure(error))
            state.withLock { state in
                state.status.lastError = error.message
                perform(state.machine.handle(.loadFailed(error.message)), &state)
            }
            return nil
        }
    }

    private func resume(from epoch: Epoch, _ deviceState: [UInt8], _ loaded: TakeOverReport?) {
        let (request, outputs) = state.withLock { ($0.takeOver, $0.outputs.filter { $0.epoch <= epoch }) }
        let decidedAt = request?.decidedAt ?? MonotonicClock.now()
        let outcome: Result<TakeOverReport, SessionError>
        do throws(SessionError) {
            let ready: TakeOverReport
            if let loaded {
                ready = loaded
            } else {
                ready = try replica.load(from: epoch, deviceState: deviceState, decidedAt: decidedAt)
            }
            outcome = .success(try replica.run(ready, outputs: outputs, decidedAt: decidedAt))
        } catch {
            outcome = .failure(error)
        }
        switch outcome {
        case .success(let result):
            report(.tookOver(result, request?.cause ?? .operator, reason: request?.reason ?? "asked"))
        case .failure(let error): report(.failure(error))
        }
        if case .success = outcome { replica.forgetStaging() }
        let won = state.withLock { state -> Register? in
            state.outputs = []
            switch outcome {
            case .success:
                state.status.phase = .running
                perform(state.machine.handle(.resumed), &state)
                state.finished = true
            case .failure(let error):
                perform(state.machine.handle(.resumeFailed(error.message)), &state)
                state.status.phase = .failed
                state.status.lastError = error.message
            }
            complete(outcome, &state)
            // A primary that asked for this waits for the end of the connection.
            state.link?.close()
            state.link = nil
            return state.won
        }
        if let won { report(.becamePrimary(won)) }
    }

    // MARK: - Whether the primary is there

    /// Keeps the link warm, and looks at it. Returns when to look again.
    private func beat(_ isDue: Bool) -> UInt64 {
        state.withLock { state in
            let now = MonotonicClock.now()
            if replica.recovering, !state.hasStarted, now > startedAt + state.watch.ceiling {
                state.hasStarted = true
                state.takeOver = TakeOverRequest(
                    cause: .primaryLost, reason: "this agent was restarted", decidedAt: now)
                perform(state.machine.handle(.started), &state)
                wake.signal()
            }
            if let held = state.heldBack, now >= held.until || !state.watch.hostLives { stopHoldingBack(&state) }
            guard let link = state.link else { return state.heldBack == nil ? .max : now }
            if isDue { link.send(controlFrame(Heartbeat(sent: now, echo: 0))) }
            link.look { [weak self] in self?.judge($0, of: link) }
            return state.watch.due
        }
    }

    private func judge(_ sight: LinkSight, of link: Link) {
        state.withLock { state in
            guard state.link === link, let reason = state.watch.look(sight, isReading: !state.readingPaused) else {
                return
            }
            link.close()
            loseLink(reason, &state)
            wake.signal()
        }
    }

    /// The link is gone. While the primary's host is heard, the primary is let ask the arbiter first: it has the guest,
    /// and whoever moves a guest that is well does so needlessly. It had the ceiling to notice; it gets as long again.
    private func loseLink(_ reason: String, _ state: inout State) {
        state.link = nil
        state.watch.linkClosed()
        guard case .holding = state.machine.state, !custody.rule.isManual, state.watch.hostLives else {
            return losePrimary(reason, &state)
        }
        state.heldBack = (reason, MonotonicClock.now() + state.watch.ceiling)
        state.status.phase = .peerLost
        state.status.lastError = reason
        report(
            .event(
                "link-down",
                "the link is down, and \(offer.session.primary) is heard over the second path: it may ask the arbiter"
                    + " first, for \(state.watch.ceiling / 1_000_000) ms (\(reason))"))
    }

    /// The primary had its time, or is not heard any more, or the operator wants something.
    private func stopHoldingBack(_ state: inout State) {
        guard let held = state.heldBack else { return }
        state.heldBack = nil
        let now = state.watch.hostLives ? "and the primary said nothing since" : "and now its host is silent too"
        losePrimary("\(held.reason), \(now)", &state)
        wake.signal()
    }
}
