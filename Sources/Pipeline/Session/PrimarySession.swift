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
    public var term = Term(1)
    public var epochMilliseconds = 20
    public var silenceMilliseconds = 500
    public var policy = PrimaryMachine.LonelyPolicy.runAlone
    /// Output that may wait for acknowledgements before the guest is kept standing, in bytes.
    public var heldBytesMax = 64 << 20
    public var planted: PlantedFaults = []

    public init(vm: VMName, qmpPath: String) {
        self.vm = vm
        self.qmpPath = qmpPath
    }
}

/// The primary's side of one protected VM.
///
/// One thread, the session's own, talks to QEMU, captures epochs and takes everything out again at the end; the link's
/// event loop receives acknowledgements; the shipper encodes and sends. What may leave is decided by `PrimaryMachine`
/// under one lock.
public final class PrimarySession: LinkHandler, Sendable {
    struct State {
        var machine: PrimaryMachine
        var status = PrimaryStatus()
        var link: Link?
        var linkDown: String?
        var answer: Result<AcceptMessage, SessionError>?
        var expected: [(epoch: Epoch, digest: CheckpointDigest, timings: EpochTimings, sentAt: UInt64)] = []
        var gates: [OutputGate] = []
        var stopRequested = false
        var endGuestRequested = false
        var offer: OfferMessage?
        var detachNow = false
        var goodbyeAnswered = false
        var failure: SessionError?
        var digestReplies: [DiskDigestsAnswer] = []
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
    let state: Mutex<State>
    let wake: EventDescriptor
    let report: @Sendable (SessionReport) -> Void
    let log: Logger
    private let connect: @Sendable (any LinkHandler) throws(SessionError) -> Link
    private let node: String
    private let software: String

    /// Epochs that may be sealed and not acknowledged before the guest runs on without being checkpointed.
    static let epochsInFlightMax: UInt64 = 3

    /// `connect` opens the link to the standby's node, blocking; `report` is called from any thread.
    public init(
        options: PrimaryOptions, node: String, software: String, log: Logger,
        connect: @escaping @Sendable (any LinkHandler) throws(SessionError) -> Link,
        report: @escaping @Sendable (SessionReport) -> Void
    ) throws(SystemError) {
        self.options = options
        self.node = node
        self.software = software
        self.log = log
        self.connect = connect
        self.report = report
        wake = try EventDescriptor()
        state = Mutex(State(machine: PrimaryMachine(policy: options.policy)))
    }

    public func start() throws(SystemError) {
        _ = try NamedThread.start("epoch-\(options.vm)") { [self] in run() }
    }

    public var status: PrimaryStatus {
        state.withLock { state in
            var status = state.status
            let held = state.gates.map(\.held)
            status.heldBytes = held.reduce(0) { $0 + $1.bytes }
            status.heldFrames = held.reduce(0) { $0 + $1.frames }
            status.acknowledged = state.machine.acknowledged
            status.linkBytesSent = state.link?.bytesSent ?? 0
            status.linkBytesReceived = state.link?.bytesReceived ?? 0
            return status
        }
    }

    /// Ends protection and leaves the guest running as if nothing had been; `ended` is reported when that is done.
    public func unprotect() {
        state.withLock { $0.stopRequested = true }
        wake.signal()
    }

    /// The kernel's round-trip time of the link; nil when there is none.
    public func roundTrip() async -> Duration? { await state.withLock { $0.link }?.roundTrip() }

    /// What was offered to the standby; nil before the guest was examined.
    public var offer: OfferMessage? { state.withLock { $0.offer } }

    /// Ends the guest here at once, so that the standby goes on with it.
    public func endGuest() {
        state.withLock { $0.endGuestRequested = true }
        wake.signal()
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
            if state.answer == nil { state.answer = .failure(SessionError(.peerLost, reason)) }
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
            state.withLock { $0.answer = .success(message) }
            wake.signal()
        case .refuse:
            let message = try RefuseMessage(body)
            state.withLock { $0.answer = .failure(SessionError(.standbyRefused, message.reason)) }
            wake.signal()
        case .goodbye:
            state.withLock { $0.goodbyeAnswered = true }
            wake.signal()
        case .diskDigestsReply:
            let answer = try parseReply(body) { (bytes) throws(WireError) in
                DiskDigestsAnswer(try DiskDigestsReply(parsing: bytes))
            }
            state.withLock { $0.digestReplies.append(answer) }
            wake.signal()
        case .diskReadReply:
            let answer = try parseReply(body) { (bytes) throws(WireError) in
                DiskReadAnswer(try DiskReadReply(parsing: bytes))
            }
            state.withLock { $0.readReplies[answer.id] = answer }
        case .offer, .pages, .deviceState, .output, .diskWrite, .diskZero, .checkpointEnd, .released, .takeOver,
            .diskRead, .diskDigests, .synced:
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
            if let first = state.expected.first, first.epoch == epoch, first.digest == digest {
                matches = true
                var timings = first.timings
                timings.acknowledge = now - first.sentAt
                state.noteLinkRate(bytes: timings.linkBytes, nanoseconds: timings.acknowledge)
                state.expected.removeFirst()
                state.status.last = timings
                report(.epoch(timings))
            }
            perform(state.machine.handle(.acknowledged(epoch, digestMatches: matches)), &state)
        }
        wake.signal()
    }

