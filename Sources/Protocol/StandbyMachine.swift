import Model

/// What the side that does not have the guest decides, through any number of sessions.
///
///     none --offered--> preparing --prepared--> receiving --applied(1)--> holding --link lost--> arbitrating
///       ^                                                                   |  ^                  |    | won
///       |<---------------- image given up, lost or outdated ---------------+--+-- orphaned ------+    v
///       |                                                                                        takingOver
///     running: the primary's side of this host goes on <---- resumed ---- resuming <--- loaded ----+
///
/// QEMU loads the state while the arbiter is asked and the term is made durable (`Loading`): a guest that is loaded does not
/// run, and its image is as good as before. In a switchover the state is loaded first and the arbiter asked after that, so
/// that a QEMU that refuses it costs nothing:
///
///     holding --asked to take over--> consulting --answered--> loading --loaded--> arbitrating
///        ^                               |                       | refused
///        +-------------- declined -------+                       v
///                                                            returning --its QEMU is gone, the guest is given back--> none
///
/// Staging, acknowledging and resuming are one machine, so that nothing is acknowledged once it asked to take over (I5).
/// `docs/PROTOCOL.md` has the whole table.
public struct StandbyMachine: Sendable, Equatable {
    /// What this host holds of a guest. An image has the incarnation for all its life; another image, or the same one
    /// after it was not cared for, has another (I13).
    public struct Image: Hashable, Sendable, Codable {
        public var session: SessionID
        public var identity: StandbyIdentity
        /// The term under which the session was offered.
        public var term: Term
        public var lineage: Lineage
        public var primary: NodeName
        /// What the primary promised (`SessionOffer.waits`).
        public var waits: Bool

        public init(
            session: SessionID, identity: StandbyIdentity, term: Term, lineage: Lineage, primary: NodeName,
            waits: Bool = false
        ) {
            self.session = session
            self.identity = identity
            self.term = term
            self.lineage = lineage
            self.primary = primary
            self.waits = waits
        }
    }

    public enum State: Sendable, Equatable {
        /// No image: ready for an offer.
        case none
        /// The replica is being made, and what must be durable before the answer is written.
        case preparing(isPrepared: Bool, isRecorded: Bool)
        /// The first copy arrives; no checkpoint is committed.
        case receiving
        /// Every epoch up to `staged` is held whole and acknowledged.
        case holding
        /// As `holding`, but the primary is not heard; nothing is acknowledged and nobody is asked.
        case orphaned
        /// The arbiter is asked whether this host may take over; nothing is acknowledged any more. Meanwhile the rest is
        /// applied and loaded.
        case arbitrating
        /// This host may run the guest; the rest is being applied and loaded, and the term made durable. At a level whose output
        /// is not held, nothing is loaded, and the former owner's lease is waited for.
        case takingOver(isRecorded: Bool)
        /// QEMU, which has the state, lets the guest run; or the guest is started from its disks, because none took it, or at a
        /// level that has no memory of it.
        case resuming
        /// The guest runs here: a `PrimaryMachine` goes on.
        case running
        /// The guest stands still at the primary: the arbiter is read before anything is done here that cannot be undone,
        /// and nothing is acknowledged.
        case consulting
        /// The guest stands still at the primary, and QEMU is to load its state here; nothing is acknowledged any more.
        case loading
        /// QEMU refused the state of a guest that stands still at the primary: it is given back.
        case returning
        /// QEMU refused the state, or did not go on. The image is kept.
        case failed
    }

    /// How far QEMU is with the newest epoch. It begins once nothing can be staged any more and everything is applied; what
    /// is loaded stays so until it runs or the image is given up, also over the end of the agent.
    public enum Loading: Sendable, Equatable {
        case waiting, underWay, done, refused
    }

