import Model

/// Sessions and epochs: the straight line from an offer to released output.
extension PrimaryMachine {
    mutating func consider(_ candidate: NodeName, asked: Bool, _ actions: inout [Action]) {
        guard case .solo = state, request == nil, !guestIsGone, let register, asked || reprotection == .automatic else {
            return
        }
        let id = SessionID(random.next())
        state = .offering(id, to: candidate)
        actions.append(
            .offer(
                SessionOffer(
                    session: id, term: register.term, lineage: register.lineage, level: register.level, primary: node,
                    waits: waits(for: candidate)),
                to: candidate))
    }

    mutating func accept(_ id: SessionID, _ standby: StandbyIdentity, _ actions: inout [Action]) {
        guard case .offering(id, let candidate) = state, standby.node == candidate else { return }
        state = .copying(Session(id: id, standby: standby))
        actions.append(.startCopy)
    }

    mutating func beRefused(_ id: SessionID, _ reason: String, _ actions: inout [Action]) {
        guard case .offering(id, let candidate) = state else { return }
        state = .solo
        actions += [.closeLink, .report("\(candidate) will not be the standby: \(reason)")]
    }

    mutating func seal(_ id: SessionID, _ epoch: Epoch, isLast: Bool, _ actions: inout [Action]) {
        switch state {
        case .copying(var session) where session.id == id:
            checkOrder(epoch, after: session.sealed)
            session.sealed = epoch
            state = .pairing(session)
            // Before the register can say PAIRED, nothing more may leave by itself, or only as long as a lease lives.
            actions.append(level.holdsOutput ? .hold : .guardOutput)
        case .pairing(var session) where session.id == id:
            checkOrder(epoch, after: session.sealed)
            session.sealed = epoch
            state = .pairing(session)
        case .paired(var session) where session.id == id:
            checkOrder(epoch, after: session.sealed)
            session.sealed = epoch
            if isLast { session.last = epoch }
            state = .paired(session)
        default:
            // The standby was lost while the guest stood still.
            break
        }
    }

    private func checkOrder(_ epoch: Epoch, after sealed: Epoch) {
        precondition(epoch == sealed.next, "epochs are sealed in order")
    }

    /// I1: an acknowledgement counts only in the session that it belongs to.
    mutating func acknowledge(_ id: SessionID, _ epoch: Epoch, _ digestMatches: Bool, _ actions: inout [Action]) {
        switch state {
        case .pairing(var session) where session.id == id:
            guard isExpected(epoch, digestMatches, session, &actions) else { return }
            session.acknowledged = epoch
            state = .pairing(session)
            actions.append(.release(through: epoch))
            if epoch == Epoch(1) { pairIfReady(session, &actions) }
        case .paired(var session) where session.id == id:
            guard isExpected(epoch, digestMatches, session, &actions) else { return }
            session.acknowledged = epoch
            state = .paired(session)
            actions.append(.release(through: epoch))
            if epoch == session.last { handOver(session, &actions) }
        default:
            break
        }
    }

    mutating func beGuarded(_ id: SessionID, _ actions: inout [Action]) {
        guard case .pairing(var session) = state, session.id == id, !session.isGuarded else { return }
        session.isGuarded = true
        state = .pairing(session)
        if session.acknowledged >= Epoch(1) { pairIfReady(session, &actions) }
    }

    private mutating func pairIfReady(_ session: Session, _ actions: inout [Action]) {
        guard level.holdsOutput || session.isGuarded else { return }
        promised = waits(for: session.standby.node)
        ask(.pair, from: register, &actions)
    }

    private mutating func isExpected(
        _ epoch: Epoch, _ digestMatches: Bool, _ session: Session, _ actions: inout [Action]
    ) -> Bool {
        if digestMatches, epoch == session.acknowledged.next, epoch <= session.sealed { return true }
        actions.append(
            .report(
                "the standby acknowledged epoch \(epoch) \(digestMatches ? "out of order" : "with another digest") while"
                    + " \(session.acknowledged.next)...\(session.sealed) were expected: its copy cannot be trusted"))
        loseStandby(session.id, &actions)
        return false
    }

    mutating func loseStandby(_ id: SessionID, _ actions: inout [Action]) {
        switch state {
        case .offering(id, _):
            state = .solo
            actions.append(.closeLink)
        case .copying(let session) where session.id == id:
            state = .solo
            actions += [.closeLink, .releaseEverything, .detach]
        case .pairing(let session) where session.id == id:
            // PAIRED was asked for after acknowledgement 1 and not before: until then the register says SOLO.
            guard request != nil else {
                state = .solo
                actions += [.closeLink, .releaseEverything, .detach]
                return
            }
            beLonely(&actions)
        case .paired(let session) where session.id == id:
            if promised, request?.purpose != .solo { beFrozen(session, &actions) } else { beLonely(&actions) }
        case .handingOver(let session) where session.id == id:
            handOverIsOverdue(&actions)
        default:
            break
        }
    }

    /// I12: as long as the register may say PAIRED, acknowledgements go on releasing; SOLO is asked for meanwhile.
    mutating func letStandbyGo(_ id: SessionID, _ actions: inout [Action]) {
        switch state {
        case .copying(let session) where session.id == id:
            part(&actions)
        case .pairing(let session) where session.id == id && request == nil:
            part(&actions)
        case .pairing(let session) where session.id == id, .paired(let session) where session.id == id:
            guard !guestStandsStill, !isDismissing else { return }
            guard !isCopyLost else { return actions.append(.report(DiskWords.stays(session.standby.node, of: node))) }
            isParting = true
            goForSolo(&actions)
        default:
            break
        }
    }

