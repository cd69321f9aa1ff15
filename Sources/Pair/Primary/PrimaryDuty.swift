import Messages
import Model
import Protocol
import Wire

/// What the primary's side of a protected VM decides and remembers, through any number of sessions, without threads, locks,
/// clock, link and guest: `PrimaryShell` carries it out, and so does the simulator.
///
/// Every method takes one thing that happened and returns what is to be done, in that order, before the next one is told.
/// All times are nanoseconds of one monotonic clock.
package struct PrimaryDuty: Sendable {
    package typealias Order = PrimaryOrder
    package typealias Output = PrimaryOutput
    package typealias Reply = PrimaryReply
    package typealias Names = PrimaryNames

    /// A standby that was asked to go on with the guest says what came of it within this time.
    package static let handOverMax: UInt64 = 2_000_000_000

    package var recorded: RecordedMachine<PrimaryMachine>
    package var machine: PrimaryMachine { recorded.machine }
    let names: Names
    let handOverMax: UInt64

    package internal(set) var phase = SessionPhase.connecting
    package internal(set) var lastError: String?
    /// What the guest's epochs are to be like.
    package internal(set) var tuning: EpochTuning
    package internal(set) var choice: StandbyChoice
    /// What failed on this side and cannot be mended.
    package internal(set) var failure: SessionError?
    package internal(set) var isUnprotectAsked = false
    /// Somebody else paused the guest.
    package internal(set) var isGuestPaused = false
    /// The operator wants a standby.
    package internal(set) var isAsked: Bool
    /// When to offer again.
    var retry = RetryPace()
    /// What is reported now was reported before.
    var isOldNews = false
    /// Why the last switchover that was asked for did not come, and whether that is of the asking since.
    var refusal: (text: String, isNew: Bool)?
    /// Who is to start the guest that died, or why it is started nowhere again.
    var afterDeath: (text: String, isGiven: Bool)?
    /// A standby had agreed once: one that is lost from then on may come back.
    var hadStandby = false
    /// An epoch was acknowledged in this life of the agent.
    var hasProtected = false
    package internal(set) var sealed = Epoch.firstCopy
    /// What is attached to a guest that is paired, and how its level is changed; nil for one that runs alone.
    package internal(set) var dial: DialMachine?
    package var keeper: LevelKeeper
    var lease = OutputLease()
    /// The disks that are served, as their servers say.
    package internal(set) var copies = CopiesHere()
    /// The time as it was told last.
    var time: UInt64 = 0
    /// The session with a standby, or the last one.
    package internal(set) var connection = PrimaryConnection(.none)

    package init(
        _ machine: PrimaryMachine, _ names: Names, tuning: EpochTuning, choice: StandbyChoice, isAsked: Bool,
        handOverMax: UInt64 = PrimaryDuty.handOverMax, degrade: LevelKeeper = LevelKeeper(.never)
    ) {
        recorded = RecordedMachine(machine)
        keeper = degrade
        self.names = names
        self.tuning = tuning
        self.choice = choice
        self.isAsked = isAsked
        self.handOverMax = handOverMax
        if names.tookOver { phase = .running }
    }

    /// The phase as it is told.
    var shownPhase: SessionPhase {
        if let told = SessionPhase(machine.state) { return told }
        if machine.isRestarting { return .restarting }
        return connection.isStalled && phase == .protected ? .stalled : phase
    }

    // MARK: - Feeding the machine

    package mutating func handle(_ event: PrimaryMachine.Event) -> [Output] {
        var outputs: [Output] = []
        feed(event, &outputs)
        return outputs
    }

    mutating func feed(_ event: PrimaryMachine.Event, _ outputs: inout [Output]) {
        perform(recorded.decide(event), &outputs)
    }

    mutating func perform(_ actions: [PrimaryMachine.Action], _ outputs: inout [Output]) {
        for action in actions { perform(action, &outputs) }
        followRegister(&outputs)
    }

    private mutating func perform(_ action: PrimaryMachine.Action, _ outputs: inout [Output]) {
        switch action {
        case .hold: hold(&outputs)
        case .guardOutput: attach(.gate, &outputs)
        case .tryStart: outputs.append(.order(.tryStart))
        case .startGuest(let term): outputs += lease.restart(term)
        case .release(let epoch):
            outputs.append(.release(through: epoch))
            send(.released(epoch), &outputs)
        case .releaseEverything: outputs.append(.releaseEverything)
        case .dropHeld: outputs += [.dropHeld] + lease.end()
        case .compareAndSet(let expected, let new, let nonce):
            outputs.append(.report(.event(.asked, new.question(to: names.arbiter))))
            outputs.append(.ask(.compareAndSet(expecting: expected, to: new, nonce: nonce)))
        case .readRegister: outputs.append(.ask(.read(within: nil)))
        case .persist(let record): outputs.append(.persist(record))
        case .offer(let offer, _): outputs.append(.order(.offer(offer)))
        case .startCopy: outputs.append(.startCopy)
        case .resumeGuest: outputs.append(.order(.resumeGuest))
        case .stopGuest: outputs.append(.order(.stopGuest))
        case .sealLast: outputs.append(.order(.sealLast))
        case .detach: outputs += [.order(.detach)] + lease.end()
        case .killGuest: outputs.append(.order(.killGuest))
        case .becomeStandby(let record): outputs.append(.order(.becomeStandby(record)))
        case .end: outputs += [.order(.end)] + lease.end()
        case .askToStart(let term, let starts, let reason): give(term, starts, because: reason, &outputs)
        case .tellRegister, .askTakeOver, .dismissStandby: tellStandby(action, &outputs)
        case .closeLink: closeLink("the session ended", &outputs)
        case .fencePeer(let peer, let nonce):
            outputs.append(.fence(peer, nonce, reason: connection.linkDown ?? "the standby is lost"))
        case .stopFencing: outputs.append(.stopFencing)
        case .refuseSwitchover(let text):
            if refusal?.text != text {
                outputs.append(.report(.event(.refused, "\(names.vm) is not moved to \(names.standby): \(text)")))
            }
            refusal = (text, isNew: true)
        case .report(let text):
            lastError = text
            if !isOldNews { outputs.append(.report(.event(.state, text))) }
        }
    }

    private mutating func tellStandby(_ action: PrimaryMachine.Action, _ outputs: inout [Output]) {
        switch action {
        case .tellRegister(let register):
            send(.register(register), &outputs)
            enterPair(&outputs)
        case .askTakeOver(let term, let stands):
            send(.takeOver(term, guestStands: stands, starts: 0), &outputs)
            guard stands else { break }
            connection.askedAt = time
            outputs.append(
                .report(.event(.session, "the standby has all of the guest and was asked to go on with it")))
        case .dismissStandby: send(.goodbye(dismissal), &outputs)
        default: break
        }
    }

    /// The register says PAIRED and the standby was told: it can take over.
    private mutating func enterPair(_ outputs: inout [Output]) {
        guard phase != .protected else { return }
        phase = .protected
        lastError = nil
        retry.reset()
        choice.settle()
        let text =
            machine.level.holdsOutput
            ? "checkpoint 1 is at the standby: it can take over from here on"
            : "the disks are whole at the standby: it can start the guest from them from here on"
        outputs.append(.report(.event(.protected, text)))
    }

    /// On a link that was given up nothing arrives, and nobody minds.
    func send(_ message: PrimaryMessage, _ outputs: inout [Output]) { outputs.append(.send(message)) }

    mutating func closeLink(_ reason: String, _ outputs: inout [Output]) {
        if connection.linkDown == nil { connection.linkDown = reason }
        outputs.append(.closeLink)
    }
}
