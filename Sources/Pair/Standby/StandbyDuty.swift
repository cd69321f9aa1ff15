import Messages
import Model
import Protocol
import Standby
import Wire

/// What a standby's session decides and remembers, without threads, locks, clock, link and files: `StandbyShell` carries it
/// out, and so does the simulator.
///
/// Every method takes one thing that happened and returns what is to be done, in that order, before the next one is told.
/// All times are nanoseconds of one monotonic clock.
package struct StandbyDuty: Sendable {
    /// What the apply thread has to do, in order.
    package enum Work: Sendable {
        case apply(Epoch)
        case load(from: Epoch)
        case resume(from: Epoch)
        /// In the place of `resume`; `resumed` follows.
        case boot(from: Epoch)
        case startFromDisk
        case endReplica
        /// Keeps the memory where `keepsMemory` says so by then.
        case dismantle(reason: String)
    }

    package enum Output: Sendable {
        case send(StandbyMessage)
        case closeLink
        case enqueue(Work)
        /// Drop what came of epochs after this one.
        case discard(after: Epoch)
        /// `learn` follows.
        case ask(RegisterQuestion)
        case stopAsking
        /// `persisted` or `failToPersist` follows.
        case persist(LocalRecord)
        /// To be written down; the primary hears `noted` when that is durable.
        case note(DiskNote)
        /// `handle` with what the command says follows.
        case fence(NodeName, Nonce, reason: String)
        case stopFencing
        /// For this host's `LeaseMachine`; `handle` with `cleared` follows its `mayRun`.
        case lease(LeaseMachine.Event)
        case report(SessionReport)
        /// What came of the operator's word that the guest shall go on here, for whoever waits for it.
        case settle(Result<TakeOverReport, SessionError>)
        /// The offer is to be answered. A shell begins with an offer that was accepted, and sees none of these.
        case answer(OfferAnswer)
    }

    package enum OfferAnswer: Sendable {
        case prepare(SessionOffer, StandbyIdentity)
        case accept(SessionID, StandbyIdentity)
        case refuse(SessionID, String, knows: Register?)
    }

    /// What led to the takeover that is under way, and when its steps were done.
    package struct TakeOverRequest: Sendable {
        package var cause: TakeOverCause
        package var reason: String
        package var decidedAt: UInt64
        /// When QEMU had the state, and when it was durable that this host had won; 0 before.
        package var loadedAt: UInt64 = 0
        package var recordedAt: UInt64 = 0
        /// How often the primary started the guest, which it cannot start again; 0 where that is not why.
        package var starts = 0
    }

    /// A guest stands still while the arbiter is read before a switchover: no longer than this.
    static let consultingMax = Duration.milliseconds(500)

    package var recorded: RecordedMachine<StandbyMachine>
    package var machine: StandbyMachine { recorded.machine }
    let vm: VMName
    package let session: SessionID
    let primary: NodeName?
    let arbiter: String?
    /// The most silence of the primary that is borne.
    let ceiling: UInt64
    /// When this host began to listen for a primary that an earlier run of the agent had; nil when it was heard.
    var listensSince: UInt64?
    package var isListening: Bool { listensSince != nil }
    /// The session's link is there.
    package internal(set) var isLinked: Bool

    package internal(set) var phase: SessionPhase
    package internal(set) var lastError: String?
    package internal(set) var staged: Epoch
    package internal(set) var applied: Epoch
    package internal(set) var tuning: EpochTuning?
    package internal(set) var takeOver: TakeOverRequest?
    /// Disks whose copy at the primary is lost, as it says.
    var ownerLacks: Set<UInt16> = []
    /// The primary's guest lives by a copy of a disk that is here.
    package var hasOnlyCopy: Bool { isLinked && !ownerLacks.isEmpty }
    /// Why the switchover that was asked of this host last did not come.
    var declined: String?
    /// Of epochs that are staged and not acknowledged.
    var digests: [Epoch: CheckpointDigest] = [:]
    /// What came of the first copy, to compare with what the primary says it sent.
    var firstCopy = Synced(frameCount: 0, byteCount: 0)
    /// The link is lost, and the primary's host is heard: the primary may ask first, until then.
    package internal(set) var heldBack: (reason: String, until: UInt64)?
    /// The last term of whose owner this host's `LeaseMachine` may promise something.
    var promised: Term?
    /// The former owner's lease is waited for, under one of this host's own.
    var isLeased = false
    /// Under which the guest runs here.
    package internal(set) var won: Register?
    /// There is nothing left to do.
    package internal(set) var isFinished = false
    /// Whether the memory is kept, as the base of a later replica, when this one is dismantled.
    package internal(set) var keepsMemory = true

    /// - Parameters:
    ///   - arbiter: its name, in sentences.
    ///   - ceiling: the most silence of the primary that is borne.
    ///   - listensSince: for an image that an earlier run of the agent left.
    ///   - applied: the newest epoch that is in the replica.
    package init(
        _ machine: StandbyMachine, of vm: VMName, arbiter: String?, ceiling: UInt64, isLinked: Bool,
        listensSince: UInt64? = nil, applied: Epoch
    ) {
        recorded = RecordedMachine(machine)
        self.vm = vm
        self.arbiter = arbiter
        self.ceiling = ceiling
        self.isLinked = isLinked
        self.listensSince = listensSince
        session = machine.image?.session ?? .none
        primary = machine.image?.primary
        phase = listensSince == nil ? .syncing : .peerLost
        staged = machine.staged
        self.applied = applied
    }

    // MARK: - The operator

    /// The primary is off: the guest is to go on here, once the arbiter agrees where there is one. `settle` follows once.
    package mutating func goOn(because reason: String, at now: UInt64, hostLives: Bool) -> [Output] {
        var outputs: [Output] = []
        stopHoldingBack(at: now, hostLives: hostLives, &outputs)
        switch machine.state {
        case .loading, .takingOver, .resuming, .arbitrating: break
        default:
            takeOver = TakeOverRequest(cause: .operator, reason: reason, decidedAt: now)
            feed(.force, &outputs)
        }
        return outputs
    }

    /// The replica is given up, unless the guest runs here already.
    package mutating func dismiss(because reason: String, at now: UInt64, hostLives: Bool) -> [Output] {
        var outputs: [Output] = []
        stopHoldingBack(at: now, hostLives: hostLives, &outputs)
        lastError = reason
        keepsMemory = false
        feed(.giveUp, &outputs)
        return outputs
    }

    /// The primary is told what this host's operator wants of it; nothing when there is none.
    package mutating func ask(_ wish: WishMessage.Wish, because reason: String) -> [Output] {
        guard isLinked else { return [] }
        declined = nil
        return [.send(.wish(WishMessage(wish, reason: reason)))]
    }

    /// How a switchover to this host stands.
    package var switchover: Switchover {
        switch machine.state {
        case .running: .done
        case .failed, .returning, .none: .failed(lastError ?? "no reason given")
        case .holding where declined != nil: .failed(declined ?? "")
        default: .underWay
        }
    }

    // MARK: - Another offer

    package enum Consideration: Sendable {
        case refused(String, knows: Register?)
        /// The replica of this session is given up; the machine goes on with the other one, and wants this done for it.
        case followed(StandbyMachine, [StandbyMachine.Action], [Output])
    }

    /// Another offer for the same VM.
    package mutating func consider(_ offer: SessionOffer) -> Consideration {
        var other = recorded
        let actions = other.decide(.offered(offer))
        recorded.steps = other.steps
        for case .refuse(_, let reason, let known) in actions { return .refused(reason, knows: known) }
        let reason = "a newer session takes its place"
        lastError = reason
        heldBack = nil
        isLinked = false
        var outputs: [Output] = actions.contains(.stopFencing) ? [.stopFencing] : []
        outputs += [.closeLink, .stopAsking, .enqueue(.dismantle(reason: reason))]
        return .followed(other.machine, actions, outputs)
    }

    // MARK: - Feeding the machine

    package mutating func handle(_ event: StandbyMachine.Event) -> [Output] {
        var outputs: [Output] = []
        feed(event, &outputs)
        return outputs
    }

    mutating func feed(_ event: StandbyMachine.Event, _ outputs: inout [Output]) {
        perform(recorded.decide(event), &outputs)
    }

    mutating func perform(_ actions: [StandbyMachine.Action], _ outputs: inout [Output]) {
        for action in actions { perform(action, &outputs) }
        switch machine.state {
        case .loading, .takingOver, .resuming: phase = .failingOver
        case .failed:
            phase = .failed
            outputs.append(.settle(.failure(SessionError(.qemu, lastError ?? "QEMU did not go on"))))
        default: break
        }
    }

    private mutating func perform(_ action: StandbyMachine.Action, _ outputs: inout [Output]) {
        switch action {
        case .acknowledge(let epoch):
            guard let digest = digests.removeValue(forKey: epoch) else { break }
            send(.acknowledge(epoch, digest), &outputs)
        case .apply(let epoch): outputs.append(.enqueue(.apply(epoch)))
        case .discard(let epoch):
            digests = [:]
            outputs.append(.discard(after: epoch))
        case .compareAndSet, .readRegister: ask(action, &outputs)
        case .persist(let record): outputs.append(.persist(record))
        case .fencePeer(let peer, let nonce):
            outputs.append(.fence(peer, nonce, reason: takeOver?.reason ?? "the primary is lost"))
        case .stopFencing: outputs.append(.stopFencing)
        case .confirmDismissal, .tellRunning, .giveBack, .decline: tellPrimary(action, &outputs)
        case .closeLink: closeLink(&outputs)
        case .load(let epoch): outputs.append(.enqueue(.load(from: epoch)))
        case .resume(let epoch): outputs.append(.enqueue(.resume(from: epoch)))
        case .boot(let epoch): outputs.append(.enqueue(.boot(from: epoch)))
        case .startFromDisk: outputs.append(.enqueue(.startFromDisk))
        case .awaitLease(let term):
            isLeased = true
            outputs.append(.lease(.won(term, .toStart)))
        case .endWait: outputs.append(.lease(.peerFenced))
        case .becomePrimary(let register): won = register
        case .endReplica: outputs.append(.enqueue(.endReplica))
        case .reportPrimaryLost: phase = .peerLost
        case .dismantle:
            endLease(&outputs)
            let reason = lastError ?? "the primary ended protection"
            outputs.append(.settle(.failure(SessionError(.refused, reason))))
            outputs.append(.enqueue(.dismantle(reason: reason)))
        case .refuseCommand(let reason):
            outputs.append(.settle(.failure(SessionError(.refused, "\(vm) cannot be taken over: \(reason)"))))
        case .report(let text):
            lastError = text
            outputs.append(.report(.event(.state, text)))
        case .prepare(let offer, let identity): outputs.append(.answer(.prepare(offer, identity)))
        case .accept(let session, let identity): outputs.append(.answer(.accept(session, identity)))
        case .refuse(let session, let reason, let known):
            outputs.append(.answer(.refuse(session, reason, knows: known)))
        }
    }

    private mutating func ask(_ action: StandbyMachine.Action, _ outputs: inout [Output]) {
        // Nothing is promised any more (I27).
        if let term = promised {
            promised = nil
            outputs.append(.lease(.asksToTakeOver(term)))
        }
        if case .compareAndSet(let expected, let new, let nonce) = action {
            outputs.append(.report(.event(.asked, new.question(to: arbiter))))
            outputs.append(.ask(.compareAndSet(expecting: expected, to: new, nonce: nonce)))
        } else {
            let isConsulting = machine.state == .consulting
            outputs.append(.ask(.read(within: isConsulting ? Self.consultingMax : nil)))
        }
    }

    private mutating func tellPrimary(_ action: StandbyMachine.Action, _ outputs: inout [Output]) {
        switch action {
        case .confirmDismissal:
            send(.goodbye(GoodbyeMessage(kind: .unprotected, reason: "nothing goes on from here")), &outputs)
        case .tellRunning(let register): send(.register(register), &outputs)
        case .giveBack:
            let reason = "\(machine.node) gave the guest back: \(lastError ?? "no reason given")"
            send(.goodbye(GoodbyeMessage(kind: .handedBack, reason: reason)), &outputs)
        case .decline(_, let reason):
            takeOver = nil
            declined = reason
            let text = "\(machine.node) did not take over, and is the standby as before: \(reason)"
            outputs.append(.report(.event(.refused, text)))
            send(.goodbye(GoodbyeMessage(kind: .handedBack, reason: reason, staysStandby: true)), &outputs)
        default: break
        }
    }

    mutating func endLease(_ outputs: inout [Output]) {
        if isLeased { outputs.append(.lease(.ended)) }
        isLeased = false
    }

    func send(_ message: StandbyMessage, _ outputs: inout [Output]) {
        if isLinked { outputs.append(.send(message)) }
    }

    mutating func closeLink(_ outputs: inout [Output]) {
        if isLinked { outputs.append(.closeLink) }
        isLinked = false
    }
}
