import Disk
import Foundation
import GuestNetwork
import Hypervisor
import LinuxSystem
import Logging
import Memory
import Messages
import Model
import Protocol
import Shipping
import Synchronization
import Transport
import Wire

/// The primary's side of one protected VM, through any number of sessions with a standby, for as long as the guest is
/// this host's.
///
/// One thread, its own, talks to QEMU, captures epochs and takes everything out again; the link's event loop receives
/// acknowledgements; the shipper encodes and sends. What may leave, and who may run, is decided by `PrimaryMachine` under
/// one lock.
public final class PrimaryShell: LinkHandler, Sendable {
    struct State {
        var machine: PrimaryMachine { didSet { noteShown() } }
        var status = PrimaryStatus() { didSet { noteShown() } }
        /// The phase as it is told, and since when.
        var shown = (phase: SessionPhase.connecting, since: Date())
        var tuning: EpochTuning
        var guest: GuestDescription?
        var identity: VMIdentity?
        var choice: StandbyChoice
        var failure: SessionError?
        var endGuestRequested = false
        /// Somebody else paused the guest.
        var isGuestPaused = false
        var isUnprotectAsked = false
        /// When to offer again.
        var retry = RetryPace()
        /// What is reported now was reported before.
        var isOldNews = false
        /// Why the last switchover that was asked for did not come, and whether that is of the asking since.
        var switchoverRefusal: (text: String, isNew: Bool)?
        /// A standby had agreed once: one that is lost from then on may come back.
        var hadStandby = false
        /// The operator wants a standby.
        var isAsked: Bool
        /// What the machine wants of the thread.
        var orders = Orders()
        var connection = Connection()
        var gates: [OutputGate] = []
    }

    /// What the machine decided and the session's thread has to carry out.
    struct Orders {
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
        /// QEMU does nothing for a checkpoint that is due.
        var isStalled = false
        /// What the link's cap is told to; nil until there is something to send.
        var sender: FrameSender?
        var wakefulness: Wakefulness?
        /// Why there is no link any more.
        var linkDown: String? {
            didSet { if let linkDown { disks.close(linkDown) } }
        }
        /// Why the standby wants to be none any more.
        var leaving: String?
        /// When the standby was asked to go on with a guest that stands still here.
        var askedAt: UInt64?
        var watch: PeerWatch?
        var answer: Result<AcceptMessage, SessionError>?
        var ledger = EpochLedger<CheckpointDigest>()
        /// What the standby is asked about its images.
        let disks = DiskAnswers()
        /// The same of the memory that it has from before.
        let pageDigests = Answers<PageDigests, [UInt8]>()
        /// What the standby has of the guest's memory from before, in bytes.
        var baseBytes: UInt64 = 0
        /// The standby's agent can tell what its replica's memory is like at a checkpoint.
        var canVerify = false
    }

    public let options: PrimaryOptions
    let custody: Custody
    let questions: ArbiterQuestions?
    let state: Mutex<State>
    let wake: EventDescriptor
    let verification: MemoryVerification
    /// When the session's thread is heard of again, by `MonotonicClock`.
    let backAt = Atomic<UInt64>(0)
    let report: @Sendable (SessionReport) -> Void
    let log: Logger
    let connect: @Sendable (NodeName, any LinkHandler) throws(SessionError) -> Link
    let reasonsOfStandby: @Sendable (GuestDescription) -> [String]
    let software: String
    let origin: PrimaryOrigin
    let bases: MemoryBases?
    let guests: any GuestSource

    /// A standby that was asked to go on with the guest says what came of it within this time, in nanoseconds.
    static let handOverMax: UInt64 = 2_000_000_000

    /// `bases` gets the guest's memory when another host goes on with it. `connect` opens the link to the standby's
    /// node, blocking; `reasonsOfStandby` asks it, blocking, what there stands in the way of a guest that cannot be protected as
    /// it runs; `report` is called from any thread.
    public init(
        options: PrimaryOptions, origin: PrimaryOrigin, custody: Custody, software: String,
        guests: any GuestSource, bases: MemoryBases? = nil, log: Logger,
        connect: @escaping @Sendable (NodeName, any LinkHandler) throws(SessionError) -> Link,
        reasonsOfStandby: @escaping @Sendable (GuestDescription) -> [String] = { _ in [] },
        report: @escaping @Sendable (SessionReport) -> Void
    ) throws(SystemError) {
        self.options = options
        self.origin = origin
        self.custody = custody
        self.software = software
        self.bases = bases
        self.guests = guests
        self.log = log
        self.connect = connect
        self.reasonsOfStandby = reasonsOfStandby
        self.report = report
        questions = custody.arbiter.map { ArbiterQuestions(options.vm, $0) }
        wake = try EventDescriptor()
        verification = try MemoryVerification()
        var first = State(
            machine: Self.machine(origin, options, custody), tuning: options.tuning,
            choice: StandbyChoice(
                options.standby, reserve: options.reserve,
                replaceAfter: UInt64(options.replaceAfterSeconds) * 1_000_000_000),
            isAsked: origin.isFresh)
        first.noteShown()
        if case .tookOver = origin { first.status.phase = .running }
        state = Mutex(first)
    }

