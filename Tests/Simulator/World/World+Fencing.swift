import Model
import Protocol

/// Fence commands: what they do to the other host, and what they say of it.
extension World {
    /// The nodes that the host can fence.
    func fences(_ host: Host) -> Set<NodeName> {
        plan.fencing.isThere[host.index] ? [hosts[host.other].name] : []
    }

    /// What the host's machine believes that it can fence.
    func fencesOfPrimary(_ host: Host) -> Set<NodeName> { mutant == .promisesAndRunsAlone ? [] : fences(host) }

    func offered(_ offer: SessionOffer, by host: Host) -> SessionOffer {
        var offer = offer
        let isPlanted =
            mutant == .fencesUnpromised || (mutant == .promisesAndRunsAlone && !fences(host).isEmpty)
        if isPlanted, plan.rule != .arbiter { offer.waits = true }
        return offer
    }

    func fencePeer(_ nonce: Nonce, _ host: Host) {
        host.fencing = Host.Fencing(nonce: nonce, askedAt: now)
        let isWaiting = if case .takingOver = host.standbyState { true } else { false }
        if mutant == .takesAskingForConfirmation || (mutant == .endsWaitUnconfirmed && isWaiting)
            || (mutant == .usesOldConfirmation && host.hasConfirmation)
        {
            return later(host, 1, .fenceEnds(nonce, isConfirmed: true))
        }
        var delay = plan.fencing.delay[host.index]
        if host.primary == nil { delay += 300 }
        if host.fencingFailures > 0 { delay += min(100 << min(host.fencingFailures - 1, 5), 1000) }
        later(host, delay, .runFence(nonce))
    }

    func stopFencing(_ host: Host) { host.fencing = nil }

    func runFence(_ nonce: Nonce, _ host: Host) {
        guard host.fencing?.nonce == nonce else { return }
        let fencing = plan.fencing
        let fails = !isHealing && random.chance(perMille: fencing.fails)
        if !isHealing, random.chance(perMille: fencing.isLost) {
            return later(host, FencingPlan.timeout, .fenceEnds(nonce, isConfirmed: false))
        }
        let effect = random.within(1...fencing.effectMax)
        // The command is a process of its own: it does its work whatever becomes of the agent.
        if !fails { queue.add(.isFenced(host.other), at: now + effect) }
        let answer = effect + random.within(1...fencing.answerMax)
        if !isHealing, random.chance(perMille: fencing.isLate) {
            later(host, FencingPlan.timeout, .fenceEnds(nonce, isConfirmed: false))
            return later(host, FencingPlan.timeout + answer, .fenceEnds(nonce, isConfirmed: !fails))
        }
        let lies = !isHealing && random.chance(perMille: fencing.lies)
        later(host, answer, .fenceEnds(nonce, isConfirmed: !fails && !lies))
    }

    func beFenced(_ host: Host) {
        host.lastOff = now
        guard host.isPowered else { return }
        trace("\(host.name) is fenced")
        cutPower(host)
        queue.add(.powerReturns(host.index), at: now + random.within(1...(isHealing ? 200 : plan.fencing.offMax)))
    }

    func endFence(_ nonce: Nonce, _ isConfirmed: Bool, _ host: Host) {
        guard let fencing = host.fencing, fencing.nonce == nonce else { return }
        host.fencing = nil
        guard isConfirmed || mutant == .takesFailureForConfirmation else {
            host.fencingFailures += 1
            if host.primary != nil { return tellPrimary(host) { $0.handle(.fencingFailed(nonce, "planted")) } }
            return tellStandby(host) { $0.handle(.fencingFailed(nonce, "planted")) }
        }
        host.fencingFailures = 0
        host.hasConfirmation = true
        if host.primary != nil {
            let isFrozen = if case .frozen = host.primaryState { true } else { false }
            tellPrimary(host) { $0.handle(.peerFenced(nonce)) }
            if isFrozen, case .lonely = host.primaryState { checkFenced(by: host, since: fencing.askedAt) }
        } else {
            let isOrphaned = host.standbyState == .orphaned
            tellStandby(host) { $0.handle(.peerFenced(nonce)) }
            if isOrphaned, case .takingOver = host.standbyState { checkFenced(by: host, since: fencing.askedAt) }
        }
    }

    /// I30: who goes on because the other host is off did not go on while it was not.
    private func checkFenced(by host: Host, since askedAt: Int) {
        let peer = hosts[host.other]
        if peer.isPowered, peer.lastOff < askedAt {
            verdict.fail("I30", "\(host.name) goes on, and \(peer.name) was not off since that was asked for")
        }
    }

    /// The other host is heard.
    func hearPeer(_ host: Host) {
        guard host.fencing != nil else { return }
        let peer = hosts[host.other].name
        host.fencing = nil
        if host.primary != nil {
            tellPrimary(host) { $0.handle(.peerHeard(peer)) }
        } else {
            tellStandby(host) { $0.handle(.peerHeard(peer)) }
        }
    }
}
