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

/// What an operator asks for when a VM is protected.
public struct PrimaryOptions: Sendable {
    public var vm: VMName
    public var qmpPath: String
    public var level = Level.system
    /// The node that is to be the standby.
    public var standby: NodeName
    public var epochMilliseconds = 20
    /// The longest epoch of a guest that changes next to nothing and sends nothing.
    public var idleEpochMilliseconds = 200
    /// End an epoch when its first output is held.
    public var checkpointsOnOutput = true
    /// The largest share of time in which the guest may stand still because of its output, in percent.
    public var pauseBudget = 25
    /// QEMU's threads that serve a checkpoint, and ours, get real-time priority while the guest is protected.
    public var isRealTime = true
    /// How much silence of the standby is borne: at most and at least.
    public var silenceMilliseconds = 500
    public var silenceFloorMilliseconds = 300
    public var heartbeatMilliseconds = 50
    /// Another way to the standby's host.
    public var secondPath: SecondPath?
    /// Output that may wait for acknowledgements before the guest is kept standing, in bytes.
    public var heldBytesMax = 64 << 20
    public var planted: PlantedFaults = []
    /// The operator says that whoever else the register names is off.
    public var overridesRegister = false

    /// How epochs are timed.
    var epochs: EpochTimer.Settings {
        EpochTimer.Settings(
            epoch: UInt64(epochMilliseconds) * 1_000_000, idleEpoch: UInt64(idleEpochMilliseconds) * 1_000_000,
            endsOnOutput: checkpointsOnOutput, pauseBudget: UInt64(pauseBudget))
    }

    public init(vm: VMName, qmpPath: String, standby: NodeName) {
        self.vm = vm
        self.qmpPath = qmpPath
        self.standby = standby
    }
}

/// How the guest comes to be this host's.
public enum PrimaryOrigin: Sendable {
    /// The operator named it.
    case named
    /// An earlier run of this agent had it.
    case found(Lineage)
    /// It was resumed here from a replica.
    case tookOver(Register)

    public var isNamed: Bool { if case .named = self { true } else { false } }
}

/// The primary's side of one protected VM, through any number of sessions with a standby, for as long as the guest is
/// this host's.
///
/// One thread, its own, talks to QEMU, captures epochs and takes everything out again; the link's event loop receives
/// acknowledgements; the shipper encodes and sends. What may leave, and who may run, is decided by `PrimaryMachine` under
/// one lock.
public final class PrimarySession: LinkHandler, Sendable {
    struct State {
        var machine: PrimaryMachine
        var status = PrimaryStatus()
        var guest: GuestDescription?
        var failure: SessionError?
        var endGuestRequested = false
        /// Somebody else paused the guest.
        var isGuestPaused = false
        var isUnprotectAsked = false
        /// Why the last offer was refused; a node that goes on refusing for the same reason is no news.
        var lastRefusal: String?
        /// A standby had agreed once: one that is lost from then on may come back.
        var hadStandby = false
        /// The operator wants a standby.
        var isAsked: Bool
        /// What the machine wants of the thread.
        var wishes = Wishes()
        var connection = Connection()
        var gates: [OutputGate] = []
    }

    /// What the machine decided and the session's thread has to carry out.
    struct Wishes {
        var offer: SessionOffer?
        var detach = false
        /// An earlier run, or a switchover, may have stopped the guest.
        var resumeGuest = false
        var stopGuest = false
        var killGuest = false
        /// The next checkpoint is the last of this session: the guest goes on standing still.
        var sealLast = false
        /// The guest is gone from this host for good.
        var standby: LocalRecord?
        var end = false
    }

    /// One session with a standby, from the dialling of its link on.
    struct Connection {
        var session = SessionID.none
        var link: Link?
        var linkDown: String?
        /// Why the standby wants to be none any more.
        var leaving: String?
        /// When the standby was asked to go on with a guest that stands still here.
        var askedAt: UInt64?
        var watch: PeerWatch?
        var answer: Result<AcceptMessage, SessionError>?
        var expected: [(epoch: Epoch, digest: CheckpointDigest, timings: EpochTimings, sentAt: UInt64)] = []
        var digestReplies: [DiskDigestsAnswer] = []
        /// What the standby has of the guest's memory from before, in bytes.
        var baseBytes: UInt64 = 0
        /// In the order of the questions.
        var pageDigests: [PageDigestsAnswer] = []
        var readReplies: [UInt64: DiskReadAnswer] = [:]
        /// What the link carried at its best lately, in bytes per second; 0 before it carried much.
        var linkBytesPerSecond = 0.0

