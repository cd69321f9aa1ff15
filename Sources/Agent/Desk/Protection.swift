import Foundation
import LinuxSystem
import Memory
import Model
import Pair
import RomulusAPI

/// Beginning, changing and ending the protection of a VM, by the operator's word.
struct Protection: Sendable {
    let configuration: Configuration
    let finder: GuestFinder
    let hosts: Hosts
    let roster: Roster
    let words: Words
    let pursuits: Pursuits
    let sessions: Sessions
    let bases: MemoryBases
    let chronicle: Chronicle

    /// How long the end of a session is waited for.
    private static let detachingMax = Duration.seconds(30)

    // MARK: - Beginning

    func begin(_ asked: ProtectRequest) async throws(APIError) -> VMStatus {
        var request = asked
        let (vm, monitor) = try await finder.find(asked.vm, asked.qmp, by: asked.manager)
        (request.vm, request.qmp) = (vm, monitor)
        let options = try sessions.options(request)
        guard !roster.isWatched(request.vm) else {
            throw APIError(.refused, "\(request.vm) is being watched for a forecast: protect it when that is done")
        }
        if words.store[request.vm].word?.protect == .manual { try words.keep(nil, of: request.vm) }
        if let status = try protectWhatIsInHand(request, options) { return status }
        if options.overridesRegister {
            chronicle.note(
                request.vm, .forced, "\(request.vm) was claimed: the operator gives up what other hosts have of it")
        }
        return try sessions.begin(options, origin: .named, request: request)
    }

    /// Nil when nothing of the VM is in hand that could be asked to do it.
    private func protectWhatIsInHand(
        _ request: ProtectRequest, _ options: PrimaryOptions
    ) throws(APIError) -> VMStatus? {
        guard let record = try? roster.record(of: request.vm), case .primary(let session) = record.part,
            record.state != .protected
        else { return nil }
        let isSame = session.options.qmpPath == options.qmpPath && session.options.standby == options.standby
        guard session.isAlone || (isSame && pursuits.isPursuing(request.vm)) else { return nil }
        roster.change(request.vm) { $0.request = request }
        chronicle.note(
            request.vm, .request, "protection of \(request.vm) was asked for, with \(options.standby) as standby")
        session.protect()
        return try roster.record(of: request.vm).status()
    }

    // MARK: - Changing

    /// Changes what the epochs of a VM are like while it is protected.
    func tune(_ request: TuneRequest) throws(APIError) -> VMStatus {
        let vm = request.vm
        let record = try roster.record(of: vm)
        guard case .primary(let session) = record.part else {
            let way =
                record.role == .standby ? "tune it at \(record.peerName), where the guest runs" : "protect it first"
            throw APIError(.refused, "\(hosts.node) does not protect \(vm) (\(record.state.rawValue)): \(way)")
        }
        let tuning = request.applied(to: session.tuning)
        if let refusal = request.reasonToRefuse(after: session.tuning) { throw APIError(.refused, refusal) }
        session.tune(tuning)
        roster.change(vm) { $0.tuning = tuning }
        do throws(SystemError) {
            try words.store.update(vm) { memory in
                memory.guest?.tuning = tuning
                memory.word?.request?.take(request)
            }
        } catch {
            chronicle.note(
                vm, .error, "how \(vm) is tuned cannot be remembered over a restart of this agent: \(error)")
        }
        chronicle.note(vm, .tuned, "\(vm) was tuned: \(tuning)")
        return try roster.record(of: vm).status()
    }

    // MARK: - Ending

    func end(_ request: UnprotectRequest) async throws(APIError) -> VMStatus {
        let vm = request.vm
        // Of a replica that is gone already its memory may be left.
        let hadBase = bases.giveUp(vm)
        if hadBase { chronicle.note(vm, .state, "the memory kept of \(vm) was given up: this was asked for") }
        let record: VMRecord
        do throws(APIError) {
            record = try roster.record(of: vm)
        } catch {
            guard hadBase || words.wanted(vm) != nil || words.store[vm].ownerLacks != nil else { throw error }
            try words.keep(.unprotect, of: vm)
            try words.giveUpOnlyCopy(of: vm)
            return VMStatus(
                name: vm, role: .standby, state: .unprotected, since: Date(),
                level: configuration.vms[vm]?.level ?? configuration.defaults.level,
                peer: configuration.vms[vm]?.standby ?? hosts.names.first,
                epochMilliseconds: configuration.defaults.epochMilliseconds)
        }
        switch record.part {
        case .primary(let session):
            if let loss = session.status.diskLosses.first {
                throw APIError(
                    .refused,
                    "disk \(loss.disk) of \(vm) is lost at \(hosts.node), and the guest lives by the copy of \(record.peerName): let it"
                        + " rejoin first (“romulus rejoin \(vm)”)")
            }
            chronicle.note(vm, .request, "the end of protection was asked for")
            try words.keep(.unprotect, of: vm)
            session.unprotect()
        case .standby(let session):
            guard record.state == .peerLost else {
                throw APIError(
                    .refused,
                    "\(hosts.node) is the standby of \(vm) and its primary is there: end protection at \(record.peerName)"
                )
            }
            chronicle.note(vm, .request, "giving the replica up was asked for")
            session.dismiss(reason: "the operator gave the replica up")
        case .none:
            try words.keep(.unprotect, of: vm)
            roster.remove(vm)
            var gone = record
            if record.state == .waiting { gone.state = .unprotected }
            gone.show(roster.desired(vm))
            return gone.status()
        }
        let isOver = await roster.changes.wait(until: .now + Self.detachingMax) { roster[vm]?.isActive != true }
        guard isOver else {
            throw APIError(
                .timeout, "\(vm) is still being detached after 30 s: “romulus status” tells when it is done")
        }
        return (roster[vm] ?? record).status()
    }
}
