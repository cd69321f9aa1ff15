import Foundation
import GuestNetwork
import Hypervisor
import LinuxSystem
import Logging
import Memory
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
    typealias State = StandbyState

    /// How often the arbiter is read while nothing is to be asked, in nanoseconds.
    static let readingPeriod: UInt64 = 10_000_000_000

    /// The most of the first copy that waits in memory for the apply thread, in bytes.
    static let directBytesMax = 64 << 20

    public let vm: VMName
    let offer: OfferMessage
    let replica: Replica
    let state: Mutex<State>
    let wake: EventDescriptor
    let startedAt = MonotonicClock.now()
    let heartbeat = Mutex<HeartbeatThread?>(nil)
    let flusher = Mutex<ImageFlusher?>(nil)
    let imageWork = ImageWork()
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
    ///   - diskTimeoutMilliseconds: images whose storage makes no progress for longer are lost.
    ///   - secondPath: another way to the primary's host.
    public init(
        replica: Replica, machine accepted: StandbyMachine?, custody: Custody, link: Link?,
        heartbeatMilliseconds: Int, diskTimeoutMilliseconds: Int, secondPath: SecondPath?,
        log: Logger,
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
        let machine = accepted ?? StandbyMachine(found: replica, custody, recovered: recovered)
        self.heartbeatMilliseconds = heartbeatMilliseconds
        let limits = SilenceJudge.Limits(
            replica.offer, interval: heartbeatMilliseconds, peerInterval: replica.offer.heartbeatMilliseconds)
        let watch = PeerWatch(limits, secondPath: secondPath, now: startedAt)
        let duty = StandbyDuty(
            machine, of: vm, arbiter: custody.arbiter?.name, ceiling: watch.ceiling, isLinked: link != nil,
            listensSince: replica.recovering ? startedAt : nil, applied: replica.appliedEpoch)
        state = Mutex(
            State(
                duty: duty, shown: (duty.phase, Date()), stage: stage, hasMemory: replica.memory != nil,
                writes: ThroughWrites(at: offer.session.level), link: link, watch: watch,
                applyWatch: ApplyWatch(milliseconds: diskTimeoutMilliseconds, interval: heartbeatMilliseconds)))
        // An earlier run may have been killed in the middle of an apply: everything complete is applied once more.
        state.withLock { state in
            for epoch in recovered {
                do {
                    try state.restage(epoch, to: replica)
                } catch {
                    fail(SessionError(.storage, "checkpoint \(epoch) cannot be taken up: \(error)"), &state)
                }
                state.queue.append(.decided(.apply(epoch)))
            }
        }
        let beats = try HeartbeatThread(
            "\(vm)", milliseconds: heartbeatMilliseconds,
            borne: replica.offer.silenceFloorMilliseconds ?? replica.offer.silenceMilliseconds
        ) { [weak self] in self?.beat($0) ?? .max }
        heartbeat.withLock { $0 = beats }
        let flusher = try ImageFlusher(vm, replica.disks) { [weak self] error in
            self?.state.withLock { self?.fail(error, &$0) }
            self?.wake.signal()
        }
        self.flusher.withLock { $0 = flusher }
        StandbyLease.attend(self)
        _ = try NamedThread.start("apply-\(replica.offer.vm)") { [self] in run() }
    }

    public var status: StandbyStatus {
        state.withLock { state in
            var status = StandbyStatus(state.shown.phase, since: state.shown.since)
            status.staged = state.duty.staged
            status.applied = state.duty.applied
            status.lastError = state.duty.lastError
            status.tuning = state.duty.tuning ?? offer.tuning
            status.qemuPID = replica.qemuPID
            status.qmpPath = replica.qmpPath
            status.identity = offer.identity
            status.firstCopyBytes = state.firstCopyBytes
            status.stagedBytes = state.stage.stagedBytes
            status.term = state.duty.machine.register?.term ?? offer.session.term
            status.peer = state.watch.view
            status.startsFromDisk = !state.hasMemory
            status.guestBytes = ReplicaMemory.size(of: offer.guest.ramBlocks)
            return status
        }
    }

    /// The primary's agent is heard, over the second path when the link is gone.
    public var hearsPrimary: Bool { state.withLock { $0.watch.hostLives } }

    /// The primary's guest lives by a copy of a disk that is here: this host cannot leave.
    public var hasOnlyCopy: Bool { state.withLock { $0.duty.hasOnlyCopy } }

    /// The operator says that the primary is off: runs the guest here from the last committed checkpoint, once the
    /// arbiter agrees where there is one. `completion` is called once, from any thread.
    public func takeOver(
        reason: String, completion: @escaping @Sendable (Result<TakeOverReport, SessionError>) -> Void
    ) {
        state.withLock { state in
            state.completions.append(completion)
            perform(
                state.duty.goOn(because: reason, at: MonotonicClock.now(), hostLives: state.watch.hostLives), &state)
        }
        wake.signal()
    }

    /// Gives the replica up: ends its QEMU and removes its files, unless the guest runs here already.
    public func dismiss(reason: String) {
        state.withLock { state in
            perform(
                state.duty.dismiss(because: reason, at: MonotonicClock.now(), hostLives: state.watch.hostLives), &state)
        }
        wake.signal()
    }

    /// How a switchover to this host stands.
    public var switchover: Switchover { state.withLock { $0.duty.switchover } }

    /// Why the arbiter cannot be asked whether this host may run the guest; nil when it answers, and where there is none.
    public func reasonToWait() async -> String? {
        guard let arbiter = custody.arbiter else { return nil }
        if case .unknown(let reason) = await arbiter.read(vm) { return reason }
        return nil
    }

    /// Tells the primary what this host's operator wants of it. False when there is no primary to tell.
    public func ask(_ wish: WishMessage.Wish, because reason: String) -> Bool {
        state.withLock { state in
            let outputs = state.duty.ask(wish, because: reason)
            perform(outputs, &state)
            return !outputs.isEmpty
        }
    }

    /// Another offer for the same VM. When it is to be followed, this replica is given up, and the machine that goes on
    /// is returned; else the reason why not.
    public func consider(_ offer: SessionOffer) -> Result<StandbyMachine, SessionError> {
        state.withLock { state in
            switch state.duty.consider(offer) {
            case .refused(let reason, let known): return .failure(SessionError(.refused, reason, knows: known))
            // Its actions are for whoever makes the next replica.
            case .followed(let machine, _, let outputs):
                perform(outputs, &state)
                wake.signal()
                return .success(machine)
            }
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
            baseBytes: replica.baseBytes, heartbeatMilliseconds: heartbeatMilliseconds, verifies: true,
            carries: custody.uplinks != nil ? true : nil
        ).frame
    }
}
