import Journal
import Model
import Pair
import Protocol
import RomulusAPI

/// Changes of host that the operator asks for, and what only the operator can decide.
package struct Moves: Sendable {
    let node: NodeName
    /// Whether an arbiter decides.
    let hasArbiter: Bool
    let roster: Roster
    let journal: EventJournal
    let chronicle: Chronicle

    /// An arbiter that has not answered by then counts as away.
    private static let soundingMax = Duration.seconds(60)

    package init(node: NodeName, hasArbiter: Bool, roster: Roster, journal: EventJournal, chronicle: Chronicle) {
        self.node = node
        self.hasArbiter = hasArbiter
        self.roster = roster
        self.journal = journal
        self.chronicle = chronicle
    }

    // MARK: - Unplanned

    func failover(_ request: FailoverRequest) async throws(APIError) -> VMStatus {
        let record = try roster.record(of: request.vm)
        do throws(APIError) {
            return try await failOver(record, request)
        } catch {
            if error.code == .refused {
                chronicle.note(request.vm, .refused, "a failover was refused: \(error.message)")
            }
            throw error
        }
    }

    private func failOver(_ record: VMRecord, _ request: FailoverRequest) async throws(APIError) -> VMStatus {
        switch record.part {
        case .primary(let session):
            guard [.protected, .stalled].contains(record.state) else {
                throw APIError(
                    .refused,
                    "\(request.vm) is \(record.state.rawValue), not protected: no standby could go on with it")
            }
            guard record.level.holdsOutput else {
                throw APIError(
                    .refused,
                    "at level \(record.level.rawValue) a guest that dies here is started again here: it is not moved by that"
                )
            }
            chronicle.note(
                request.vm, .request, "a failover was asked for here: the guest's QEMU is ended, the standby goes on")
            session.endGuest()
            return record.status()
        case .standby(let session):
            // Who has won already goes on without anybody's word.
            if record.state == .failed {
                chronicle.note(request.vm, .request, "a failover that had failed was asked for again")
            } else {
                try demandWord(request, of: record, session)
                chronicle.note(
                    request.vm, .forced, "a failover was asked for: the operator says that \(record.peerName) is off")
            }
            // The operator's word is on the disk before it takes effect, unless the disk itself is the trouble.
            _ = await journal.saved(within: .seconds(1))
            let outcome = await withCheckedContinuation { continuation in
                session.takeOver(reason: "the operator asked for it") { continuation.resume(returning: $0) }
            }
            switch outcome {
            case .success: return try roster.record(of: request.vm).status()
            case .failure(let error):
                throw APIError(error.code == .refused ? .refused : .failed, error.message)
            }
        case .none:
            throw APIError(
                .refused,
                "\(node) has no replica of \(request.vm) (\(record.state.rawValue)): nothing to go on from"
            )
        }
    }

    /// The operator's word that the primary is off, where that may be so.
    private func demandWord(
        _ request: FailoverRequest, of record: VMRecord, _ session: StandbyShell
    ) throws(APIError) {
        guard record.state == .peerLost else {
            throw APIError(
                .refused,
                "the primary of \(request.vm) at \(record.peerName) is alive (\(record.state.rawValue)): run the failover"
                    + " there, so that only one of the two can run")
        }
        if !hasArbiter, session.hearsPrimary {
            throw APIError(
                .refused,
                "only the link is down: the agent of \(record.peerName) is heard over the second path, so the guest may run"
                    + " there; mend the link, or stop that host first")
        }
        guard request.force else {
            throw APIError(
                .refused,
                "\(record.peerName) is silent, which is not the same as dead: make sure that it is off and say so (--yes)"
            )
        }
    }

    // MARK: - Planned

    package func switchover(_ request: SwitchoverRequest) async throws(APIError) -> VMStatus {
        let record = try roster.record(of: request.vm)
        do throws(APIError) {
            try await beginSwitchover(of: record)
        } catch {
            if error.code == .refused {
                chronicle.note(request.vm, .refused, "a switchover was refused: \(error.message)")
            }
            throw error
        }
        if case .primary(let session) = record.part { try await awaitSounding(session, of: request.vm) }
        guard let wait = request.waitMilliseconds else { return try roster.record(of: request.vm).status() }
        _ = await roster.changes.wait(until: .now + .milliseconds(wait)) { record.switchover != .underWay }
        switch record.switchover {
        case .done: return try roster.record(of: request.vm).status()
        case .failed(let reason):
            throw APIError(.failed, "the switchover of \(request.vm) failed, it goes on where it was: \(reason)")
        case .underWay:
            throw APIError(
                .timeout,
                "the switchover of \(request.vm) is not over after \(wait) ms: “romulus why \(request.vm)” tells more")
        }
    }

    /// Until the arbiter has answered, which it does within seconds or counts as away; its session notes why not.
    private func awaitSounding(_ session: PrimaryShell, of vm: VMName) async throws(APIError) {
        _ = await roster.changes.wait(until: .now + Self.soundingMax) { !session.isSounding }
        guard case .failed = session.switchover, let refusal = session.switchoverRefusal else { return }
        throw APIError(.refused, "\(vm) cannot be moved now, and runs on: \(refusal)")
    }

    private func beginSwitchover(of record: VMRecord) async throws(APIError) {
        let (vm, state) = (record.name, record.state)
        guard state == .protected else {
            throw APIError(.refused, "\(vm) is \(state.rawValue), not protected: no other host could go on with it")
        }
        switch record.part {
        case .primary(let session):
            chronicle.note(vm, .request, "a switchover was asked for: \(record.peerName) is to go on with the guest")
            if let refusal = session.switchOver() { throw APIError(.refused, "\(vm) cannot be moved now: \(refusal)") }
        case .standby(let session):
            chronicle.note(vm, .request, "a switchover was asked for: this host is to go on with the guest")
            if let reason = await session.reasonToWait() {
                throw APIError(
                    .refused, "\(vm) cannot be moved now, and runs on: the arbiter would have to agree, and \(reason)")
            }
            guard session.ask(.switchover, because: "\(node) asked for a switchover") else {
                throw APIError(.refused, "\(record.peerName) cannot be asked: it is not heard")
            }
        case .none:
            throw APIError(.refused, "\(node) has nothing of \(vm) any more")
        }
    }

    func decide(_ request: DecisionRequest) async throws(APIError) -> VMStatus {
        let record = try roster.record(of: request.vm)
        let goesOn = request.decision == .goOn
        guard case .primary(let session) = record.part,
            [.frozen, .forked, .handingOver].contains(record.state) || !goesOn && !session.status.lostDisks.isEmpty
        else {
            throw APIError(
                .refused, "there is nothing to decide about \(request.vm): it is \(record.state.rawValue) here")
        }
        chronicle.note(
            request.vm, .forced,
            goesOn
                ? "the operator says that the guest goes on here, alone"
                : "the operator says that this copy of the guest is given up")
        // The operator's word is on the disk before it takes effect, unless the disk itself is the trouble.
        _ = await journal.saved(within: .seconds(1))
        if let refusal = session.decide(goesOn: goesOn) { throw APIError(.refused, "\(request.vm): \(refusal)") }
        return try roster.record(of: request.vm).status()
    }
}

extension VMRecord {
    /// How a switchover of it stands, as its session at this host sees it.
    var switchover: Switchover {
        switch part {
        case .primary(let session): session.switchover
        case .standby(let session): session.switchover
        case .none: .failed("its session ended")
        }
    }
}
