import Model
import Pair
import Protocol

/// What goes wrong.
extension World {
    func inject(_ fault: Fault) {
        trace("fault: \(fault)")
        if plan.isSingleFault { wasPairedAtFault = wasPaired && arbiter.register?.mode == .paired }
        if plan.fencing.replacesOperator {
            wasPairedAtFault = hosts.allSatisfy { $0.durable.register?.mode == .paired }
        }
        switch fault {
        case .cut(let from, let milliseconds):
            cutUntil[from] = max(cutUntil[from], now + milliseconds)
        case .cutBothWays(let milliseconds):
            for host in 0..<2 { cutUntil[host] = max(cutUntil[host], now + milliseconds) }
        case .cutFromArbiter(let host, let requests, let replies, let milliseconds):
            if requests { cutToArbiter[host] = max(cutToArbiter[host], now + milliseconds) }
            if replies { cutFromArbiter[host] = max(cutFromArbiter[host], now + milliseconds) }
        case .stall(let index, let milliseconds):
            hosts[index].stoodSince = nil
            hosts[index].stalledUntil = max(hosts[index].stalledUntil, now + milliseconds)
        case .crash(let index, let actions, let milliseconds):
            let host = hosts[index]
            guard host.isUp, host.isPowered else { return }
            host.downMilliseconds = milliseconds
            host.actionsUntilCrash = actions
            if actions == 0 { crash(host) }
        case .powerCut(let index, let milliseconds):
            cutPower(hosts[index])
            queue.add(.powerReturns(index), at: now + milliseconds)
        case .guestDies:
            for host in hosts {
                guard let guest = host.guest, guest.isAlive else { continue }
                if mutant == .restartsWithoutProof, host.isUp {
                    later(host, 5, .guestIsGone(guest.id))
                } else {
                    endGuest(guest.id)
                }
            }
        case .resumeFails(let index): hosts[index].resumeFails = true
        case .imageLost(let index):
            loseImage(hosts[index])
        case .imageLostWhenNeeded(let index): hosts[index].losesImage = true
        case .arbiterDown(let milliseconds):
            arbiter.isUp = false
            queue.add(.arbiterReturns, at: now + milliseconds)
        case .arbiterSlow(let milliseconds): arbiter.slowUntil = now + milliseconds
        case .arbiterForgets:
            lastKnownRegister = arbiter.register ?? lastKnownRegister
            arbiter.forget()
        case .reset:
            for index in hosts.indices where hosts[index].link >= 0 { close(hosts[index].link, at: hosts[index]) }
            for host in hosts where host.link >= 0 && host.isUp { loseLink(host.link, host) }
        case .damagedFrame: nextFrameIsDamaged = true
        case .uplinkFails(let index, let milliseconds):
            hosts[index].hasUplink = false
            queue.add(.uplinkReturns(index), at: now + milliseconds)
        case .diskFails(let index, let milliseconds):
            breakDisk(hosts[index])
            queue.add(.diskIsMended(index), at: now + milliseconds)
        case .command(let command): carryOut(command)
        }
    }

    func loseImage(_ host: Host) {
        guard host.replica != nil, host.isUp else { return }
        host.losesImage = false
        host.isTold = true
        if now.isMultiple(of: 2) { loseQEMU(host) } else { failStorage(host) }
        host.isTold = false
    }

    private func loseQEMU(_ host: Host) {
        if host.standby?.machine.mayBoot == true {
            host.replica?.hasQEMU = false
            host.replica?.loaded = nil
        }
        tellStandby(host) { $0.loseQEMU("ended") }
    }

    func failStorage(_ host: Host) {
        let (time, lives) = (nanoseconds, hearsPeer(host))
        tellStandby(host) { $0.fail(SessionError(.storage, "planted"), at: time, hostLives: lives) }
    }

    /// The agent dies. Its kernel closes its sockets.
    func crash(_ host: Host) {
        guard host.isUp else { return }
        trace("\(host.name)'s agent dies")
        for link in links.indices { close(link, at: host) }
        // What was being written may have reached the disk, whole: it is replaced by rename.
        if let record = host.unwritten.first, random.chance(perMille: 500) { host.durable = record }
        fallSilent(host)
        host.forgetLife()
        if mutant == .forgetsNotes { host.owners = OwnersCopies() }
        queue.add(.agentStarts(host.index), at: now + max(1, host.downMilliseconds))
    }

    func cutPower(_ host: Host) {
        guard host.isPowered else { return }
        host.lastOff = now
        trace("\(host.name) loses power")
        vanish(host)
        if let record = host.unwritten.first, random.chance(perMille: 500) { host.durable = record }
        host.forgetLife()
        host.isPowered = false
        if host.guest?.isAlive == true { endServer(host) }
        host.guest?.isAlive = false
        host.guest?.isRunning = false
        host.replica = nil
    }

