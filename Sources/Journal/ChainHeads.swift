import Model

/// The last decision of each VM, from which the cause of its next event follows.
///
/// A decision is caused by the one before it, unless that one ended its chain. What happens by itself (a host is lost)
/// begins a chain of its own, unless something is just being carried out. Information hangs on the last decision of an
/// unfinished chain.
package struct ChainHeads: Sendable {
    package struct Head: Hashable, Sendable {
        package var id: UInt64
        package var kind: EventKind
        /// Whether the chain tells of protection that was lost.
        package var isLoss: Bool

        package init(id: UInt64, kind: EventKind, isLoss: Bool = false) {
            self.id = id
            self.kind = kind
            self.isLoss = isLoss || kind.isLoss
        }
    }

    private var heads: [VMName: Head]

    package init(_ heads: [VMName: Head] = [:]) {
        self.heads = heads
    }

    /// The cause of an event that happens now. A decision becomes the head of its VM's chain.
    package mutating func cause(of id: UInt64, _ kind: EventKind, vm: VMName?) -> UInt64? {
        guard let vm else { return nil }
        var open = open(vm)
        guard kind.isDecision else { return open?.id }
        if kind.isDetection, let head = open, !head.kind.isUnderWay { open = nil }
        heads[vm] = Head(id: id, kind: kind, isLoss: open?.isLoss ?? false)
        return open?.id
    }

    /// What an event of `kind` is for this VM: to be protected after a loss is to be protected again.
    package func settled(_ kind: EventKind, vm: VMName?) -> EventKind {
        kind == .protected && vm.flatMap { open($0)?.isLoss } ?? false ? .reProtected : kind
    }

    /// The head of the VM's chain, unless the chain has ended.
    private func open(_ vm: VMName) -> Head? {
        heads[vm].flatMap { $0.kind.endsChain ? nil : $0 }
    }

    /// Shifts ids as `EventQueue.renumber` does, and takes over the heads that the file has for other VMs.
    package mutating func renumber(by offset: UInt64, adding stored: ChainHeads) {
        for vm in heads.keys { heads[vm]?.id += offset }
        heads.merge(stored.heads) { mine, _ in mine }
    }
}

/// A decision, what led to it and what came of it.
package enum Chain {
    /// The chain that the last decision among `events` belongs to, oldest first, with the information that hangs on it;
    /// empty when there is no decision. `events` are one VM's, oldest first.
    package static func last(in events: [JournalEvent]) -> [JournalEvent] {
        guard var first = events.last(where: { $0.kind.isDecision }) else { return [] }
        let byID = Dictionary(events.map { ($0.id, $0) }) { $1 }
        // A cause is older than its effect: a file that says otherwise is not followed in circles.
        while let cause = first.cause.flatMap({ byID[$0] }), cause.id < first.id { first = cause }
        var members: Set<UInt64> = [first.id]
        return events.filter { event in
            let belongs = event.id == first.id || event.cause.map { members.contains($0) } ?? false
            if belongs { members.insert(event.id) }
            return belongs
        }
    }
}