    /// Notes what the standby will have to acknowledge; called before the checkpoint's last frame leaves.
    func expectAcknowledgement(of epoch: Epoch, digest: CheckpointDigest, timings: EpochTimings) {
        state.withLock { $0.expected.append((epoch, digest, timings, MonotonicClock.now())) }
    }

    // MARK: - Decisions, under the lock

    func perform(_ actions: [PrimaryMachine.Action], _ state: inout State) {
        for action in actions {
            switch action {
            case .hold: break  // The capture switched the gates while the guest stood still.
            case .release(let epoch):
                report(.released(state.gates.flatMap { $0.release(through: epoch) }))
                state.link?.send(controlFrame(Released(), epoch: epoch))
            case .releaseEverything:
                report(.released(state.gates.flatMap { $0.releaseEverything() }))
            case .askTakeOver:
                state.link?.send(controlFrame(TakeOver(term: Term(options.term.number + 1))))
            case .dismissStandby:
                let kind: GoodbyeMessage.Kind = state.stopRequested ? .unprotected : .guestEnded
                let message = GoodbyeMessage(
                    kind: state.failure == nil ? kind : .failed,
                    reason: state.failure?.message
                        ?? (kind == .unprotected ? "protection was ended" : "the guest ended"))
                state.link?.send(message.frame)
            case .detach, .end: state.detachNow = true
            case .reportProtocolError(let text):
                let error = SessionError(.protocolBroken, text)
                state.failure = error
                state.status.lastError = text
                report(.failure(error))
            }
        }
    }

    func fail(_ error: SessionError, _ state: inout State) {
        if state.failure == nil {
            state.failure = error
            state.status.lastError = error.message
            report(.failure(error))
        }
        loseStandby(error.message, &state)
        wake.signal()
    }

    func loseStandby(_ reason: String, _ state: inout State) {
        guard state.linkDown == nil else { return }
        state.linkDown = reason
        let actions = state.machine.handle(.standbyLost)
        if !actions.isEmpty || options.policy == .freeze {
            state.status.phase = .peerLost
            if state.status.lastError == nil { state.status.lastError = "the standby is lost: \(reason)" }
            report(.event("peer-lost", "the standby is lost: \(reason)"))
        }
        perform(actions, &state)
        state.link?.close()
    }

    // MARK: - The session's thread

    private func run() {
        let ended: String
        do throws(SessionError) {
            ended = try protectUntilTheEnd()
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
        let link = state.withLock { state in
            if state.status.phase != .failed { state.status.phase = .ended }
            return state.link
        }
        link?.close()
        report(.ended(ended))
    }

    private func protectUntilTheEnd() throws(SessionError) -> String {
        let guest = try GuestHandle(options: options, log: log)
        state.withLock { state in
            state.status.qemuPID = guest.description.process.pid
            state.offer = guest.offer
            state.status.phase = .connecting
        }
        let link = try connect(self)
        state.withLock { $0.link = link }
        let hello = HelloMessage(node: node, software: software)
        link.send(hello.frame)
        state.withLock { $0.status.phase = .preparing }
        link.send(guest.offer.frame)
        let accepted = try waitForAnswer(seconds: 60)
        report(.event("standby-accepted", "\(accepted.node) started its QEMU (pid \(accepted.qemuPID))"))

        let heartbeat: HeartbeatThread
        do throws(SystemError) {
            heartbeat = try HeartbeatThread(options.vm, silenceMilliseconds: options.silenceMilliseconds) { [self] in
                beat()
            }
        } catch {
            throw SessionError(.system, "no thread for the heartbeat of \(options.vm): \(error)")
        }
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
            let (answer, stop) = state.withLock { ($0.answer, $0.stopRequested) }
            if let answer { return try answer.get() }
            if stop { throw SessionError(.refused, "protection was ended before it began") }
            waitReadable([wake.number], nanoseconds: 100_000_000)
            _ = wake.take()
        }
        throw SessionError(.peerLost, "the standby did not answer the offer within \(seconds) s; see its agent's log")
    }

    /// Keeps the link warm, and notices a standby that fell silent.
    private func beat() {
        state.withLock { state in
            guard let link = state.link, state.linkDown == nil else { return }
            let now = MonotonicClock.now()
            link.send(controlFrame(Heartbeat(sent: now, echo: 0)))
            guard now > link.lastReceived else { return }
            let silence = now - link.lastReceived
            if silence > UInt64(options.silenceMilliseconds) * 1_000_000 {
                loseStandby("nothing was received for \(silence / 1_000_000) ms", &state)
                wake.signal()
            }
        }
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
