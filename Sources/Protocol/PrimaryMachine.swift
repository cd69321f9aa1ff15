import Model

/// What the side that has the guest decides, from the moment that the agent takes the guest in hand until it is gone.
///
///     adopting --claim won--> solo --candidate--> offering --accepted--> copying --sealed(1)--> pairing
///        |                     ^                                                                 | ack(1), PAIRED won
///        | owned by another    +------ SOLO won ------ lonely <------- standby lost ---------- paired
///        v                                                |                                      | switchover
///     fencing <----------------- won by another ----------+------------ overdue ----------- handingOver
///        | guest proven dead
///        v
///     fenced: this host is a candidate for standby
///
/// `docs/PROTOCOL.md` has the whole table. Output flows in `solo`, `offering` and `copying`; it is released by
/// acknowledgements in `pairing` and `paired`; in every other state nothing leaves.
public struct PrimaryMachine: Sendable, Equatable {
    /// What the operator wants when no standby acknowledges any more and there is no arbiter to ask.
    public enum LonelyPolicy: String, Sendable, Codable {
        /// Release what is held and run on unprotected.
        case runAlone = "run-alone"
        /// Keep holding until the operator decides.
        case freeze
    }

    /// Whether a lost standby is replaced without being asked to.
    public enum Reprotection: String, Sendable, Codable {
        case automatic, manual
    }

    /// The guest that is taken in hand.
    public enum Guest: Sendable, Equatable {
        /// It was not ours before: it begins a lineage. When the register names another owner, or a standby that could go
        /// on with the last state, it is refused, unless the operator says that those are off and overrides them.
        case fresh(overridesRegister: Bool)
        /// An earlier run of this agent, or a takeover, noted that this QEMU process carries this lineage (I14).
        case ours(Lineage)
    }

    public enum State: Sendable, Equatable {
        /// Holds everything until it is known who may run, and claimed (I14).
        case adopting
        /// The register says SOLO: output flows.
        case solo
        /// A node was asked to be the standby; output flows.
        case offering(SessionID, to: NodeName)
        /// The first copy travels; output flows, because there is nothing to fall back to yet.
        case copying(Session)
        /// Checkpoint 1 is sealed and output is held; once it is acknowledged, PAIRED is asked for.
        case pairing(Session)
        /// The register says PAIRED: output is held until its epoch is acknowledged.
        case paired(Session)
        /// The guest stands still, the standby has all of it and was asked to take over.
        case handingOver(Session)
        /// The standby is lost, or may be about to take over: holds everything and asks for SOLO.
        case lonely
        /// No arbiter, and output stays held when the standby is lost: until it is confirmed off, where it can be fenced,
        /// or the operator decides.
        case frozen
        /// No arbiter, and two hosts ran the guest alone: stands still until the operator says which history stays.
        case forked
        /// Somebody else may run the guest: it is being killed here.
        case fencing
        /// The guest is proven dead (I15).
        case fenced
        /// Nothing is decided here any more; the guest, if it runs, is not touched.
        case ended
    }