    static func machine(
        _ origin: PrimaryOrigin, _ options: PrimaryOptions, _ custody: Custody
    ) -> PrimaryMachine {
        let seed = UInt64.random(in: 1 ... .max)
        func machine(_ guest: PrimaryMachine.Guest) -> PrimaryMachine {
            var machine = PrimaryMachine(
                node: custody.node, rule: custody.rule, reprotection: custody.reprotection, guest: guest,
                level: options.level, record: custody.record, fences: Set(custody.fences.keys), seed: seed)
            machine.yielded = options.yielded
            return machine
        }
        switch origin {
        case .named, .wanted: return machine(.fresh(overridesRegister: options.overridesRegister))
        case .found(let lineage): return machine(.ours(lineage))
        case .tookOver(let register):
            return PrimaryMachine(
                tookOver: register, rule: custody.rule, reprotection: custody.reprotection,
                fences: Set(custody.fences.keys), seed: seed)
        }
    }

    public func start() throws(SystemError) {
        _ = try NamedThread.start("epoch-\(options.vm)") { [self] in run() }
    }

    public var status: PrimaryStatus {
        state.withLock { state in
            var status = state.status
            (status.phase, status.since) = state.shown
            let held = state.gates.map(\.held)
            status.heldBytes = held.reduce(0) { $0 + $1.bytes }
            status.heldFrames = held.reduce(0) { $0 + $1.frames }
            status.acknowledged = state.machine.acknowledged
            status.term = state.machine.register?.term ?? Term(0)
            status.linkBytesSent = state.connection.link?.bytesSent ?? 0
            status.linkBytesReceived = state.connection.link?.bytesReceived ?? 0
            status.linkConnections = state.connection.link?.connectionCount ?? 0
            status.peer = state.connection.watch?.view
            status.tuning = state.tuning
            status.standby = state.choice.current
            status.identity = state.identity
            return status
        }
    }

    /// Ends protection and leaves the guest running as if nothing had been; `ended` is reported when that is done.
    public func unprotect() {
        state.withLock { $0.isUnprotectAsked = true }
        handle(.unprotect)
    }

    /// What the guest's epochs are to be like.
    public var tuning: EpochTuning { state.withLock { $0.tuning } }

    /// The next epoch follows it; the standby is told.
    public func tune(_ tuning: EpochTuning) {
        state.withLock { state in
            state.tuning = tuning
            state.connection.sender?.cap(megabits: tuning.linkCapMegabits)
            // Before the standby has agreed to a session it is told by the offer, or as soon as it has.
            guard case .success? = state.connection.answer, state.connection.linkDown == nil else { return }
            state.connection.link?.send(
                TuningMessage(tuning, isStalled: state.connection.isStalled).frame)
        }
        wake.signal()
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

    /// The standby, or who was last asked to be.
    public var standby: NodeName { state.withLock { $0.choice.current } }

    /// Who may run the guest, as last won or read.
    public var register: Register? { state.withLock { $0.machine.register } }

    /// The operator wants a standby for a guest that runs alone.
    public func protect() {
        state.withLock { state in
            state.isAsked = true
            state.retry.reset()
        }
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

    /// The guest is to go on at the standby. Returns why not, when that is known at once; else what comes of it shows in
    /// `switchover`. Where there is an arbiter it is asked first, with the guest running (`isSounding`).
    public func switchOver() -> String? {
        let refusal = state.withLock { state -> String? in
            guard !state.isGuestPaused else { return "somebody paused the guest: let it run on first" }
            let actions = state.machine.handle(.switchOver)
            if case .refuseSwitchover(let reason)? = actions.first { return reason }
            state.switchoverRefusal?.isNew = false
            perform(actions, &state)
            return nil
        }
        wake.signal()
        return refusal
    }

    /// True while the arbiter is asked before the guest is stopped for a switchover.
    public var isSounding: Bool { state.withLock { $0.machine.session?.isSounding ?? false } }

    /// Why the switchover that was asked for last did not come; nil when it did, or while that is open.
    public var switchoverRefusal: String? {
        state.withLock { state in
            guard let refusal = state.switchoverRefusal, refusal.isNew else { return nil }
            return refusal.text
        }
    }

    /// How a switchover from this host stands, after `switchOver`.
    public var switchover: Switchover {
        state.withLock { state in
            switch state.machine.state {
            case .paired where !state.machine.isSwitchingOver:
                .failed(state.switchoverRefusal?.text ?? state.status.lastError ?? "no reason given")
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
}