    public enum Event: Sendable, Equatable {
        /// After a restart of the agent: the first event, once the primary was not heard for as long as a silent link
        /// is borne (an agent that comes back must not take over from a primary that is well).
        case started
        /// A primary asks this host to be its standby. The shell passes on at most one offer of a link, and none that comes
        /// on a link that was opened before that of a later offer: the order of links is the order of offers.
        case offered(SessionOffer)
        /// Memory is reserved, the disks fit, QEMU waits.
        case prepared(SessionID)
        case prepareFailed(SessionID, String)
        /// All frames of the epoch are here, in order, and their digest is right (I6).
        case staged(SessionID, Epoch)
        /// The epoch is written into the replica, whole (I7).
        case applied(SessionID, Epoch)
        /// The primary tells the register that it won.
        case registerTold(SessionID, Register)
        /// The link broke or fell silent.
        case linkLost(SessionID)
        /// The primary's node is off: its fence command, run for the asking with this nonce, says so.
        case peerFenced(Nonce)
        /// The fence command failed, took too long or is not there: nothing is known.
        case fencingFailed(Nonce, String)
        /// The node gave a sign of life after it had fallen silent.
        case peerHeard(NodeName)
        /// The primary's agent asks for it: its QEMU died, or the guest stands still there for a switchover.
        case takeOver(SessionID, Term, guestStands: Bool)
        /// The primary does not need this standby any more.
        case dismissed(SessionID)
        /// The operator says that the primary is off and this host shall go on.
        case force
        /// The operator gives the image up.
        case giveUp
        /// The replica cannot be used any more: its QEMU ended, its memory or disk failed.
        case imageLost(String)
        case answered(Nonce, RegisterAnswer)
        case registerRead(Register?)
        case registerUnreadable(String)
        /// The record of this term (`LocalRecord.seen`) is durable.
        case persisted(Term)
        /// After `awaitLease`: the former owner's gate is shut for certain, and the register named this host since
        /// (`LeaseMachine.Action.mayRun`).
        case cleared
        /// After `load`.
        case loaded
        /// Also of a QEMU that was lost with what it had loaded, where the guest is to be booted then.
        case loadFailed(String)
        /// The guest runs here.
        case resumed
        case resumeFailed(String)
        /// After `endReplica`: the process is proven gone.
        case replicaEnded
    }

    /// What the shell has to do, in the order of the list. Staging, acknowledging and `discard` belong under one lock
    /// with `handle`; everything else may be carried out elsewhere, and what came of it comes back as an event.
    public enum Action: Sendable, Equatable {
        /// Make the replica for this offer; write the identity into it, so that it lives and dies with it. `prepared`
        /// or `prepareFailed` follows.
        case prepare(SessionOffer, StandbyIdentity)
        /// Write the record so that it survives a power cut, in the order of these actions; then `persisted(record.seen)`.
        case persist(LocalRecord)
        /// Tell the primary that the session may begin.
        case accept(SessionID, StandbyIdentity)
        /// Tell the asker why not, and what this host knows of the register.
        case refuse(SessionID, String, knows: Register?)
        /// Send the acknowledgement of this epoch, with the digest found, on the session's link.
        case acknowledge(Epoch)
        /// Write the epoch into the replica; `applied` follows. Epochs are applied in the order of these actions.
        case apply(Epoch)
        /// Drop frames of epochs after this one, and held output of them: they are not complete and never will be.
        case discard(after: Epoch)
        /// As for the primary: `answered` with the same nonce follows in any case.
        case compareAndSet(expecting: Register?, to: Register, nonce: Nonce)
        /// As for the primary: `registerRead` or `registerUnreadable` follows. In `consulting`, within half a second: a guest
        /// stands still for it.
        case readRegister
        /// As for the primary: `peerFenced`, `fencingFailed` or `peerHeard` follows. Once this host won with the arbiter's
        /// word, nothing waits for the answer.
        case fencePeer(NodeName, Nonce)
        /// As for the primary.
        case stopFencing
        /// Tell the primary that nothing of the guest will go on from here.
        case confirmDismissal(SessionID)
        /// Close the session's link.
        case closeLink
        /// Everything committed is applied: flush the disks and load the state without letting a vCPU run. `loaded` or
        /// `loadFailed` follows.
        case load(from: Epoch)
        /// The state is loaded: mark the image as used up (durably with the image), and let the guest run; let out what is
        /// held of the output of this epoch and of those before it. `resumed` or `resumeFailed` follows.
        case resume(from: Epoch)
        /// No QEMU took the state: end the one that was to, and when it is proven gone boot the guest from its disk, which is
        /// flushed before. Everything else as for `resume`, which this takes the place of.
        case boot(from: Epoch)
        /// This host won this term, at a level whose output is not held: wait until the former owner's lease has run out
        /// (`LeaseMachine`, `toStart`); `cleared` follows.
        case awaitLease(Term)
        /// The former owner's host is off: that ends the wait (`LeaseMachine`, `peerFenced`).
        case endWait
        /// Everything committed is applied: end the standby QEMU, if there is one, mark the image as used up (durably with
        /// the image), and start the guest from the disks. `resumed` or `resumeFailed` follows.
        case startFromDisk
        /// Tell the primary on the session's link that the guest runs here, under this register.
        case tellRunning(Register)
        /// Go on with `PrimaryMachine(tookOver:)` under this register.
        case becomePrimary(Register)
        /// End the standby QEMU, which did not go on, and keep the rest: `replicaEnded` follows when it is proven gone.
        case endReplica
        /// Tell the primary on the session's link that the guest is its again.
        case giveBack(SessionID)
        /// Tell the primary on the session's link, for this reason, that nothing was done to take over, and that this is its
        /// standby as before.
        case decline(SessionID, String)
        /// End the standby QEMU and remove the replica, its identity first.
        case dismantle
        /// The primary is not heard any more.
        case reportPrimaryLost
        /// The operator's command cannot be followed.
        case refuseCommand(String)
        /// One sentence for the operator and the journal.
        case report(String)
    }

