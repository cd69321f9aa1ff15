import Carriers
import Model
import Shipping

/// The first copy of a guest to its standby, while the guest runs: of all its carriers, until little enough is left for a short
/// pause.
struct FirstCopy {
    private let session: PrimarySession

    init(_ session: PrimarySession) { self.session = session }

    /// Returns why, when protection ended meanwhile.
    func run() throws(SessionError) -> String? {
        let ended = try session.carriers.copy { (milliseconds) throws(SessionError) in
            report()
            try checkTurn()
            return try session.look(wait: milliseconds)
        }
        if let ended { return ended }
        // What was written meanwhile, again and again, while it becomes less; and until the disks are there.
        while true {
            let rest = try session.carriers.catchUp()
            report()
            try checkTurn()
            if rest == .little { break }
            if let ended = try session.look(wait: rest == .coming ? 100 : 0) { return ended }
        }
        // Checkpoint 1 must not queue behind the rest of the first copy while output is held already.
        let reached = EventFlag()
        session.shipper.push(.barrier { reached.set() })
        while !reached.isSet {
            try checkTurn()
            if let ended = try session.look(wait: 5) { return ended }
        }
        return nil
    }

    /// What the dial does not want any more is not copied to its end.
    private func checkTurn() throws(SessionError) {
        guard session.shell.state.withLock({ $0.duty.dial?.isNotWanted(.memory) == true }) else { return }
        throw SessionError(.system, "it is not wanted any more")
    }

    private func report() {
        let (memory, disks) = (session.carriers.progress(of: .memory), session.carriers.progress(of: .disks))
        session.shell.state.withLock { state in
            state.figures.memoryProgress = memory
            state.figures.diskProgress = disks
        }
    }
}
