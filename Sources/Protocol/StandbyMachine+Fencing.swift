import Model

/// Fencing the primary's node: without an arbiter in place of the operator's word, with one as an afterthought.
extension StandbyMachine {
    /// Nobody can be asked whether the primary runs: it is made sure that it does not, where that is enough (I31, I32).
    mutating func beOrphaned(_ image: Image, _ actions: inout [Action]) {
        state = .orphaned
        guard fences.contains(image.primary) else { return }
        guard image.waits else {
            return actions.append(
                .report(
                    "\(image.primary) may go on alone when it loses \(node), so it is not fenced: configure a fence"
                        + " command for \(node) there too"))
        }
        guard let register, isEligible(register, image) else {
            return actions.append(
                .report("\(image.primary) is not fenced: the pair was not complete yet when it fell silent"))
        }
        fence(image.primary, &actions)
    }

    private mutating func fence(_ peer: NodeName, _ actions: inout [Action]) {
        let nonce = Nonce(random.next())
        fencing = FencingRequest(peer: peer, nonce: nonce)
        actions.append(.fencePeer(peer, nonce))
    }

    mutating func stopFencing(_ actions: inout [Action]) {
        guard fencing != nil else { return }
        fencing = nil
        actions.append(.stopFencing)
    }

    /// The primary is off. By its promise it let out nothing in this lineage beyond what was acknowledged here: what
    /// comes now is the same history (I31).
    mutating func takeOverFenced(_ nonce: Nonce, _ actions: inout [Action]) {
        guard let image, let register, let fencing, fencing.nonce == nonce else { return }
        if case .takingOver = state {
            self.fencing = nil
            return actions.append(.endWait)
        }
        guard case .orphaned = state else { return }
        self.fencing = nil
        primaryIsSilent = false
        actions.append(.report("\(fencing.peer) is confirmed off: \(node) takes over"))
        win(
            Register(
                term: max(seen, register.term).next, owner: node, mode: .solo, session: .none, standby: nil,
                lineage: image.lineage, level: register.level), &actions)
    }

    mutating func failToFence(_ nonce: Nonce, _ reason: String, _ actions: inout [Action]) {
        guard case .orphaned = state, let fencing, fencing.nonce == nonce else { return }
        actions.append(.report("\(fencing.peer) is not confirmed off (\(reason)): this image waits"))
        fence(fencing.peer, &actions)
    }

    /// I33: whoever comes back is not fenced for an earlier silence.
    mutating func hear(from peer: NodeName, _ actions: inout [Action]) {
        guard fencing?.peer == peer else { return }
        stopFencing(&actions)
        guard case .orphaned = state else { return }
        actions.append(.report("\(peer) is heard again and is not fenced: this image waits until you decide"))
    }

    /// The arbiter said that this host goes on: a primary that only fell silent is fenced too, so that a half-dead host
    /// is really off. At level `system` nothing waits for it; else it ends the wait for that host's lease.
    mutating func fenceBeaten(_ actions: inout [Action]) {
        guard !rule.isManual, primaryIsSilent, let image, fences.contains(image.primary) else { return }
        primaryIsSilent = false
        guard level.holdsOutput else { return fence(image.primary, &actions) }
        actions.append(.fencePeer(image.primary, Nonce(random.next())))
    }
}