        /// Small epochs say nothing: their time is the round trip's.
        mutating func noteLinkRate(bytes: UInt64, nanoseconds: UInt64) {
            guard bytes > 64 << 10, nanoseconds > 0 else { return }
            let rate = Double(bytes) * 1e9 / Double(nanoseconds)
            linkBytesPerSecond = max(rate, linkBytesPerSecond * 0.95)
        }
    }

    public let options: PrimaryOptions
    let custody: Custody
    let questions: ArbiterQuestions?
    let state: Mutex<State>
    let wake: EventDescriptor
    let report: @Sendable (SessionReport) -> Void
    let log: Logger
    private let connect: @Sendable (any LinkHandler) throws(SessionError) -> Link
    private let software: String
    private let origin: PrimaryOrigin
    private let bases: MemoryBases?

    /// Epochs that may be sealed and not acknowledged before the guest runs on without being checkpointed.
    static let epochsInFlightMax: UInt64 = 3
    /// A standby that was asked to go on with the guest says what came of it within this time, in nanoseconds.
    static let handOverMax: UInt64 = 15_000_000_000
    /// Between two offers to a node that was lost or said no, in nanoseconds.
    static let offerPeriod: UInt64 = 2_000_000_000

    /// `bases` gets the guest's memory when another host goes on with it. `connect` opens the link to the standby's node, blocking; `report` is called from any thread.
    public init(
        options: PrimaryOptions, origin: PrimaryOrigin, custody: Custody, software: String,
        bases: MemoryBases? = nil, log: Logger,
        connect: @escaping @Sendable (any LinkHandler) throws(SessionError) -> Link,
        report: @escaping @Sendable (SessionReport) -> Void
    ) throws(SystemError) {
        self.options = options
        self.origin = origin
        self.custody = custody
        self.software = software
        self.bases = bases
        self.log = log
        self.connect = connect
        self.report = report
        questions = custody.arbiter.map { ArbiterQuestions(options.vm, $0) }
        wake = try EventDescriptor()
        var first = State(machine: Self.machine(origin, options, custody), isAsked: origin.isNamed)
        if case .tookOver = origin { first.status.phase = .running }
        state = Mutex(first)
    }

    private static func machine(
        _ origin: PrimaryOrigin, _ options: PrimaryOptions, _ custody: Custody
    ) -> PrimaryMachine {
        let seed = UInt64.random(in: 1 ... .max)
        func machine(_ guest: PrimaryMachine.Guest) -> PrimaryMachine {
            PrimaryMachine(
                node: custody.node, arbitration: custody.rule, reprotection: custody.reprotection, guest: guest,
                level: options.level, record: custody.record, fences: Set(custody.fences.keys), seed: seed)
        }
        switch origin {
        case .named: return machine(.fresh(overridesRegister: options.overridesRegister))
        case .found(let lineage): return machine(.ours(lineage))
        case .tookOver(let register):
            return PrimaryMachine(
                tookOver: register, arbitration: custody.rule, reprotection: custody.reprotection,
                fences: Set(custody.fences.keys), seed: seed)
        }
    }

    public func start() throws(SystemError) {
        _ = try NamedThread.start("epoch-\(options.vm)") { [self] in run() }
    }

    public var status: PrimaryStatus {
        state.withLock { state in
            var status = state.status
            status.phase = SessionPhase(state.machine.state) ?? status.phase
            let held = state.gates.map(\.held)
            status.heldBytes = held.reduce(0) { $0 + $1.bytes }
            status.heldFrames = held.reduce(0) { $0 + $1.frames }
            status.acknowledged = state.machine.acknowledged
            status.term = state.machine.register?.term ?? Term(0)
            status.linkBytesSent = state.connection.link?.bytesSent ?? 0
            status.linkBytesReceived = state.connection.link?.bytesReceived ?? 0
            status.peer = state.connection.watch?.view
            return status
        }
    }

