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
        var duty: PrimaryDuty { didSet { noteShown() } }
        /// What is measured, and not decided about.
        var figures = PrimaryStatus()
        /// The phase as it is told, and since when.
        var shown: (phase: SessionPhase, since: Date)
        var guest: GuestDescription?
        var identity: VMIdentity?
        var endGuestRequested = false
        /// What was decided and the session's thread has to carry out.
        var orders = Orders()
        var parts = SessionParts()
        var gates: [OutputGate] = []

        init(_ duty: PrimaryDuty) {
            self.duty = duty
            shown = (duty.shownPhase, Date())
        }

        /// Keeps `shown` as things are.
        private mutating func noteShown() {
            if shown.phase != duty.shownPhase { shown = (duty.shownPhase, Date()) }
        }
    }

    /// What one session with a standby has open, from the dialling of its link on.
    struct SessionParts {
        var link: Link?
        /// What the link's cap is told to; nil until there is something to send.
        var sender: FrameSender?
        var wakefulness: Wakefulness?
        var watch: PeerWatch?
        /// What the standby is asked about its images.
        let disks = DiskAnswers()
        /// What it has taken of the guest's writes, at a level at which they wait for that.
        let writes = WriteAnswers()
        /// The processes that serve the disks, where they are served.
        var servers = DiskServers()
        /// What it said last of a part of the guest that it was to attach.
        var attached: AttachedMessage?
        /// What carries the guest's frames through its host, at level `component`.
        var carry: PrimaryCarry?
        /// The same of the memory that it has from before.
        let pageDigests = Answers<PageDigests, [UInt8]>()
    }

    public let options: PrimaryOptions
    let custody: Custody
    let questions: ArbiterQuestions?
    let state: Mutex<State>
    let wake: EventDescriptor
    /// When this host got the guest, by `MonotonicClock`.
    let takenAt = MonotonicClock.now()
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
    let starter: (any GuestStarter)?

    /// `bases` gets the guest's memory when another host goes on with it. `connect` opens the link to the standby's
    /// node, blocking; `reasonsOfStandby` asks it, blocking, what there stands in the way of a guest that cannot be protected as
    /// it runs; `starter` starts a guest that died here, where its level wants that; `report` is called from any thread.
    public init(
        options: PrimaryOptions, origin: PrimaryOrigin, custody: Custody, software: String,
        guests: any GuestSource, bases: MemoryBases? = nil, starter: (any GuestStarter)? = nil, log: Logger,
        connect: @escaping @Sendable (NodeName, any LinkHandler) throws(SessionError) -> Link,
        reasonsOfStandby: @escaping @Sendable (GuestDescription) -> [String] = { _ in [] },
        report: @escaping @Sendable (SessionReport) -> Void
    ) throws(SystemError) {
        self.options = options
        self.origin = origin
        self.custody = custody
        self.software = software
        self.bases = bases
        self.starter = starter
        self.guests = guests
        self.log = log
        self.connect = connect
        self.reasonsOfStandby = reasonsOfStandby
        self.report = report
        questions = custody.arbiter.map { ArbiterQuestions(options.vm, $0) }
        wake = try EventDescriptor()
        verification = try MemoryVerification()
        let tookOver = if case .tookOver = origin { true } else { false }
        let names = PrimaryDuty.Names(
            options.vm, standby: options.standby, arbiter: custody.arbiter?.name, isNamed: origin.isNamed,
            tookOver: tookOver)
        let choice = StandbyChoice(
            options.standby, reserve: options.reserve,
            replaceAfter: UInt64(options.replaceAfterSeconds) * 1_000_000_000)
        state = Mutex(
            State(
                PrimaryDuty(
                    Self.machine(origin, options, custody), names, tuning: options.tuning, choice: choice,
                    isAsked: origin.isFresh,
                    degrade: LevelKeeper(options.degrade, asked: options.degradedFrom, at: takenAt))))
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
        _ = try NamedThread.start("epoch-\(options.vm)") { [self] in PrimaryThread(self).run() }
    }

    public var status: PrimaryStatus {
        state.withLock { state in
            var status = state.figures
            (status.phase, status.since) = state.shown
            let held = state.gates.map(\.held)
            status.heldBytes = held.reduce(0) { $0 + $1.bytes }
            status.heldFrames = held.reduce(0) { $0 + $1.frames }
            status.lastError = state.duty.lastError
            status.sealed = state.duty.sealed
            status.acknowledged = state.duty.machine.acknowledged
            status.term = state.duty.machine.register?.term ?? Term(0)
            status.linkBytesSent = state.parts.link?.bytesSent ?? 0
            status.linkBytesReceived = state.parts.link?.bytesReceived ?? 0
            status.linkConnections = state.parts.link?.connectionCount ?? 0
            status.peer = state.parts.watch?.view
            status.tuning = state.duty.tuning
            status.standby = state.duty.choice.current
            status.identity = state.identity
            status.level = state.duty.machine.level
            status.asked = state.duty.dial?.asked ?? state.duty.keeper.asked ?? status.level
            status.dialReason = state.duty.keeper.sentence(of: state.duty, at: MonotonicClock.now())
            status.isDegraded = state.duty.keeper.asked != nil && status.level != status.asked
            status.lostDisks = state.duty.copies.losses.sorted { $0.key < $1.key }.map(\.value)
            status.carried = state.parts.carry?.carried ?? []
            return status
        }
    }

    /// Ends protection and leaves the guest running as if nothing had been; `ended` is reported when that is done.
    public func unprotect() { tell { $0.unprotect() } }

    /// What the guest's epochs are to be like.
    public var tuning: EpochTuning { state.withLock { $0.duty.tuning } }

    /// The next epoch follows it; the standby is told.
    public func tune(_ tuning: EpochTuning) {
        state.withLock { state in
            state.parts.sender?.cap(megabits: tuning.linkCapMegabits)
            perform(state.duty.tune(tuning), &state)
        }
        wake.signal()
    }

    /// The guest's QEMU is gone, and the guest is to start here again.
    var isRestarting: Bool { state.withLock { $0.duty.machine.isRestarting } }

    /// Whether a guest that dies alone is started here again.
    var startsAgain: Bool {
        state.withLock { $0.duty.machine.state == .solo && !$0.duty.machine.level.holdsOutput }
    }

    /// True while the guest runs here without a standby, and may be given one.
    public var isAlone: Bool { state.withLock { $0.duty.machine.state == .solo } }

    /// When anything was last received from the standby's node, by `MonotonicClock`; 0 when there is no link to it.
    public var lastHeard: UInt64 {
        state.withLock { $0.duty.connection.linkDown == nil ? $0.parts.link?.lastReceived ?? 0 : 0 }
    }

    /// The standby, or who was last asked to be.
    public var standby: NodeName { state.withLock { $0.duty.choice.current } }

    /// Who may run the guest, as last won or read.
    public var register: Register? { state.withLock { $0.duty.machine.register } }

    /// The operator wants a standby for a guest that runs alone.
    public func protect() {
        state.withLock { $0.duty.protect() }
        wake.signal()
    }

    /// Another host offered the VM as its own.
    public func hear(of offer: SessionOffer) { tell { $0.hear(of: offer) } }

    /// The kernel's round-trip time of the link; nil when there is none.
    public func roundTrip() async -> Duration? { await state.withLock { $0.parts.link }?.roundTrip() }

    /// What was found out about the guest; nil before it was examined.
    public var guest: GuestDescription? { state.withLock { $0.guest } }

    /// Ends the guest here at once, so that the standby goes on with it.
    public func endGuest() {
        state.withLock { $0.endGuestRequested = true }
        wake.signal()
    }

    /// The guest is to go on at the standby. Returns why not, when that is known at once; else what comes of it shows in
    /// `switchover`. Where there is an arbiter it is asked first, with the guest running (`isSounding`).
    public func switchOver() -> String? { ask { $0.switchOver() } }

    /// True while the arbiter is asked before the guest is stopped for a switchover.
    public var isSounding: Bool { state.withLock { $0.duty.machine.session?.isSounding ?? false } }

    /// Why the switchover that was asked for last did not come; nil when it did, or while that is open.
    public var switchoverRefusal: String? { state.withLock { $0.duty.switchoverRefusal } }

    /// How a switchover from this host stands, after `switchOver`.
    public var switchover: Switchover { state.withLock { $0.duty.switchover } }

    /// What only the operator can say: that this copy of the guest goes on, or that it is given up. Returns why not, when
    /// there is nothing to decide.
    public func decide(goesOn: Bool) -> String? { ask { $0.settle(goesOn: goesOn) } }

    /// Returns why a wish cannot be followed.
    func ask(_ wish: (inout PrimaryDuty) -> PrimaryDuty.Reply) -> String? {
        let refusal = state.withLock { state -> String? in
            switch wish(&state.duty) {
            case .refused(let reason): return reason
            case .done(let outputs):
                perform(outputs, &state)
                return nil
            }
        }
        wake.signal()
        return refusal
    }
}