    public enum Event: Sendable, Equatable {
        /// The first event: the guest was found and nothing of it leaves.
        case started
        /// A node that could be the standby answers; `asked` when the operator named it.
        case candidate(NodeName, asked: Bool)
        /// The standby prepared its replica.
        case accepted(SessionID, StandbyIdentity)
        /// It will not be the standby.
        case refused(SessionID, String)
        /// What another node says of the register; comes in its offers and refusals.
        case peerRegister(Register)
        /// The guest stands still and the epoch is cut: what it sends from here on belongs to the next one.
        case sealed(SessionID, Epoch)
        /// As `sealed`, after `sealLast`: the guest keeps standing still.
        case sealedLast(SessionID, Epoch)
        /// After `guardOutput`: the gate stands, and was opened by a lease that is confirmed.
        case guarded(SessionID)
        /// The standby staged the epoch whole; `digestMatches` tells whether it acknowledged what we sent.
        case acknowledged(SessionID, Epoch, digestMatches: Bool)
        /// The link broke or fell silent, or the session failed on our side.
        case standbyLost(SessionID)
        /// `askTakeOver` for a switchover was sent a while ago (seconds) and nothing came of it.
        case handOverOverdue
        /// The standby was asked to take over and could not: its QEMU is proven gone, and the guest is ours again.
        case handedBack(SessionID)
        /// The standby was asked to take over and did nothing for it, for this reason: it is the standby as before.
        case declined(SessionID, String)
        /// The standby's operator wants it to be a standby no longer; it goes on acknowledging until it is dismissed.
        case standbyLeaves(SessionID)
        /// The guest's QEMU is gone without having been asked to, or after `killGuest`.
        case guestLost
        /// A served disk is lost here; or all are whole again.
        case copyLost(Bool)
        /// After `tryStart`: the guest's QEMU is made and stands still.
        case startable
        /// After `tryStart`: it cannot be started here, for this reason, after so many starts; nil where no other host is to
        /// start it either.
        case unstartable(String, starts: Int?)
        /// After `startGuest`: the guest is there again.
        case guestStarted
        /// The guest was shut down, or its QEMU was told to quit.
        case guestEnded
        /// The operator wants no more protection.
        case unprotect
        /// The operator wants the guest to go on at the standby.
        case switchOver
        /// The operator turns the dial.
        case setLevel(Level)
        /// The standby answered `dismissStandby`: it holds nothing of the guest any more.
        case letGo(SessionID)
        /// The peer is off: its fence command, run for the asking with this nonce, says so.
        case peerFenced(Nonce)
        /// The fence command failed, took too long or is not there: nothing is known.
        case fencingFailed(Nonce, String)
        /// The peer gave a sign of life after it had fallen silent.
        case peerHeard(NodeName)
        /// The operator says that this copy of the guest goes on: in `frozen`, `forked`, and in `handingOver` without an
        /// arbiter.
        case goOn
        /// The operator says that this copy of the guest is given up: in `frozen` and `forked`.
        case giveUp
        /// The answer to the `compareAndSet` with this nonce, or that there was none in time.
        case answered(Nonce, RegisterAnswer)
        /// The answer to `readRegister`.
        case registerRead(Register?)
        /// `readRegister` was not answered in time.
        case registerUnreadable(String)
        /// The record of this term (`LocalRecord.seen`) is durable.
        case persisted(Term)
    }

    public typealias Session = SessionProgress
    public typealias Action = PrimaryAction

    public let node: NodeName
    public let rule: Rule
    public let reprotection: Reprotection
    /// The nodes for which a fence command is configured.
    public let fences: Set<NodeName>
    public internal(set) var state = State.adopting
    /// The register as last won or read; nil before that.
    public internal(set) var register: Register?
    /// The operator wanted protection to end: once SOLO is won, this machine is done.
    public internal(set) var isLeaving = false
    /// The standby is to be none any more.
    var isParting = false
    /// The standby is told that it is not needed, and its end of the session is no loss.
    public var isDismissing: Bool { isLeaving || isParting }
    /// Asked for when there is no register yet.
    var firstLevel: Level
    var seen: Term
    public internal(set) var lineage: Lineage
    var isFresh: Bool
    var overridesRegister = false
    /// A register that a fresh guest may go on from although it names others: each of those said that it holds nothing of the
    /// VM that could go on under it. It is claimed by compare-and-set, and another one is not touched.
    public var yielded: Register?
    var guestStandsStill = false
    /// The term of the register from which a change of the level was last asked for.
    var turnedFrom: Term?
    /// The guest's QEMU is proven dead, and it is to be started here again.
    var guestIsGone = false
    /// A disk of the guest's is not whole at this host: it lives by the standby's copy, and cannot go on without it (I40).
    public internal(set) var isCopyLost = false
    /// The standby of the pair was promised that nothing leaves here alone before it is confirmed off (I31).
    var promised = false
    var fencing: FencingRequest?
    var request: RegisterRequest?
    var random: RandomSource

    /// For a guest that is found or named: `started` is the first event. `level` is asked for when there is no register
    /// yet; `seed` is random.
    public init(
        node: NodeName, rule: Rule, reprotection: Reprotection, guest: Guest, level: Level,
        record: LocalRecord, fences: Set<NodeName> = [], seed: UInt64
    ) {
        self.node = node
        self.rule = rule
        self.reprotection = reprotection
        self.fences = fences
        firstLevel = level
        seen = record.seen
        promised = rule.isManual && record.waits == true
        register = rule.isManual ? record.register : nil
        random = RandomSource(seed: seed)
        switch guest {
        case .fresh(let overridesRegister):
            lineage = Lineage(random.next())
            isFresh = true
            self.overridesRegister = overridesRegister
        case .ours(let known):
            lineage = known
            isFresh = false
            // The earlier run may have ended in the middle of a checkpoint or of a switchover.
            guestStandsStill = true
        }
    }

