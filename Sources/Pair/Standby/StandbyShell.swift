import GuestNetwork
import Hypervisor
import LinuxSystem
import Logging
import Messages
import Model
import NIOCore
import Protocol
import Standby
import Synchronization
import Transport
import Wire

/// The standby's side of one protected VM: stages what arrives, acknowledges, applies, and resumes the guest when it
/// has to.
///
/// Frames arrive on the link's event loop, which stages them and acknowledges; a thread of its own applies them and
/// does everything that may take long. One lock guards the state machine, so staging, acknowledging and resuming are
/// serialised: nothing is acknowledged once the guest was resumed here.
public final class StandbyShell: LinkHandler, Sendable {
    /// What the apply thread has to do next, in order.
    enum Work: Sendable {
        case direct(FrameHeader, ByteBuffer)
        case checkpoint(Epoch)
        case read(DiskRead)
        case digests(DiskDigests)
        case pageDigests(PageDigests)
        case verify(Epoch, VerifyQuestion)
        case load(from: Epoch)
        case resume(from: Epoch)
        case endReplica
        case dismantle(reason: String)
    }

    struct State {
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
        /// Why the switchover that was asked of this host last did not come.
        var declined: String?
        /// Of epochs that are staged and not acknowledged.
        var digests: [Epoch: CheckpointDigest] = [:]
        var hasStarted = false
        var watch: PeerWatch
        /// When the arbiter is read next, only to have it near.
        var nextReading: UInt64 = 0
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

    struct TakeOverRequest: Sendable {
        var cause: TakeOverCause
        var reason: String
        var decidedAt: UInt64
        /// When QEMU had the state, and when it was durable that this host had won: by `MonotonicClock`, 0 before.
        var loadedAt: UInt64 = 0
        var recordedAt: UInt64 = 0
        var completions: [@Sendable (Result<TakeOverReport, SessionError>) -> Void] = []
    }

    /// How often the arbiter is read while nothing is to be asked, in nanoseconds.
    static let readingPeriod: UInt64 = 10_000_000_000

    /// A guest stands still while the arbiter is read before a switchover: no longer than this.
    static let consultingMax = Duration.milliseconds(500)

    /// The most of the first copy that waits in memory for the apply thread, in bytes.
    static let directBytesMax = 64 << 20

    public let vm: VMName
    let offer: OfferMessage
    var session: SessionID { offer.session.session }
    let replica: Replica
    let state: Mutex<State>
    let wake: EventDescriptor
    let startedAt = MonotonicClock.now()
    let heartbeat = Mutex<HeartbeatThread?>(nil)
    let heartbeatMilliseconds: Int
    let custody: Custody
    let questions: ArbiterQuestions?
    let report: @Sendable (SessionReport) -> Void
    let log: Logger
    /// After a restart of the agent: the first epoch that is applied once more.
    let firstRecovered: Epoch?

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
        // What QEMU has loaded is the newest that was ever acknowledged.
        let recovered = replica.recovering && !replica.isLoaded ? stage.recover() : []
        firstRecovered = recovered.first
        let machine =
            accepted
            ?? StandbyMachine(
                node: custody.node, rule: custody.rule, record: custody.record,
                fences: Set(custody.fences.keys), seed: .random(in: 1 ... .max), found: replica.image,
                staged: recovered.last ?? replica.appliedEpoch,
                applied: recovered.first.map { Epoch($0.number - 1) } ?? replica.appliedEpoch,
                isLoaded: replica.isLoaded)
        var status = StandbyStatus()
        status.staged = recovered.last ?? replica.appliedEpoch
        status.applied = replica.appliedEpoch
        status.qemuPID = replica.qemuPID
        status.qmpPath = replica.qmpPath
        status.tuning = replica.offer.tuning
        status.identity = replica.offer.identity
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
            case .holding where state.declined != nil: .failed(state.declined ?? "")
            default: .underWay
            }
        }
    }

    /// Why the arbiter cannot be asked whether this host may run the guest; nil when it answers, and where there is none.
    public func reasonToWait() async -> String? {
        guard let arbiter = custody.arbiter else { return nil }
        if case .unknown(let reason) = await arbiter.read(vm) { return reason }
        return nil
    }

    /// Tells the primary what this host's operator wants of it. False when there is no primary to tell.
    public func ask(_ wish: WishMessage.Wish, because reason: String) -> Bool {
        state.withLock { state in
            guard let link = state.link else { return false }
            state.declined = nil
            link.send(WishMessage(wish, reason: reason).frame)
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
            baseBytes: replica.baseBytes, heartbeatMilliseconds: heartbeatMilliseconds, verifies: true
        ).frame
    }
}