    /// SOLO is asked for while the standby is well.
    mutating func goForSolo(_ actions: inout [Action]) {
        guard request?.purpose != .solo else { return }
        if case .paired = state, promised {
            // The standby could go on for as long as it does not know better: `letGo` comes first.
            actions.append(.dismissStandby)
        } else {
            ask(.solo, from: register, &actions)
        }
    }

    /// The register says SOLO for certain, and the standby is not needed any more; the guest stays ours.
    mutating func part(_ actions: inout [Action]) {
        (isParting, promised) = (false, false)
        state = .solo
        actions += [.dismissStandby, .closeLink, .releaseEverything, .detach]
        startIfGone(&actions)
    }

    /// I12: whatever was asked for before may still take effect; only SOLO at a later term lets output leave again.
    private mutating func beLonely(_ actions: inout [Action]) {
        let waits = level.holdsOutput ? "output is held" : "disk writes wait"
        actions += [.closeLink, .report("the standby is lost: \(waits) until it is decided who goes on")]
        letRunHeld(&actions)
        // SOLO that was asked for before may yet take effect, and nothing was done at the standby alone since.
        if isCopyLost, request?.purpose != .solo { return waitForDisk(&actions) }
        if rule == .manual(.freeze), !isLeaving {
            state = .frozen
            request = nil
            return
        }
        state = .lonely
        if request?.purpose != .solo { ask(.solo, from: register, &actions) }
    }

    // MARK: - Switchover

    /// I34: an arbiter is asked first, while the guest runs. One that is away would let nobody go on.
    mutating func switchOver(_ actions: inout [Action]) {
        guard case .paired(var session) = state, session.last == nil, !guestStandsStill, !isDismissing, request == nil,
            !session.isSounding
        else {
            actions.append(.refuseSwitchover("a switchover needs a pair, and no other change under way"))
            return
        }
        guard level.holdsOutput else {
            let text = "at level \(level.rawValue) a guest is not moved while it runs: turn the dial to system first"
            return actions.append(.refuseSwitchover(text))
        }
        guard !rule.isManual else { return stopForSwitchover(&actions) }
        session.isSounding = true
        state = .paired(session)
        actions.append(.readRegister)
    }

    private mutating func stopForSwitchover(_ actions: inout [Action]) {
        guestStandsStill = true
        actions.append(.sealLast)
    }

    mutating func learnBeforeStopping(_ current: Register?, _ actions: inout [Action]) {
        guard case .paired(var session) = state, session.isSounding, request == nil else { return }
        guard current == register else { return refuseUnsounded("it has another register of this VM", &actions) }
        session.isSounding = false
        state = .paired(session)
        stopForSwitchover(&actions)
    }

    /// The arbiter is as good as away, and the guest was not stopped for it.
    mutating func refuseUnsounded(_ reason: String, _ actions: inout [Action]) {
        guard case .paired(var session) = state, session.isSounding else { return }
        session.isSounding = false
        state = .paired(session)
        actions.append(.refuseSwitchover("the arbiter would have to agree, and \(reason)"))
    }

    /// True from the asking for a switchover until it is known what becomes of the guest.
    public var isSwitchingOver: Bool {
        switch state {
        case .paired(let session): guestStandsStill || session.isSounding
        case .handingOver: true
        default: false
        }
    }

    /// I34: whoever goes on is decided later; until then the guest runs here, and nothing of it leaves.
    private func letRunHeld(_ actions: inout [Action]) {
        if guestStandsStill, !rule.isManual { actions.append(.resumeGuest) }
    }

    private mutating func handOver(_ session: Session, _ actions: inout [Action]) {
        guard let register else { return }
        if rule.isManual {
            // Durably given away before the standby hears of it: a restarted agent must not go on.
            ask(.handOver, from: register, &actions)
        } else {
            state = .handingOver(session)
            actions.append(.askTakeOver(register.term.next, guestStands: true))
        }
    }

    mutating func handOverIsOverdue(_ actions: inout [Action]) {
        guard case .handingOver = state else { return }
        if rule.isManual {
            actions.append(
                .report("nothing is heard of the standby that was to take over: look there, or go on here"))
        } else {
            takeBack(&actions)
        }
    }

    mutating func beHandedBack(_ id: SessionID, _ actions: inout [Action]) {
        guard case .handingOver(let session) = state, session.id == id else { return }
        actions.append(.report("\(session.standby.node) could not take over: the guest goes on here"))
        takeBack(&actions)
    }

    /// The standby has asked nobody and loaded nothing, so the pair is as it was.
    mutating func beDeclined(_ id: SessionID, _ reason: String, _ actions: inout [Action]) {
        guard case .handingOver(var session) = state, session.id == id, !rule.isManual else { return }
        session.last = nil
        state = .paired(session)
        guestStandsStill = false
        actions += [.resumeGuest, .refuseSwitchover("\(session.standby.node) did not go on: \(reason)")]
    }

    mutating func takeBack(_ actions: inout [Action]) {
        actions.append(.closeLink)
        letRunHeld(&actions)
        state = .lonely
        ask(.solo, from: register, &actions)
    }
}