    /// For a guest that was just resumed here under `register`, which a standby won and made durable: output flows.
    public init(
        tookOver register: Register, rule: Rule, reprotection: Reprotection,
        fences: Set<NodeName> = [], seed: UInt64
    ) {
        node = register.owner
        self.rule = rule
        self.reprotection = reprotection
        self.fences = fences
        self.register = register
        firstLevel = register.level
        seen = register.term
        lineage = register.lineage
        isFresh = false
        random = RandomSource(seed: seed)
        state = .solo
    }

    /// Feeds one event in; the actions are to be carried out in order.
    public mutating func handle(_ event: Event) -> [Action] {
        var actions: [Action] = []
        switch event {
        case .sealed(let session, let epoch): seal(session, epoch, isLast: false, &actions)
        case .sealedLast(let session, let epoch): seal(session, epoch, isLast: true, &actions)
        case .acknowledged(let session, let epoch, let digestMatches):
            acknowledge(session, epoch, digestMatches, &actions)
        case .started: start(&actions)
        case .candidate(let node, let asked): consider(node, asked: asked, &actions)
        case .accepted(let session, let standby): accept(session, standby, &actions)
        case .refused(let session, let reason): beRefused(session, reason, &actions)
        case .peerRegister(let register): hear(of: register, &actions)
        case .standbyLost(let session): loseStandby(session, &actions)
        case .handOverOverdue: handOverIsOverdue(&actions)
        case .handedBack(let session): beHandedBack(session, &actions)
        case .declined(let session, let reason): beDeclined(session, reason, &actions)
        case .standbyLeaves(let session): letStandbyGo(session, &actions)
        case .guarded(let session): beGuarded(session, &actions)
        case .guestLost: loseGuest(&actions)
        case .copyLost(let isLost): loseCopy(isLost)
        case .startable: beStartable(&actions)
        case .unstartable(let reason, let starts): failToStart(reason, starts, &actions)
        case .guestStarted: guestIsGone = false
        case .guestEnded: endGuest(&actions)
        case .unprotect: unprotect(&actions)
        case .switchOver: switchOver(&actions)
        case .setLevel(let level): setLevel(level, &actions)
        case .letGo(let session): letGo(session, &actions)
        case .peerFenced(let nonce): goOnFenced(nonce, &actions)
        case .fencingFailed(let nonce, let reason): failToFence(nonce, reason, &actions)
        case .peerHeard(let node): hear(from: node, &actions)
        case .goOn: goOn(&actions)
        case .giveUp: giveUp(&actions)
        case .answered(let nonce, let answer): take(answer, to: nonce, &actions)
        case .registerRead(let current): learn(current, &actions)
        case .registerUnreadable(let reason): failToRead(reason, &actions)
        case .persisted(let term): enter(term, &actions)
        }
        return actions
    }

    /// The session that is under way.
    public var session: Session? {
        switch state {
        case .copying(let session), .pairing(let session), .paired(let session), .handingOver(let session): session
        default: nil
        }
    }

    /// The level of the register, as far as is known.
    public var level: Level { register?.level ?? firstLevel }

    /// A change of the level was asked for, and it is not known, and durable, yet what the register says. What is asked for
    /// instead does not end that: the turn may still take effect (I12).
    public var isTurning: Bool {
        guard let turnedFrom else { return false }
        return request != nil || register?.term ?? turnedFrom <= turnedFrom
    }

    /// The term under which this host owns the register, as far as is known and durable; nil while it does not.
    public var ownTerm: Term? {
        guard let register, register.owner == node, request?.isGranted != true else { return nil }
        switch state {
        case .solo, .offering, .copying, .pairing, .paired, .handingOver, .lonely: return register.term
        case .adopting, .frozen, .forked, .fencing, .fenced, .ended: return nil
        }
    }

    /// The newest epoch whose output may have left by acknowledgement, in the session that is under way.
    public var acknowledged: Epoch { session?.acknowledged ?? .firstCopy }

    /// What is to be remembered now.
    public var record: LocalRecord { LocalRecord(seen: seen, register: register, waits: promised ? true : nil) }
}
