import Model
import Protocol

/// The gates of a guest, and what of its output reaches the clients.
extension World {
    func clientSees(_ packet: Int, _ host: Host) { letOutFreely(packet, host) }

    /// One packet reaches the clients.
    private func letOut(_ packet: Int, _ host: Host) {
        reachClients(packet, of: host.guest?.lineage ?? nil, through: host)
    }

    /// Where that host has a network.
    func reachClients(_ packet: Int, of lineage: Lineage?, through host: Host) {
        guard host.hasUplink else { return }
        clients.see(packet, of: lineage, history, &verdict)
        lastOutput = now
    }

    /// I1, I2: output that no acknowledgement covers leaves only under SOLO.
    private func letOutFreely(_ packet: Int, _ host: Host) {
        guard !leads(packet, host), passesGate(host) else { return }
        if host.guest?.lineage != nil { judgeFreeOutput(packet, host) }
        host.lastFree = packet
        letOut(packet, host)
    }

    private func judgeFreeOutput(_ packet: Int, _ host: Host) {
        let register = rules(host)
        let isGuarded = host.guest?.kernelGate != nil
        let text = { "step \(packet) left \(host.name) freely; the register is \(self.describe(register))" }
        guard register?.owner == host.name else {
            // Who waits for the end of this lease has not started the guest.
            if !isGuarded {
                verdict.fail("I1", text())
            } else if hosts[host.other].guest?.isAlive == true {
                verdict.fail("I26", text())
            }
            return
        }
        if register?.mode == .solo { return }
        if register?.level == .system { return verdict.fail("I1", text()) }
        if !isGuarded { verdict.fail("I36", text()) }
    }

    func letOutAllFreely(_ host: Host) {
        let held = host.held
        host.held = []
        for (_, packet) in held { letOutFreely(packet, host) }
    }

    private func checkClaim(_ host: Host, _ term: Term) {
        if !host.hasClaimed { verdict.fail("I14", "\(host.name) let output go before it had claimed its term") }
        registers.act(on: term, host.durable, "output was let go", &verdict)
    }

    /// What the guest's last step sent goes where the gate says.
    func emit(_ packet: Int, _ host: Host) {
        guard let guest = host.guest else { return }
        switch guest.gate {
        case .detached: letOutFreely(packet, host)
        case .closed: break
        case .flowing, .holding:
            // Without the agent that holds the sockets, QEMU drops it; while the agent stands still, it waits.
            guard host.isUp, guest.gateLife == host.life else { return }
            host.held.append((guest.epoch, packet))
            if guest.gate == .flowing, host.stalledUntil <= now {
                let waiting = host.held
                host.held = []
                for (_, packet) in waiting { letOutFreely(packet, host) }
            }
        }
    }

    func hold(_ host: Host) {
        guard let gate = host.guest?.gate, gate == .flowing || gate == .holding else { return }
        if mutant == .holdsLate, case .pairing = host.primaryState { return }
        if mutant == .startsWithoutHolding, case .adopting = host.primaryState {
            host.guest?.gate = .flowing
            host.guest?.gateLife = host.life
            return
        }
        host.guest?.gate = .holding
        host.guest?.gateLife = host.life
    }

    func release(through epoch: Epoch, _ host: Host) {
        checkClaim(host, Term(0))
        let limit = mutant == .releasesAllOnAcknowledgement ? host.sealed : epoch
        letOutHeld(through: limit, host)
    }

    func letOutHeld(through epoch: Epoch, _ host: Host) {
        var kept = 0
        while kept < host.held.count, host.held[kept].epoch <= epoch {
            checkpoints.release(host.session, host.held[kept].epoch, &verdict)
            if passesGate(host) { letOut(host.held[kept].packet, host) }
            kept += 1
        }
        host.held.removeFirst(kept)
    }

    func releaseEverything(_ host: Host) {
        guard let guest = host.guest, guest.gate != .closed else { return }
        if guest.gate != .detached, let register = host.primary?.machine.register, guest.lineage != nil {
            checkClaim(host, register.term)
        }
        letOutAllFreely(host)
        if guest.gate != .detached { host.guest?.gate = .flowing }
    }

    func dropHeld(_ host: Host) {
        if mutant == .releasesOnFence {
            for (_, packet) in host.held { letOutFreely(packet, host) }
        }
        host.held = []
        host.guest?.gate = .closed
    }
}
