import Model
import Protocol

/// What may happen to the register, and what an agent must have written before it acts on a term.
struct RegisterRule {
    private var usedIncarnations: Set<UInt64> = []

    /// I11: one term after the other.
    func change(_ old: Register?, to new: Register, _ verdict: inout Verdict) {
        if new.term.number != (old?.term.number ?? 0) + 1 {
            verdict.fail("I11", "the register went from term \(old?.term.number ?? 0) to \(new.term)")
        }
    }

    /// I11: what an agent acts on is durable.
    func act(on term: Term, _ durable: LocalRecord, _ what: String, _ verdict: inout Verdict) {
        if durable.seen < term {
            verdict.fail("I11", "\(what) at term \(term), but only term \(durable.seen) is durable")
        }
    }

    /// I13: no image has the incarnation of another one.
    mutating func begin(_ identity: StandbyIdentity, _ verdict: inout Verdict) {
        if !usedIncarnations.insert(identity.incarnation).inserted {
            verdict.fail("I13", "incarnation \(identity.incarnation) was used before")
        }
    }

    /// I16: the image that asks is the one that the register names, and it is whole.
    func ask(_ expecting: Register, _ replica: Replica?, _ verdict: inout Verdict) {
        guard let replica, replica.applied > .firstCopy, !replica.isUsedUp else {
            return verdict.fail("I16", "a takeover at term \(expecting.term) was asked for without a whole image")
        }
        if expecting.mode != .paired || expecting.standby != replica.identity || expecting.lineage != replica.lineage {
            verdict.fail("I16", "a takeover at term \(expecting.term) was asked for by an image that it does not name")
        }
    }
}
