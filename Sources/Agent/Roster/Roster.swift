import Model
import RomulusAPI
import Standby
import Synchronization
import Telemetry

/// The VMs that this agent knows, one record each, and who has one in hand. `changes` tells of all that happens to them but
/// their running figures.
package final class Roster: Sendable {
    private struct State {
        var records: [VMName: VMRecord] = [:]
        /// VMs whose replica is being made.
        var preparing: Set<VMName> = []
        /// VMs that are watched for a forecast.
        var watched: Set<VMName> = []
        /// The newest link on which each VM was offered, in the order in which links were opened.
        var newestOffer: [VMName: UInt64] = [:]
    }

    package let changes = ChangeFeed()
    private let state = Mutex(State())
    private let node: NodeName
    private let registry: Registry
    let desired: @Sendable (VMName) -> DesiredReport

    /// `desired` says what is done for a VM that should be protected. It is asked without a lock.
    package init(node: NodeName, registry: Registry, desired: @escaping @Sendable (VMName) -> DesiredReport) {
        self.node = node
        self.registry = registry
        self.desired = desired
    }

    // MARK: - Looking

    /// As last known.
    package subscript(vm: VMName) -> VMRecord? { state.withLock { $0.records[vm] } }

    package var names: [VMName] { state.withLock { Array($0.records.keys) } }

    /// One that a session here has in hand, if there is any.
    var anyActive: VMName? { state.withLock { state in state.records.values.first(where: \.isActive)?.name } }

    /// Those whose guests are in this agent's hand.
    package var primaries: Set<VMName> {
        state.withLock { state in
            Set(state.records.filter { if case .primary = $0.value.part { true } else { false } }.keys)
        }
    }

    /// True while a guest is in this agent's hand: whatever becomes of the agent, it must not go on unwatched.
    package var hasGuests: Bool { !primaries.isEmpty }

    /// As its session says now.
    package func record(of vm: VMName) throws(APIError) -> VMRecord {
        refresh(vm)
        guard let record = self[vm] else {
            throw APIError(.noSuchVM, "\(node) knows no VM “\(vm)”: “romulus list” shows those it knows")
        }
        return record
    }

    /// All as their sessions say now, by name.
    package func refreshed() -> [VMRecord] {
        for vm in names { refresh(vm) }
        return state.withLock { $0.records.values.sorted { $0.name < $1.name } }
    }

    /// Takes over what the session of a VM says of itself now. A session reports with its own lock held and is then
    /// answered under this one's: it must never be asked under it.
    func refresh(_ vm: VMName) {
        guard let part = self[vm]?.part else { return }
        let view = part.view()
        let desired = desired(vm)
        state.withLock { state in
            if state.records[vm]?.part.session === part.session { state.records[vm]?.refresh(view) }
            state.records[vm]?.show(desired)
        }
    }

    /// When a session last heard something of that host, by `MonotonicClock`; 0 when none has a link to it.
    package func lastHeard(of peer: NodeName) -> UInt64 {
        let records = state.withLock { Array($0.records.values) }
        return records.filter { $0.part.isWith(peer, $0.peer) }.map(\.part.lastHeard).max() ?? 0
    }

    /// What guests want of this host's memory that have none of it yet.
    package var startRoom: StartRoom {
        StartRoom(
            state.withLock { Array($0.records.values) }.compactMap { record in
                guard case .standby(let session) = record.part, let primary = record.peer else { return nil }
                let status = session.status
                guard status.startsFromDisk, status.qemuPID == 0 else { return nil }
                return StartRoom.Guest(record.name, of: primary, bytes: status.guestBytes)
            })
    }

    /// The other guests of the host of `vm` that are to be started here from their disks, or were, in the order of their names, and
    /// how far that is: when, is not known here.
    func starts(with vm: VMName) -> [(vm: VMName, stage: StartOrder.Stage)] {
        let records = state.withLock { Array($0.records.values) }
        guard let primary = records.first(where: { $0.name == vm })?.peer else { return [] }
        return records.sorted { $0.name < $1.name }.compactMap { record in
            switch record.part {
            case .standby(let other) where record.name != vm && record.peer == primary:
                let status = other.status
                guard status.startsFromDisk else { return nil }
                return (record.name, status.phase == .failingOver ? .underWay : .idle)
            case .primary: return (record.name, .over)
            default: return nil
            }
        }
    }

    // MARK: - Who has a VM in hand

    /// Whether a session, a replica that is being made, or a forecast has the VM.
    package func isInHand(_ vm: VMName) -> Bool {
        state.withLock { state in
            state.records[vm]?.isActive ?? false || state.preparing.contains(vm) || state.watched.contains(vm)
        }
    }

    /// Of one VM there is one session at a time.
    package func takeUp(_ record: VMRecord) throws(APIError) {
        let vm = record.name
        let refusal = state.withLock { state -> String? in
            if let known = state.records[vm], known.isActive {
                return "\(vm) is already \(known.role.rawValue) here (\(known.state.rawValue))"
            }
            guard !state.preparing.contains(vm) else { return "a replica of \(vm) is being made here" }
            state.records[vm] = record
            return nil
        }
        if let refusal { throw APIError(.refused, refusal) }
        record.showAll()
        changes.publish()
    }

    /// The record takes the place of what was known of its VM.
    package func install(_ record: VMRecord) {
        state.withLock { $0.records[record.name] = record }
        record.showAll()
        changes.publish()
    }

    /// False when a replica of the VM is being made already. Where this is true, `endPreparing` follows.
    package func beginPreparing(_ vm: VMName) -> Bool { state.withLock { $0.preparing.insert(vm).inserted } }

    package func endPreparing(_ vm: VMName) { state.withLock { _ = $0.preparing.remove(vm) } }

    /// Whether no later link than that brought an offer of the VM; from then on an earlier one is none.
    package func isNewest(_ order: UInt64, of vm: VMName) -> Bool {
        state.withLock { state in
            guard order > state.newestOffer[vm] ?? 0 else { return false }
            state.newestOffer[vm] = order
            return true
        }
    }

    /// False when the VM is watched for a forecast already. Where this is true, `endWatching` follows.
    package func beginWatching(_ vm: VMName) -> Bool { state.withLock { $0.watched.insert(vm).inserted } }

    package func endWatching(_ vm: VMName) { state.withLock { _ = $0.watched.remove(vm) } }

    func isWatched(_ vm: VMName) -> Bool { state.withLock { $0.watched.contains(vm) } }

    // MARK: - Changing

    package func change(_ vm: VMName, _ body: (inout VMRecord) -> Void) {
        state.withLock { state in
            guard var record = state.records[vm] else { return }
            body(&record)
            state.records[vm] = record
        }
        changes.publish()
    }

    /// The VM's session is over; what was last known stays readable. Whoever waits for that finds what `tell` does done.
    package func end(_ vm: VMName, _ tell: () -> Void = {}) {
        state.withLock { $0.records[vm]?.part = .none }
        tell()
        changes.publish()
    }

    /// The VM's session gives way to one that `takeUp` follows with at once, which is the news.
    package func giveWay(_ vm: VMName) { state.withLock { $0.records[vm]?.part = .none } }

    /// The VM is known no longer. `condition` may keep it.
    package func remove(_ vm: VMName, if condition: (VMRecord) -> Bool = { _ in true }) {
        let isGone = state.withLock { state in
            guard let record = state.records[vm], condition(record) else { return false }
            record.metrics.remove()
            state.records[vm] = nil
            return true
        }
        if isGone { changes.publish() }
    }

    /// Changes the row of a VM that nothing has in hand; `make` makes one where there is none.
    package func changeRow(_ vm: VMName, make: () -> VMRecord, _ body: (inout VMRecord) -> Void) {
        let (isKnown, isNews) = state.withLock { state in
            guard let record = state.records[vm] else { return (false, false) }
            guard !record.isActive, !state.preparing.contains(vm) else { return (true, false) }
            var changed = record
            body(&changed)
            state.records[vm] = changed
            return (true, changed.state != record.state || changed.lastError != record.lastError)
        }
        if !isKnown {
            var record = make()
            body(&record)
            state.withLock { state in
                if state.records[vm] == nil, !state.preparing.contains(vm) { state.records[vm] = record }
            }
        }
        if isNews || !isKnown { changes.publish() }
    }

    // MARK: - Running figures, which are no news

    package func acknowledge(_ epoch: Epoch, of vm: VMName) { state.withLock { $0.records[vm]?.acknowledged = epoch } }

    package func add(_ timings: EpochTimings, to vm: VMName) { state.withLock { $0.records[vm]?.recent.add(timings) } }

    /// Nil of a VM that is not known. Asked at each report of a session.
    func metrics(of vm: VMName) -> VMMetrics? { state.withLock { $0.records[vm]?.metrics } }

    /// Those of a VM that is known already go on: a counter must not begin anew while its VM stays here.
    package func metrics(of vm: VMName, peer: NodeName?) -> VMMetrics {
        VMMetrics(vm: vm, peer: peer, states: ProtectionState.allCases.map(\.rawValue), registry: registry)
    }
}

extension VMRecord {
    /// Shows what seldom changes.
    fileprivate func showAll() {
        metrics.role.set(role.rawValue)
        metrics.state.set(state.rawValue)
        metrics.level.set(level.rawValue)
        metrics.term.set(Double(term.number))
    }
}

extension VMRecord.Part {
    /// Whether its session is with that host; a standby's stays with the one that it began with, `known`.
    fileprivate func isWith(_ peer: NodeName, _ known: NodeName?) -> Bool {
        if case .primary(let session) = self { session.standby == peer } else { known == peer }
    }

    fileprivate var lastHeard: UInt64 {
        switch self {
        case .primary(let session): session.lastHeard
        case .standby(let session): session.lastHeard
        case .none: 0
        }
    }
}