    func startAgent(_ host: Host) {
        guard host.isPowered, !host.isUp else { return }
        host.isUp = true
        host.life += 1
        host.lease = newLease(host)
        trace("\(host.name)'s agent starts")
        later(host, 50, .lookForStandby)
        if plan.levels.degrades { later(host, 50, .keepLevel) }
        if let guest = host.guest, guest.isAlive, endsWithLostDisk(guest, host) { endGuest(guest.id) }
        if let guest = host.guest, guest.isAlive {
            if let tag = host.tag, tag.guest == guest.id {
                host.primary = newPrimary(host, .ours(tag.lineage))
            } else {
                host.primary = newPrimary(host, .fresh(overridesRegister: false))
            }
            if mutant == .startsWithoutClaim, let register = host.durable.register, host.tag?.guest == guest.id,
                register.owner == host.name
            {
                if host.guest?.gate != .detached { host.guest?.gateLife = host.life }
                host.guest?.gate = .flowing
                host.primary = newPrimary(host, tookOver: register)
            }
            return tellPrimary(host) { $0.handle(.started) }
        }
        if mutant == .dropsLoaded, host.replica?.loaded != nil { dismantle(host) }
        if let replica = host.replica, replica.applied > .firstCopy, !replica.isUsedUp, replica.hasQEMU {
            recover(replica, host)
        } else {
            host.replica = nil
            host.standby = newStandby(host)
        }
    }

    /// Brings a guest up that is not ours yet, and protects it.
    func boot(_ index: HostIndex, overridesRegister: Bool) {
        let host = hosts[index]
        trace("the operator boots the guest at \(host.name)")
        let root = history.step(after: -1)
        let guest = Guest(id: newID(), tip: root, memory: [Int](repeating: root, count: Guest.groups))
        host.guest = guest
        host.tag = nil
        host.lastFree = -1
        noteBoot(host)
        queue.add(.guestStep(guest: guest.id), at: now + plan.guestStep)
        protect(host, overridesRegister: overridesRegister)
    }

    func protect(_ host: Host, overridesRegister: Bool) {
        if host.standby?.machine.image != nil {
            host.isTold = true
            giveUpImage(host)
            host.isTold = false
            guard host.isUp, host.standby?.machine.image == nil else { return }
        }
        host.standby = nil
        (host.question, host.readings) = (0, 0)
        host.primary = newPrimary(host, .fresh(overridesRegister: overridesRegister))
        later(host, 50, .lookForStandby)
        if plan.levels.degrades { later(host, 50, .keepLevel) }
        tellPrimary(host) { $0.handle(.started) }
    }

    // MARK: - Healing

    /// From here on nothing goes wrong any more, and service has to come back.
    func heal() {
        trace("faults stop")
        isHealing = true
        for index in hosts.indices {
            cutUntil[index] = min(cutUntil[index], now)
            cutToArbiter[index] = min(cutToArbiter[index], now)
            cutFromArbiter[index] = min(cutFromArbiter[index], now)
            let host = hosts[index]
            host.stalledUntil = min(host.stalledUntil, now)
            host.actionsUntilCrash = -1
            host.hasUplink = true
            (host.resumeFails, host.losesImage, host.diskIsBroken) = (false, false, false)
            host.isPowered = true
            startAgent(host)
        }
        arbiter.isUp = true
        arbiter.slowUntil = 0
        if let last = lastKnownRegister, arbiter.register == nil {
            // Both hosts are enrolled again with what the two of them know.
            let known = hosts.compactMap(\.durable.register).max { $0.term < $1.term }
            arbiter.register = [last, known].compactMap { $0 }.max { $0.term < $1.term }
        }
        nextFrameIsDamaged = false
    }

    /// Output flows, and what can be protected is.
    var isWell: Bool {
        guard now - lastOutput < 200, now > plan.faultPhase + 50 else { return false }
        for host in hosts {
            // Without epochs, the first one is all that is acknowledged.
            let least = host.primary?.machine.level.holdsOutput == true ? Epoch(1) : .firstCopy
            if case .paired(let session) = host.primaryState, session.acknowledged > least,
                hosts[host.other].standbyState == .holding, host.guest?.served?.rules.isWhole != false
            {
                if plan.isSingleFault, wasPairedAtFault, boots > 0 {
                    verdict.fail("live", "the guest had to be booted again after a single fault")
                }
                return true
            }
        }
        return false
    }

    func describeIllness() -> String {
        let states = hosts.map { host in
            "\(host.name): \(host.primaryState.map { "primary \($0.name)" } ?? "")"
                + "\(host.standbyState.map { "standby \($0.name)" } ?? "")"
                + "\(host.guest?.isAlive == true ? ", guest alive" : "")"
        }
        return
            "\(now - lastOutput < 300 ? "no protection" : "no output") \(now - plan.faultPhase) ms after the last fault"
            + " (\(states.joined(separator: "; ")); register \(describe(arbiter.register)))"
    }
}
