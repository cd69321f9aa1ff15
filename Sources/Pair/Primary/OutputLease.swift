import Model

/// The lease under which output leaves that is not held: as long as the gate stands before it, or is about to, or until a guest is
/// started again.
struct OutputLease: Sendable {
    /// The term that it is of; 0 while this host does not own the register.
    private var term: Term?

    /// The gate is about to stand.
    mutating func begin() { term = Term(0) }

    /// The register is this host's, under this term; nil while it is not.
    mutating func follow(_ own: Term?) -> [PrimaryOutput] {
        guard let term, let own, own > term else { return [] }
        self.term = own
        return [.lease(.won(own, .goingOn))]
    }

    /// The guest is gone, and to start here again.
    mutating func restart(_ term: Term) -> [PrimaryOutput] {
        self.term = term
        return [.lease(.won(term, .restarting))]
    }

    mutating func end() -> [PrimaryOutput] {
        guard term != nil else { return [] }
        term = nil
        return [.lease(.ended)]
    }
}

extension PrimaryDuty {
    /// The lease lets the guest start here again.
    package mutating func mayRun() -> [Output] {
        // Alone, the guest needs no lease.
        [.order(.startGuest)] + lease.end()
    }
}