    /// Ends protection and leaves the guest running as if nothing had been; `ended` is reported when that is done.
    public func unprotect() {
        state.withLock { $0.isUnprotectAsked = true }
        handle(.unprotect)
    }

    /// True while the guest runs here without a standby, and may be given one.
    public var isAlone: Bool { state.withLock { $0.machine.state == .solo } }

    /// Protection cannot go on here. Where only a confirmation or the operator lets the guest go, a failure of ours is neither.
    func leaveInOrder() {
        switch state.withLock({ $0.machine.state }) {
        case .frozen, .forked, .handingOver: break
        default: handle(.unprotect)
        }
    }

    /// When anything was last received from the standby's node, by `MonotonicClock`; 0 when there is no link to it.
    public var lastHeard: UInt64 {
        state.withLock { $0.connection.linkDown == nil ? $0.connection.link?.lastReceived ?? 0 : 0 }
    }

    /// Who may run the guest, as last won or read.
    public var register: Register? { state.withLock { $0.machine.register } }

    /// The operator wants a standby for a guest that runs alone.
    public func protect() {
        state.withLock { $0.isAsked = true }
        wake.signal()
    }

    /// Another host offered the VM as its own.
    public func hear(of offer: SessionOffer) {
        handle(
            .peerRegister(
                Register(
                    term: offer.term, owner: offer.primary, mode: .solo, session: .none, standby: nil,
                    lineage: offer.lineage, level: offer.level)))
    }

    /// The kernel's round-trip time of the link; nil when there is none.
    public func roundTrip() async -> Duration? { await state.withLock { $0.connection.link }?.roundTrip() }

    /// What was found out about the guest; nil before it was examined.
    public var guest: GuestDescription? { state.withLock { $0.guest } }

    /// Ends the guest here at once, so that the standby goes on with it.
    public func endGuest() {
        state.withLock { $0.endGuestRequested = true }
        wake.signal()
    }

    /// The guest is to go on at the standby. Returns why not, when it cannot; else what comes of it shows in the status.
    public func switchOver() -> String? {
        let refusal = state.withLock { state -> String? in
            guard !state.isGuestPaused else { return "somebody paused the guest: let it run on first" }
            let actions = state.machine.handle(.switchOver)
            if case .report(let reason)? = actions.first { return reason }
            perform(actions, &state)
            return nil
        }
        wake.signal()
        return refusal
    }

    /// How a switchover from this host stands, after `switchOver`.
    public var switchover: Switchover {
        state.withLock { state in
            switch state.machine.state {
            case .paired, .handingOver, .adopting, .lonely, .fencing: .underWay
            case .fenced: .done
            default: .failed(state.status.lastError ?? "no reason given")
            }
        }
    }

    /// What only the operator can say: that this copy of the guest goes on, or that it is given up. Returns why not, when
    /// there is nothing to decide.
    public func decide(goesOn: Bool) -> String? {
        let refusal = state.withLock { state -> String? in
            let before = state.machine.state
            let actions = state.machine.handle(goesOn ? .goOn : .giveUp)
            if state.machine.state == before, case .report(let reason)? = actions.first { return reason }
            perform(actions, &state)
            return nil
        }
        wake.signal()
        return refusal
    }

    // MARK: - The link, on its event loop

