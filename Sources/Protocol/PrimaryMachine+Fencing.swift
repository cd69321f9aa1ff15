import Model

/// Without an arbiter, where the standby's node can be fenced: nothing leaves before it is confirmed off.
extension PrimaryMachine {
    func waits(for standby: NodeName) -> Bool { rule.isManual && fences.contains(standby) }

    /// I31: the standby may be about to go on, once it has fenced this host.
    mutating func beFrozen(_ session: Session, _ actions: inout [Action]) {
        actions += [
            .closeLink, .report("the standby is lost: output is held until it is confirmed off, or you decide"),
        ]
        state = .frozen
        request = nil
        fence(session.standby.node, &actions)
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

    /// The standby is off, and what it held in its memory is gone: nobody else can go on, so the history is one.
    mutating func goOnFenced(_ nonce: Nonce, _ actions: inout [Action]) {
        guard case .frozen = state, let fencing, fencing.nonce == nonce else { return }
        self.fencing = nil
        state = .lonely
        actions.append(.report("\(fencing.peer) is confirmed off: \(node) goes on alone"))
        ask(.solo, from: register, &actions)
    }

    mutating func failToFence(_ nonce: Nonce, _ reason: String, _ actions: inout [Action]) {
        guard let fencing, fencing.nonce == nonce else { return }
        actions.append(.report("\(fencing.peer) is not confirmed off (\(reason)): output stays held"))
        fence(fencing.peer, &actions)
    }

    /// I33: whoever comes back is not fenced for an earlier silence.
    mutating func hear(from peer: NodeName, _ actions: inout [Action]) {
        guard fencing?.peer == peer else { return }
        stopFencing(&actions)
        actions.append(.report("\(peer) is heard again and is not fenced: output stays held until you decide"))
    }

    /// A standby that holds nothing any more cannot go on: the guest may.
    mutating func letGo(_ id: SessionID, _ actions: inout [Action]) {
        guard case .paired(let session) = state, session.id == id, isDismissing, request == nil else { return }
        ask(.solo, from: register, &actions)
    }
}
