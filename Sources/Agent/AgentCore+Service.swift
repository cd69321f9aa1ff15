import Foundation
import Hypervisor
import LinuxSystem
import Model
import Pair
import RomulusAPI
import Standby
import Synchronization

/// What operators can ask, over the API.
extension AgentCore: AgentService {
    public func health() async throws(APIError) -> Health {
        let records = refreshed()
        let peers = Dictionary(
            uniqueKeysWithValues: configuration.peers.keys.map { peer in
                (peer, records.contains { $0.peer == peer && ($0.state == .protected || $0.state == .syncing) })
            })
        return Health(
            node: configuration.node, started: started, peers: peers,
            processorSeconds: ProcessFiles.processorSeconds(of: getpid()))
    }

    public func list() async throws(APIError) -> [VMStatus] { refreshed().map { withArbiter($0.status()) } }

    public func status(of vm: VMName) async throws(APIError) -> VMStatus { withArbiter(try record(of: vm).status()) }

    private func withArbiter(_ status: VMStatus) -> VMStatus {
        var status = status
        status.arbiter = arbiterReport
        return status
    }

    public func protect(_ request: ProtectRequest) async throws(APIError) -> VMStatus {
        let options = try primaryOptions(request)
        guard !state.withLock({ $0.watched.contains(request.vm) }) else {
            throw APIError(.refused, "\(request.vm) is being watched for a forecast: protect it when that is done")
        }
        if store[request.vm].word?.protect == .manual { try keep(nil, of: request.vm) }
        if let status = try protectWhatIsInHand(request, options) { return status }
        if options.overridesRegister {
            note(request.vm, .forced, "\(request.vm) was claimed: the operator gives up what other hosts have of it")
        }
        return try startPrimary(options, origin: .named, request: request)
    }

    /// Nil when nothing of the VM is in hand that could be asked to do it.
    private func protectWhatIsInHand(
        _ request: ProtectRequest, _ options: PrimaryOptions
    ) throws(APIError) -> VMStatus? {
        guard let record = try? record(of: request.vm), case .primary(let session) = record.part,
            record.state != .protected
        else { return nil }
        let isSame = session.options.qmpPath == options.qmpPath && session.options.standby == options.standby
        guard session.isAlone || (isSame && reconciler.isPursuing(request.vm)) else { return nil }
        state.withLock { $0.vms[request.vm]?.request = request }
        note(
            request.vm, .request, "protection of \(request.vm) was asked for, with \(options.standby) as standby")
        session.protect()
        return try self.record(of: request.vm).status()
    }

    /// What a session of the VM is to be like; what the request leaves open, the configuration says.
    func primaryOptions(_ request: ProtectRequest) throws(APIError) -> PrimaryOptions {
        let configured = configuration.vms[request.vm]
        guard let qmp = request.qmp ?? configured?.qmp else {
            throw APIError(
                .badRequest, "say where the monitor of \(request.vm) is: --qmp PATH, or “qmp” in the configuration")
        }
        guard let standby = request.standby ?? configured?.standby else {
            throw APIError(
                .badRequest, "say which host is to be its standby: --standby HOST, or “standby” in the configuration")
        }
        let level = request.level ?? configured?.level ?? configuration.defaults.level
        guard level == .system else {
            throw APIError(
                .refused, "level “\(level.rawValue)” is not there yet: this release protects at level “system”")
        }
        guard let standbyNode = NodeName(standby) else {
            throw APIError(.noSuchPeer, "“\(standby)” is not the name of a host")
        }
        var options = PrimaryOptions(vm: request.vm, qmpPath: qmp, standby: standbyNode)
        options.level = level
        let epoch =
            request.epochMilliseconds ?? configured?.epochMilliseconds ?? configuration.defaults.epochMilliseconds
        options.tuning = EpochTuning(
            epochMilliseconds: epoch, goal: request.goal ?? configured?.goal, pauseBudget: request.pauseBudget,
            linkCapMegabits: request.linkCap(
                unlessSaid: configured?.linkCapMegabits ?? configuration.defaults.linkCapMegabits))
        options.reserve = configured?.standbys.compactMap { NodeName($0) }.filter { $0 != standbyNode } ?? []
        options.replaceAfterSeconds = configuration.replaceAfter(of: request.vm)
        options.planted = planted
        options.createsImages = request.createImage ?? false
        options.overridesRegister = request.claim ?? false
        return options
    }

    public func unprotect(_ request: UnprotectRequest) async throws(APIError) -> VMStatus {
        // Of a replica that is gone already its memory may be left.
        let hadBase = bases.giveUp(request.vm)
        if hadBase { note(request.vm, .state, "the memory kept of \(request.vm) was given up: this was asked for") }
        let record: VMRecord
        do throws(APIError) {
            record = try self.record(of: request.vm)
        } catch {
            guard hadBase || wanted(request.vm) != nil else { throw error }
            try keep(.unprotect, of: request.vm)
            return VMStatus(
                name: request.vm, role: .standby, state: .unprotected, since: Date(),
                level: configuration.vms[request.vm]?.level ?? configuration.defaults.level,
                peer: configuration.vms[request.vm]?.standby ?? configuration.peers.keys.sorted().first ?? "",
                epochMilliseconds: configuration.defaults.epochMilliseconds)
        }
        switch record.part {
        case .primary(let session):
            note(request.vm, .request, "the end of protection was asked for")
            try keep(.unprotect, of: request.vm)
            session.unprotect()
        case .standby(let session):
            guard record.state == .peerLost else {
                throw APIError(
                    .refused,
                    "\(configuration.node) is the standby of \(request.vm) and its primary is there: end protection at"
                        + " \(record.peer)")
            }
            note(request.vm, .request, "giving the replica up was asked for")
            session.dismiss(reason: "the operator gave the replica up")
        case .none:
            try keep(.unprotect, of: request.vm)
            state.withLock { state in
                state.vms[request.vm]?.metrics.remove()
                state.vms[request.vm] = nil
            }
            var gone = record
            if record.state == .waiting { gone.state = .unprotected }
            gone.show(desired(request.vm))
            return gone.status()
        }
        for _ in 0..<1500 {
            try? await Task.sleep(for: .milliseconds(20))
            let now = state.withLock { $0.vms[request.vm] }
            guard let now else { return record.status() }
            if !now.isActive { return now.status() }
        }
        throw APIError(
            .timeout, "\(request.vm) is still being detached after 30 s: “romulus status” tells when it is done")
    }