    struct Request: Sendable, Equatable {
        var expecting: Register
        var new: Register
        var nonce: Nonce
    }

    public let node: NodeName
    public let rule: Rule
    /// The nodes for which a fence command is configured.
    public let fences: Set<NodeName>
    /// Whether a guest whose state no QEMU takes is booted from its disk.
    public let bootsFromDisk: Bool
    public internal(set) var state = State.none
    public internal(set) var image: Image?
    /// The newest epoch that is held whole.
    public internal(set) var staged = Epoch.firstCopy
    /// The newest epoch that is in the replica.
    public internal(set) var applied = Epoch.firstCopy
    public internal(set) var loading = Loading.waiting
    /// The register as last told, read or won.
    public internal(set) var register: Register?
    var seen: Term
    /// Of the offer under which the image was begun.
    var offeredLevel: Level?
    /// The former owner's lease is not waited for any more.
    var isCleared = false
    var request: Request?
    /// The primary asked for a switchover under this term at least, and has the guest standing still.
    var handOver: Term?
    var fencing: FencingRequest?
    /// The primary fell silent in this life of the agent, and did not ask for a takeover.
    var primaryIsSilent = false
    var random: RandomSource

    /// Without an image; `seed` is random.
    public init(
        node: NodeName, rule: Rule, record: LocalRecord, fences: Set<NodeName> = [], bootsFromDisk: Bool = false,
        seed: UInt64
    ) {
        self.node = node
        self.rule = rule
        self.fences = fences
        self.bootsFromDisk = bootsFromDisk
        seen = record.seen
        register = record.register
        random = RandomSource(seed: seed)
    }

    /// For a whole image that was found after a restart of the agent and was not used up: epochs after `applied` up to
    /// `staged` are applied once more, in order, and reported. `started` is the first event.
    /// - Parameters:
    ///   - level: of the offer under which it was begun.
    ///   - isLoaded: its QEMU has the state of `applied` already, which is `staged` then: what came after it was never
    ///     acknowledged.
    public init(
        node: NodeName, rule: Rule, record: LocalRecord, fences: Set<NodeName> = [], bootsFromDisk: Bool = false,
        seed: UInt64, found image: Image, level: Level = .system, staged: Epoch, applied: Epoch, isLoaded: Bool
    ) {
        precondition(!isLoaded || applied == staged, "a state is loaded only once everything is applied")
        self.init(node: node, rule: rule, record: record, fences: fences, bootsFromDisk: bootsFromDisk, seed: seed)
        self.image = image
        offeredLevel = level
        self.staged = staged
        self.applied = applied
        if isLoaded { loading = .done }
        state = .orphaned
    }

    /// Feeds one event in; the actions are to be carried out in order.
    public mutating func handle(_ event: Event) -> [Action] {
        var actions: [Action] = []
        switch event {
        case .staged(let session, let epoch): stage(session, epoch, &actions)
        case .applied(let session, let epoch): apply(session, epoch, &actions)
        case .started: start(&actions)
        case .offered(let offer): consider(offer, &actions)
        case .prepared(let session): prepare(session, &actions)
        case .prepareFailed(let session, let reason): failToPrepare(session, reason, &actions)
        case .registerTold(let session, let register): note(register, of: session, &actions)
        case .linkLost(let session): loseLink(session, &actions)
        case .peerFenced(let nonce): takeOverFenced(nonce, &actions)
        case .fencingFailed(let nonce, let reason): failToFence(nonce, reason, &actions)
        case .peerHeard(let node): hear(from: node, &actions)
        case .takeOver(let session, let term, let stands): beAsked(session, term, guestStands: stands, &actions)
        case .dismissed(let session): beDismissed(session, &actions)
        case .force: force(&actions)
        case .giveUp: giveUp(&actions)
        case .imageLost(let reason): loseImage(reason, &actions)
        case .answered(let nonce, let answer): take(answer, to: nonce, &actions)
        case .registerRead(let current): learn(current, &actions)
        case .registerUnreadable(let reason): failToRead(reason, &actions)
        case .persisted(let term): note(durable: term, &actions)
        case .cleared: beCleared(&actions)
        case .resumed: run(&actions)
        case .loaded: beLoaded(&actions)
        case .loadFailed(let reason): failToLoad(reason, &actions)
        case .resumeFailed(let reason): failToResume(reason, &actions)
        case .replicaEnded: giveBack(&actions)
        }
        return actions
    }

    /// The level of the register, as far as is known.
    public var level: Level {
        if let register, register.term >= image?.term ?? Term(0) { return register.level }
        return offeredLevel ?? .system
    }

    /// Writes to the disks that do not belong to an epoch are taken up, and answered for (I5).
    public var takesWrites: Bool { state == .receiving || state == .holding }

    public var record: LocalRecord { LocalRecord(seen: seen, register: register) }
}
