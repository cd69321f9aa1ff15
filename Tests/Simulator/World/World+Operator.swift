import Model
import Pair
import Protocol

/// What an operator does: at bad moments by the plan, and sensibly when something waits for a decision.
extension World {
    func carryOut(_ command: Command) {
        switch command {
        case .switchOver:
            for host in hosts {
                host.switchAskedAt = now
                tellPrimary(host) { $0.switchOver().outputs }
            }
        case .unprotect:
            for host in hosts {
                if mutant == .releasesOnUnprotect, host.primary?.machine.session != nil {
                    for (_, packet) in host.held { clientSees(packet, host) }
                    host.held = []
                }
                tellPrimary(host) { $0.unprotect() }
            }
        case .setLevel:
            let level = random.pick([Level.restart, .component, .system])
            for host in hosts { tellPrimary(host) { $0.turn(to: level) } }
        case .turn(let level): for host in hosts { tellPrimary(host) { $0.turn(to: level) } }
        case .giveUp(let index):
            let host = hosts[index]
            host.isTold = true
            if host.primary != nil { settle(host, goesOn: false) } else { giveUpImage(host) }
            host.isTold = false
        case .force(let index, let truthfully):
            let host = hosts[index]
            guard host.isUp, host.standbyState == .orphaned else { return }
            if truthfully {
                cutPower(hosts[host.other])
                queue.add(.powerReturns(host.other), at: now + random.outage())
            }
            host.isForced = true
            goOnHere(host)
        case .endGuest:
            for host in hosts {
                guard let guest = host.guest, guest.isAlive, host.isUp, host.primary != nil else { continue }
                endServer(host)
                host.guest?.isAlive = false
                host.guest?.isRunning = false
                wasEnded = true
                tellPrimary(host) { $0.handle(.guestEnded) }
                if host.isUp { later(host, 5, .guestIsGone(guest.id)) }
            }
        case .goOn(let index): sayGoOn(hosts[index])
        case .rejoin: for host in hosts where host.primary?.copies.losses.isEmpty == false { rejoin(host) }
        case .leave(let index):
            let host = hosts[index]
            guard host.isAwake(at: now), host.standby?.machine.image != nil else { return }
            tellStandby(host) { $0.ask(.leave, because: "planned") }
        }
    }

    func giveUpImage(_ host: Host) {
        if mutant == .givesUpWhileAsking, host.standbyState == .arbitrating {
            // The answer to what was asked is not waited for.
            host.isTold = false
            return failStorage(host)
        }
        let (time, lives) = (nanoseconds, hearsPeer(host))
        tellStandby(host) { $0.dismiss(because: "given up", at: time, hostLives: lives) }
    }

    /// The operator says that the other host is off.
    func goOnHere(_ host: Host) {
        let (time, lives) = (nanoseconds, hearsPeer(host))
        tellStandby(host) { $0.goOn(because: "planned", at: time, hostLives: lives) }
    }

    private func sayGoOn(_ host: Host) {
        if mutant == .keepsLineageByWord, case .frozen = host.primaryState, let fencing = host.fencing {
            return tellPrimary(host) { $0.handle(.peerFenced(fencing.nonce)) }
        }
        settle(host, goesOn: true)
    }

    private func settle(_ host: Host, goesOn: Bool) { tellPrimary(host) { $0.settle(goesOn: goesOn).outputs } }

    /// An operator who sees that the primary is lost, and cannot wait.
    func alarm(_ host: Host) {
        guard plan.operatorIsNervous, !isHealing else { return }
        let command = random.pick([Command.giveUp(host.index), .force(host.index, truthfully: true)])
        queue.add(.operatorActs(command), at: now + random.within(1...200))
    }

    func operatorLooks() {
        queue.add(.operatorLooks, at: now + 250)
        for host in hosts where host.isUp && host.isPowered && host.stalledUntil <= now {
            checkStandstill(host)
            checkLevel(host)
            lookAfter(host)
            if host.primary?.dial?.reason != nil, levelRandom.chance(perMille: 300) {
                tellPrimary(host) { $0.hear(.tryAgain) }
            }
        }
        lookAfterBoots()
    }

    /// I34: whoever may run the guest in the end, it runs again somewhere.
    private func checkStandstill(_ host: Host) {
        guard plan.rule == .arbiter, let since = host.stoodSince, now - since > Self.standstillMax,
            let guest = host.guest, guest.isAlive, !guest.isRunning, hosts[host.other].guest?.isAlive != true
        else { return }
        // A peer with a newer register ran it: this copy is to be ended.
        if case .adopting = host.primaryState { return }
        verdict.fail("I34", "the guest stands still at \(host.name) for a switchover since step \(since)")
    }

    private func lookAfter(_ host: Host) {
        let peer = hosts[host.other]
        if host.primary == nil, host.standby == nil {
            if host.guest?.isAlive == true {
                // Protection was ended, or refused because the guest belongs to the other host.
                guard isHealing else { return }
                if let register = rules(host), register.owner != host.name || peer.guest?.isAlive == true {
                    if let guest = host.guest { endGuest(guest.id) }
                } else {
                    protect(host, overridesRegister: !canGoOn(fromImageAt: peer))
                }
            } else {
                host.standby = newStandby(host)
            }
            return
        }
        guard isHealing || random.chance(perMille: 100) else { return }
        if case .failed = host.standbyState {
            host.isTold = true
            if random.chance(perMille: 100) { giveUpImage(host) } else { goOnHere(host) }
            host.isTold = false
            return
        }
        lookAfterDisks(host, peer)
        guard plan.rule != .arbiter, !(plan.fencing.replacesOperator && wasPairedAtFault) else { return }
        lookAfterManual(host, peer)
    }

    private func lookAfterManual(_ host: Host, _ peer: Host) {
        switch host.primaryState {
        case .frozen: sayGoOn(host)
        case .handingOver:
            switch peer.standbyState {
            case .loading, .takingOver, .resuming, .returning, .failed: break
            default: if peer.isUp, peer.primary == nil { settle(host, goesOn: true) }
            }
        case .forked:
            host.isTold = true
            if mutant == .mergesForks { host.isTold = false }
            let peerIsForked = if case .forked = peer.primaryState { true } else { false }
            if peerIsForked, host.index == 1 {
                settle(host, goesOn: true)
            } else if peer.primary != nil {
                settle(host, goesOn: false)
            } else if isHealing, peer.isUp {
                settle(host, goesOn: true)
            }
            if host.primaryState != .fencing { host.isTold = false }
        default: break
        }
        if isHealing, host.standbyState == .orphaned, peer.isUp, peer.guest?.isAlive != true {
            host.isForced = true
            goOnHere(host)
        }
    }

    /// Boots the guest when nothing is left to go on from.
    private func lookAfterBoots() {
        guard isHealing || wasEnded, !canGoOn else {
            looksInVain = 0
            return
        }
        looksInVain += 1
        guard looksInVain > 4 else { return }
        let owner: HostIndex
        if plan.rule == .arbiter {
            owner = hosts.first { $0.name == arbiter.register?.owner }?.index ?? 0
        } else {
            let newest = newestRegister
            owner = newest?.owner == hosts[1].name ? 1 : 0
        }
        guard hosts[owner].isUp, hosts[owner].primary == nil else { return }
        looksInVain = 0
        if !wasEnded { boots += 1 }
        wasEnded = false
        boot(owner, overridesRegister: true)
    }
}

extension PrimaryDuty.Reply {
    /// Nothing is to be done for what was refused.
    fileprivate var outputs: [PrimaryDuty.Output] { if case .done(let outputs) = self { outputs } else { [] } }
}