    public func failover(_ request: FailoverRequest) async throws(APIError) -> VMStatus {
        let record = try record(of: request.vm)
        do throws(APIError) {
            return try await failOver(record, request)
        } catch {
            if error.code == .refused { note(request.vm, .refused, "a failover was refused: \(error.message)") }
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
            note(request.vm, .request, "a failover was asked for here: the guest's QEMU is ended, the standby goes on")
            session.endGuest()
            return record.status()
        case .standby(let session):
            guard record.state == .peerLost else {
                throw APIError(
                    .refused,
                    "the primary of \(request.vm) at \(record.peer) is alive (\(record.state.rawValue)): run the failover"
                        + " there, so that only one of the two can run")
            }
            if arbiter == nil, session.hearsPrimary {
                throw APIError(
                    .refused,
                    "only the link is down: the agent of \(record.peer) is heard over the second path, so the guest may run"
                        + " there; mend the link, or stop that host first")
            }
            guard request.force else {
                throw APIError(
                    .refused,
                    "\(record.peer) is silent, which is not the same as dead: make sure that it is off and say so (--yes)"
                )
            }
            note(request.vm, .forced, "a failover was asked for: the operator says that \(record.peer) is off")
            // The operator's word is on the disk before it takes effect, unless the disk itself is the trouble.
            _ = await journal.saved(within: .seconds(1))
            let outcome = await withCheckedContinuation { continuation in
                session.takeOver(reason: "the operator asked for it") { continuation.resume(returning: $0) }
            }
            switch outcome {
            case .success: return try self.record(of: request.vm).status()
            case .failure(let error):
                throw APIError(error.code == .refused ? .refused : .failed, error.message)
            }
        case .none:
            throw APIError(
                .refused,
                "\(configuration.node) has no replica of \(request.vm) (\(record.state.rawValue)): nothing to go on from"
            )
        }
    }

    public func events(_ query: EventQuery, wait: Duration) async throws(APIError) -> [Event] {
        try await journal.events(query, wait: wait)
    }

    public func explanation(of vm: VMName) async throws(APIError) -> Explanation {
        try await journal.explanation(of: vm, node: configuration.node)
    }

    public func standbyCommand(_ request: StandbyCommandRequest) async throws(APIError) -> String {
        let known = request.vm.flatMap { name in state.withLock { $0.vms[name] } }
        if request.qmp == nil, let known, case .standby(let session) = known.part {
            return session.command.text
        }
        let configured = request.vm.flatMap { configuration.vms[$0]?.qmp }
        let guest: GuestDescription
        if let known, case .primary(let session) = known.part, let found = session.guest {
            guest = found
        } else if let path = request.qmp ?? known?.qmp ?? configured {
            let found: (description: GuestDescription?, refusals: [String]) = try await offPool {
                [guests] () throws(APIError) in
                do throws(SessionError) {
                    return try guests.examine(at: path)
                } catch {
                    throw APIError(.refused, "\(error)")
                }
            }
            guard found.refusals.isEmpty, let description = found.description else {
                throw APIError(.refused, found.refusals.joined(separator: "; "))
            }
            guest = description
        } else {
            throw APIError(.noSuchVM, "\(configuration.node) does not know that VM: name its monitor with --qmp PATH")
        }
        let name = request.vm ?? VMName(guest.guestName) ?? Self.unnamed
        do throws(StandbyCommandError) {
            let options = configuration.standbyOptions(for: name, guest: guest)
            return try standbys.command(for: guest, options).text
        } catch {
            throw APIError(.refused, "\(error)")
        }
    }

    /// Stands for a VM that has no name yet in the paths of a printed command line.
    private static let unnamed = VMName("vm").unsafelyUnwrapped

    public func metrics() async throws(APIError) -> String {
        for record in refreshed() {
            guard case .primary(let session) = record.part, let roundTrip = await session.roundTrip() else { continue }
            let (seconds, attoseconds) = roundTrip.components
            record.metrics.peerRTT.observe(
                nanoseconds: UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000))
        }
        return registry.text()
    }
}

/// Runs something that may block on a thread of its own, not on one of the cooperative pool's.
func offPool<Value: Sendable>(
    _ body: @escaping @Sendable () throws(APIError) -> Value
) async throws(APIError) -> Value {
    let outcome: Result<Value, APIError> = await withCheckedContinuation { continuation in
        do throws(SystemError) {
            _ = try NamedThread.start("request") {
                do throws(APIError) {
                    continuation.resume(returning: .success(try body()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        } catch {
            continuation.resume(returning: .failure(APIError(.failed, "no thread for the request: \(error)")))
        }
    }
    return try outcome.get()
}