    public func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        do throws(SessionError) {
            try accept(header, body)
        } catch {
            state.withLock { fail(error, &$0) }
        }
    }

    public func linkClosed(_ link: Link, error: LinkError?) {
        let reason = error.map { "\($0)" } ?? "the standby closed the connection"
        state.withLock { state in
            guard state.connection.link === link || state.connection.link == nil else { return }
            if state.connection.answer == nil {
                state.connection.answer = .failure(SessionError(.peerLost, reason))
            }
            loseStandby(reason, &state)
        }
        wake.signal()
    }

    private func accept(_ header: FrameHeader, _ body: ByteBuffer) throws(SessionError) {
        switch header.type {
        case .ack:
            let ack = try parseReply(body) { (bytes) throws(WireError) in try Ack(parsing: bytes) }
            acknowledged(Epoch(header.epoch), digest: ack.digest)
        case .heartbeat, .hello:
            break
        case .accept:
            let message = try AcceptMessage(body)
            state.withLock { state in
                state.connection.answer = .success(message)
                state.connection.baseBytes = message.baseBytes
                state.hadStandby = true
            }
            wake.signal()
        case .refuse:
            let message = try RefuseMessage(body)
            state.withLock { state in
                if let known = message.knows { perform(state.machine.handle(.peerRegister(known)), &state) }
                state.connection.answer = .failure(SessionError(.standbyRefused, message.reason))
            }
            wake.signal()
        case .register:
            let message = try RegisterMessage(body)
            handle(.peerRegister(message.register))
        case .goodbye:
            let message = try GoodbyeMessage(body)
            state.withLock { state in
                let id = state.connection.session
                if message.kind == .handedBack {
                    perform(state.machine.handle(.handedBack(id)), &state)
                    state.status.lastError = message.reason
                } else {
                    // The end of the link that follows is no loss.
                    if state.machine.isDismissing { state.connection.linkDown = "the standby has let go" }
                    perform(state.machine.handle(.letGo(id)), &state)
                }
            }
            wake.signal()
        case .wish:
            let message = try WishMessage(body)
            report(.event("request", message.reason))
            switch message.wish {
            case .switchover:
                if let refusal = switchOver() { report(.event("request", "it was refused: \(refusal)")) }
            case .leave:
                state.withLock { state in
                    state.connection.leaving = message.reason
                    perform(state.machine.handle(.standbyLeaves(state.connection.session)), &state)
                }
                wake.signal()
            }
        case .diskDigestsReply:
            let answer = try parseReply(body) { (bytes) throws(WireError) in
                DiskDigestsAnswer(try DiskDigestsReply(parsing: bytes))
            }
            state.withLock { $0.connection.digestReplies.append(answer) }
            wake.signal()
        case .pageDigestsReply:
            let answer = try parseReply(body) { (bytes) throws(WireError) in
                PageDigestsAnswer(try PageDigestsReply(parsing: bytes))
            }
            state.withLock { $0.connection.pageDigests.append(answer) }
            wake.signal()
        case .diskReadReply:
            let answer = try parseReply(body) { (bytes) throws(WireError) in
                DiskReadAnswer(try DiskReadReply(parsing: bytes))
            }
            state.withLock { $0.connection.readReplies[answer.id] = answer }
        case .offer, .pages, .deviceState, .output, .diskWrite, .diskZero, .checkpointEnd, .released, .takeOver,
            .diskRead, .diskDigests, .pageDigests, .synced, .registerRequest, .registerReply:
            throw SessionError(.protocolBroken, "a \(header.type) frame cannot come from a standby")
        }
    }

    private func parseReply<Value>(
        _ body: ByteBuffer, _ parse: (UnsafeRawBufferPointer) throws(WireError) -> Value
    ) throws(SessionError) -> Value {
        do {
            return try body.withUnsafeReadableBytes { try parse($0) }
        } catch {
            throw SessionError(.protocolBroken, "the standby sent a frame that is not valid: \(error)")
        }
    }

    private func acknowledged(_ epoch: Epoch, digest: CheckpointDigest) {
        let now = MonotonicClock.now()
        state.withLock { state in
            var matches = false
            if let first = state.connection.expected.first, first.epoch == epoch, first.digest == digest {
                matches = true
                var timings = first.timings
                timings.acknowledge = now - first.sentAt
                state.connection.noteLinkRate(bytes: timings.linkBytes, nanoseconds: timings.acknowledge)
                state.connection.expected.removeFirst()
                state.status.last = timings
                report(.epoch(timings))
            }
            let event = PrimaryMachine.Event.acknowledged(state.connection.session, epoch, digestMatches: matches)
            perform(state.machine.handle(event), &state)
        }
        wake.signal()
    }

    /// Notes what the standby will have to acknowledge; called before the checkpoint's last frame leaves.
    func expectAcknowledgement(of epoch: Epoch, digest: CheckpointDigest, timings: EpochTimings) {
        state.withLock { $0.connection.expected.append((epoch, digest, timings, MonotonicClock.now())) }
    }

    // MARK: - The session's thread

    private func run() {
        let ended: String
        do throws(SessionError) {
            ended = try carry()
        } catch {
            state.withLock { state in
                if state.failure == nil {
                    state.failure = error
                    report(.failure(error))
                }
                state.status.lastError = error.message
                state.status.phase = .failed
            }
            ended = error.message
        }
        questions?.stop()
        let (link, record) = state.withLock { state in
            if state.status.phase != .failed { state.status.phase = .ended }
            return (state.connection.link, state.wishes.standby)
        }
        link?.close()
        if let record { report(.gaveWay(record)) }
        report(.ended(ended))
    }

    /// Has the guest in hand until it is gone, given away, or not to be protected any more. Returns why, where that is
    /// in order.
    private func carry() throws(SessionError) -> String {
        var guest: GuestHandle? = try GuestHandle(options: options, log: log)
        let pid = guest?.pid ?? 0
        let process: PidDescriptor
        do throws(SystemError) {
            process = try PidDescriptor(pid)
        } catch {
            throw SessionError(.guestLost, "the guest's QEMU (pid \(pid)) is gone: \(error)")
        }
        let lineage = state.withLock { state in
            state.status.qemuPID = pid
            state.guest = guest?.description
            return state.machine.lineage
        }
        report(.found(pid: pid, lineage: lineage))
        if case .tookOver = origin {} else { handle(.started) }

        if !origin.isNamed {
            // Between sessions the monitor is the operator's.
            guest?.close()
            guest = nil
        }
        var nextOffer: UInt64 = 0
        while true {
            let (wishes, endGuest) = takeWishes()
            if wishes.killGuest { end(process) }
            if endGuest { try? process.kill() }
            if wishes.stopGuest {
                let attached = try attach(&guest)
                attached.stopAnyway()
                guest = attached
            }
            if wishes.detach {
                let attached = try attach(&guest)
                try attached.removeLeftovers()
                if wishes.resumeGuest { attached.resumeAnyway() }
                guest = attached
            }
            if let offer = wishes.offer {
                if let ended = try serve(offer, &guest) { return ended }
                state.withLock { state in
                    state.wishes.detach = false
                    state.isAsked = false
                }
                nextOffer = MonotonicClock.now() + Self.offerPeriod
                continue
            }
            if wishes.standby != nil { return "another host goes on with the guest" }
            if wishes.end {
                // What ends by itself says why.
                let reason = state.withLock { $0.isUnprotectAsked ? nil : $0.status.lastError }
                if let reason { throw SessionError(.refused, "\(options.vm) cannot be protected: \(reason)") }
                return "protection was ended by the operator"
            }
            if process.hasExited() {
                handle(.guestLost)
                guard state.withLock({ $0.wishes.standby != nil }) else {
                    throw SessionError(.guestLost, "the guest's QEMU (pid \(pid)) died, and it had no standby")
                }
                continue
            }
            let (isAlone, isAsked) = state.withLock { ($0.machine.state == .solo, $0.isAsked) }
            if isAlone, isAsked || MonotonicClock.now() >= nextOffer {
                nextOffer = MonotonicClock.now() + Self.offerPeriod
                handle(.candidate(options.standby, asked: isAsked))
                if state.withLock({ $0.wishes.offer != nil }) { continue }
            }
            waitReadable([wake.number, process.number], nanoseconds: 200_000_000)
            _ = wake.take()
        }
    }

    /// Ends a guest that another host goes on with; it runs no more when this returns.
    func end(_ process: borrowing PidDescriptor) {
        guard let bases, let guest else {
            try? process.kill()
            return
        }
        bases.end(guest, of: options.vm, process)
    }

    /// The handle that is there already, which its user then owns, or a new one.
    private func attach(_ guest: inout GuestHandle?) throws(SessionError) -> GuestHandle {
        defer { guest = nil }
        if let guest { return guest }
        return try GuestHandle(options: options, log: log)
    }

    private func takeWishes() -> (Wishes, endGuest: Bool) {
        state.withLock { state in
            let wishes = state.wishes
            state.wishes.offer = nil
            state.wishes.detach = false
            state.wishes.resumeGuest = false
            state.wishes.stopGuest = false
            state.wishes.killGuest = false
            state.wishes.sealLast = false
            return (wishes, state.endGuestRequested)
        }
    }

    /// One session with the standby; `guest` is used up. Returns why, when there is nothing more to do for this guest
    /// afterwards.
    private func serve(_ offer: SessionOffer, _ guest: inout GuestHandle?) throws(SessionError) -> String? {
        state.withLock { state in
            state.connection = Connection()
            state.connection.session = offer.session
            state.status.memoryProgress = 0
            state.status.diskProgress = 0
        }
        do throws(SessionError) {
            let link = try connect(self)
            let attached = try attach(&guest)
            return try protect(attached, offer, link)
        } catch {
            state.withLock { $0.connection.link }?.close()
            handle(error.code == .standbyRefused ? .refused(offer.session, error.message) : .standbyLost(offer.session))
            let (isLost, hadStandby) = state.withLock { state in
                (
                    error.code == .peerLost || error.code == .standbyRefused,
                    !origin.isNamed || state.hadStandby
                )
            }
            guard isLost, hadStandby else { throw error }
            state.withLock { state in
                var isAlone = state.connection.leaving != nil
                if case .tookOver = origin, state.status.last.epoch == .firstCopy { isAlone = true }
                state.status.phase = isAlone ? .running : .peerLost
                state.status.lastError = error.message
            }
            return nil
        }
    }

    private func protect(
        _ guest: GuestHandle, _ offer: SessionOffer, _ link: Link
    ) throws(SessionError) -> String? {
        let accepted: AcceptMessage
        do throws(SessionError) {
            state.withLock { state in
                state.connection.link = link
                state.status.phase = .preparing
            }
            link.send(HelloMessage(node: custody.node.description, software: software).frame)
            link.send(guest.offer(offer, options).frame)
            accepted = try waitForAnswer(seconds: 60)
            report(
                .event("standby-accepted", "\(accepted.identity.node) started its QEMU (pid \(accepted.qemuPID))"))
            state.withLock { $0.lastRefusal = nil }
            handle(.accepted(offer.session, accepted.identity))
        } catch {
            guest.close()
            throw error
        }
        let heartbeat = try beatingHeart(accepted)
        defer { heartbeat.stop() }
        let protection = try Protection(session: self, guest: guest, link: link)
        let outcome: Result<String, SessionError>
        do throws(SessionError) {
            outcome = .success(try protection.run())
        } catch {
            outcome = .failure(error)
        }
        protection.takeDown()
        return try outcome.get()
    }

    private func waitForAnswer(seconds: Int) throws(SessionError) -> AcceptMessage {
        let deadline = MonotonicClock.now() + UInt64(seconds) * 1_000_000_000
        while MonotonicClock.now() < deadline {
            let (answer, end) = state.withLock { ($0.connection.answer, $0.wishes.end) }
            if let answer { return try answer.get() }
            if end { throw SessionError(.refused, "protection was ended before it began") }
            waitReadable([wake.number], nanoseconds: 100_000_000)
            _ = wake.take()
        }
        throw SessionError(.peerLost, "the standby did not answer the offer within \(seconds) s; see its agent's log")
    }
}

/// A reply to a question about the standby's disk, with bytes of its own.
struct DiskDigestsAnswer: Sendable {
    var disk: UInt16
    var first: UInt64
    var digests: [UInt8]

    init(_ reply: DiskDigestsReply) {
        disk = reply.disk
        first = reply.first
        digests = Array(reply.digests)
    }
}

struct DiskReadAnswer: Sendable {
    var id: UInt64
    var status: UInt32
    var data: [UInt8]

    init(_ reply: DiskReadReply) {
        id = reply.id
        status = reply.status
        data = Array(reply.data)
    }
}
