import Model

/// Remembers every checkpoint as the primary had it, and what the standby acknowledged.
struct CheckpointRule {
    private struct Session {
        var id: SessionID
        var memory: [Int] = []
        var tips: [Int] = []
        /// The newest epoch that the standby truly held when it acknowledged it.
        var acknowledged = Epoch.firstCopy
    }
    private var sessions: [Session] = []

    mutating func seal(_ id: SessionID, _ epoch: Epoch, _ guest: Guest, _ verdict: inout Verdict) {
        if sessions.last?.id != id { sessions.append(Session(id: id)) }
        let last = sessions.count - 1
        sessions[last].memory.append(contentsOf: guest.memory)
        sessions[last].tips.append(guest.tip)
        if Int(epoch.number) != sessions[last].tips.count {
            verdict.fail("I6", "epoch \(epoch) was sealed out of order")
        }
    }

    /// I5, I6: an acknowledgement says that the standby could go on from this epoch, and did not ask to.
    mutating func acknowledge(_ id: SessionID, _ epoch: Epoch, _ replica: Replica?, _ verdict: inout Verdict) {
        guard let replica, replica.session == id, epoch <= replica.staged, replica.copySteps == 3,
            replica.applied > .firstCopy
        else {
            return verdict.fail("I6", "epoch \(epoch) of session \(id) was acknowledged and is not held whole")
        }
        if replica.hasAsked {
            verdict.fail("I5", "epoch \(epoch) was acknowledged after the standby had asked to take over")
        }
        guard let index = sessions.lastIndex(where: { $0.id == id }) else { return }
        sessions[index].acknowledged = max(sessions[index].acknowledged, epoch)
    }

    /// I1: output of this epoch leaves by acknowledgement.
    func release(_ id: SessionID, _ epoch: Epoch, _ verdict: inout Verdict) {
        let acknowledged = sessions.last { $0.id == id }?.acknowledged ?? .firstCopy
        if epoch > acknowledged {
            verdict.fail("I1", "output of epoch \(epoch) of session \(id) left; acknowledged was \(acknowledged)")
        }
    }

    /// I7, I8: what is resumed is the primary's state at the end of this epoch, page by page.
    func resume(_ replica: Replica, _ epoch: Epoch, _ verdict: inout Verdict) {
        compare(replica, epoch, in: 0..<Guest.groups, &verdict)
    }

    /// I8, I37: what is booted is the primary's disk at the end of this epoch, block by block.
    func boot(_ replica: Replica, _ epoch: Epoch, _ verdict: inout Verdict) {
        compare(replica, epoch, in: Guest.disk, &verdict)
    }

    private func compare(_ replica: Replica, _ epoch: Epoch, in groups: Range<Int>, _ verdict: inout Verdict) {
        guard let session = sessions.last(where: { $0.id == replica.session }),
            (1...session.tips.count).contains(Int(epoch.number))
        else { return verdict.fail("I7", "epoch \(epoch) of session \(replica.session) never was") }
        let index = Int(epoch.number) - 1
        let memory = groups.map { session.memory[index * Guest.groups + $0] }
        let image = Array(replica.memory[groups])
        if memory != image { verdict.fail("I7", "the image is \(image), the primary had \(memory) at epoch \(epoch)") }
        if replica.tip != session.tips[index] {
            verdict.fail("I7", "the image is of step \(replica.tip), epoch \(epoch) was of step \(session.tips[index])")
        }
        if session.acknowledged > epoch {
            verdict.fail("I3", "epoch \(session.acknowledged) was acknowledged, \(epoch) is resumed")
        }
    }
}
