import Model

/// The guest, when it is gone, and its operator.
extension PrimaryMachine {
    /// Whether nothing but the guest's death is missing for the standby to go on with it.
    public var isReplaceable: Bool {
        guard case .paired(let session) = state else { return false }
        return request == nil && !isDismissing && !guestStandsStill && !session.isSounding && session.last == nil
    }

    /// The guest's QEMU is gone, at a level that starts it again, and it did not start yet: SOLO, or the lease, is waited for.
    public var isRestarting: Bool {
        switch state {
        case .fencing, .fenced, .ended: false
        default: guestIsGone
        }
    }

    mutating func loseGuest(_ actions: inout [Action]) {
        if !level.holdsOutput, !isCopyLost, restart(&actions) { return }
        switch state {
        case .pairing where request == nil:
            loseGuestAlone(&actions)
        case .pairing, .paired:
            // The standby decides with the arbiter, or by this message alone when there is none.
            actions.append(.askTakeOver(max(seen, request?.new.term ?? seen).next, guestStands: false))
            beFenced(&actions)
        case .adopting, .lonely, .handingOver, .fencing:
            beFenced(&actions)
        case .solo, .offering, .copying, .frozen, .forked:
            loseGuestAlone(&actions)
        case .fenced, .ended:
            break
        }
    }

    /// At a level that starts a guest from its disks, the host where it died is the first to do so. That needs SOLO, at a
    /// term from after its death: so it does not start here when it starts elsewhere.
    private mutating func restart(_ actions: inout [Action]) -> Bool {
        switch state {
        case .solo: break
        case .offering:
            state = .solo
            actions.append(.closeLink)
        case .copying: part(&actions)
        case .pairing, .paired:
            guard !isReplaceable else {
                actions.append(.tryStart)
                guestIsGone = true
                return true
            }
            guestIsGone = true
            if let session, !isDismissing { letStandbyGo(session.id, &actions) }
            return true
        case .lonely:
            guestIsGone = true
            return true
        case .adopting, .handingOver, .frozen, .forked, .fencing, .fenced, .ended: return false
        }
        guestIsGone = true
        startIfGone(&actions)
        return true
    }

    /// Nothing of the guest has run here since it died, so the standby has all of it: this host goes on by its own right only now
    /// that it can.
    mutating func beStartable(_ actions: inout [Action]) {
        guard guestIsGone, isReplaceable, let session else { return }
        if isCopyLost { loseGuest(&actions) } else { letStandbyGo(session.id, &actions) }
    }

    /// I41: only while SOLO was not asked for since the death. Who has it may have let the guest run.
    mutating func failToStart(_ reason: String, _ starts: Int?, _ actions: inout [Action]) {
        guard guestIsGone, isReplaceable, let session else { return }
        guard !isCopyLost else { return loseGuest(&actions) }
        guard let starts else { return letStandbyGo(session.id, &actions) }
        actions.append(.askToStart(seen.next, starts: starts, because: reason))
        beFenced(&actions)
    }

    /// The register says SOLO for certain.
    mutating func startIfGone(_ actions: inout [Action]) {
        if guestIsGone, let register { actions.append(.startGuest(register.term)) }
    }

    private mutating func loseGuestAlone(_ actions: inout [Action]) {
        end(&actions)
        actions.append(.report("the guest is gone, and no standby can go on with it"))
    }

    mutating func beFenced(_ actions: inout [Action]) {
        state = .fenced
        request = nil
        actions += [.dropHeld, .becomeStandby(record)]
    }

    mutating func endGuest(_ actions: inout [Action]) {
        switch state {
        // Being killed, or gone: `guestLost` says when.
        case .fencing, .fenced, .ended: break
        default: end(&actions)
        }
    }

    mutating func unprotect(_ actions: inout [Action]) {
        guard !livesByStandby else { return actions.append(.report(DiskWords.needsStandby)) }
        switch state {
        case .solo, .offering, .copying:
            leave(&actions)
        case .pairing where request == nil:
            leave(&actions)
        case .pairing, .paired:
            // Acknowledgements go on releasing until SOLO is won.
            guard !guestStandsStill else {
                actions.append(.report("a switchover is under way"))
                return
            }
            isLeaving = true
            if !isParting { goForSolo(&actions) }
        case .adopting, .lonely:
            isLeaving = true
        case .frozen:
            isLeaving = true
            goOn(&actions)
        case .handingOver, .forked, .fencing, .fenced, .ended:
            actions.append(.report("protection cannot be ended now"))
        }
    }

    /// The register says SOLO for certain.
    mutating func leave(_ actions: inout [Action]) {
        actions += [.dismissStandby, .closeLink, .releaseEverything, .detach, .end]
        state = .ended
        request = nil
    }

    private mutating func end(_ actions: inout [Action]) {
        stopFencing(&actions)
        if session != nil { actions.append(.dismissStandby) }
        actions += [.closeLink, .end]
        state = .ended
        request = nil
    }

    mutating func setLevel(_ level: Level, _ actions: inout [Action]) {
        guard request == nil, !guestStandsStill, !isDismissing, !guestIsGone else {
            actions.append(.report("another change is under way: turn the dial again when it is done"))
            return
        }
        guard !isSwitchingOver else {
            actions.append(.report("a switchover is under way: turn the dial when it is done"))
            return
        }
        guard !rule.isManual || level.holdsOutput else {
            actions.append(
                .report("without an arbiter nothing confirms a lease: the level stays \(self.level.rawValue)"))
            return
        }
        switch state {
        case .solo, .paired:
            // I21. In `paired` what the level needs is attached already (I36); in `solo` the register says SOLO before and
            // after.
            turnedFrom = register?.term
            ask(.level(level), from: register, &actions)
        default:
            actions.append(.report("the dial can be turned when the guest runs alone or paired"))
        }
    }

    mutating func goOn(_ actions: inout [Action]) {
        switch state {
        case .frozen where isCopyLost: actions.append(.report(DiskWords.needsStandby))
        case .frozen, .forked:
            stopFencing(&actions)
            // What was promised is broken by the operator's word: what comes now is another history (I31).
            if promised { lineage = Lineage(random.next()) }
            state = .lonely
            ask(.solo, from: register, &actions)
        case .handingOver where rule.isManual:
            // Nobody could be asked whether the standby runs: what comes now is another history.
            lineage = Lineage(random.next())
            takeBack(&actions)
        default:
            actions.append(.report("there is nothing to decide here"))
        }
    }

    mutating func giveUp(_ actions: inout [Action]) {
        switch state {
        case .frozen, .forked: fence(&actions)
        // The standby has its disk, and starts it.
        case .paired where isCopyLost && request == nil: actions.append(.killGuest)
        default: actions.append(.report("there is nothing to decide here"))
        }
    }
}
