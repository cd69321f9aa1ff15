import Disk
import Hypervisor
import Leases
import LinuxSystem
import Logging
import Memory
import Messages
import Model
import Pair
import Protocol
import Registers
import RomulusAPI
import Standby
import TapDetour
import Transport

/// Begins sessions: as primary of a guest that runs here, as standby with a replica. What they report goes to the reporter.
final class Sessions: Sendable {
    let configuration: Configuration
    let node: NodeName
    private let hosts: Hosts
    private let roster: Roster
    private let store: VMStore
    private let arbiter: WatchedArbiter?
    /// Nil without an arbiter.
    let leases: Leases?
    private let uplinks: Uplinks
    private let bases: MemoryBases
    private let guests: any GuestSource
    private let restarts: Restarts
    private let startTurns: StartTurns
    private let identities: Identities
    private let reporter: Reporter
    private let chronicle: Chronicle
    /// Nil: processors sleep as they like.
    let processorSleep: ProcessorSleep?
    /// What the tests' own build of the agent has planted.
    private let planted: PlantedFaults

    /// - Parameter arbiter: nil where the operator decides.
    init(
        configuration: Configuration, hosts: Hosts, roster: Roster, store: VMStore, arbiter: WatchedArbiter?,
        leases: Leases?, bases: MemoryBases, drivers: Drivers, reporter: Reporter,
        processorSleep: ProcessorSleep?, planted: PlantedFaults
    ) {
        self.configuration = configuration
        self.hosts = hosts
        self.roster = roster
        self.store = store
        self.arbiter = arbiter
        self.leases = leases
        uplinks = Uplinks(node: "\(hosts.node)", probes: configuration.detection.probesNetworks)
        self.bases = bases
        guests = drivers.guests
        restarts = Restarts(drivers: drivers, store: store)
        startTurns = StartTurns(configuration: configuration, roster: roster)
        self.reporter = reporter
        self.processorSleep = processorSleep
        self.planted = planted
        node = hosts.node
        chronicle = reporter.chronicle
        identities = Identities(node: hosts.node, store: store, chronicle: reporter.chronicle)
    }

    /// What a VM's machine needs from outside to decide.
    func custody(of vm: VMName) -> Custody {
        var custody = Custody(
            node: node, rule: arbiter == nil ? .manual(configuration.defaults.standbyLost) : .arbiter, arbiter: arbiter,
            reprotection: configuration.reprotection(of: vm), fences: hosts.fences,
            bootsFromDisk: configuration.defaults.coldBoot, record: store[vm].local,
            identify: { [identities] (found, isFresh) throws(SessionError) in
                try identities.identify(vm, found, isFresh)
            },
            persist: { [store, node] record in
                try store.update(vm) { memory in
                    memory.local = record
                    // The operator's word may have begun another history of the same guest.
                    if let register = record.register, register.owner == node {
                        memory.guest?.lineage = register.lineage
                        memory.owners.own(register.lineage)
                    }
                }
            })
        custody.noteOwner = { [store] disk, isLost, lineage in
            try store.update(vm) { $0.owners.note(disk, isLost: isLost, in: lineage) }
        }
        custody.serving = ServingPlaces(
            directory: configuration.runtimeDirectory(of: vm),
            boundMilliseconds: configuration.defaults.diskBoundMilliseconds)
        custody.startTurn = startTurns.turn(of: vm)
        custody.leases = leases
        custody.uplinks = uplinks
        return custody
    }

    // MARK: - As primary

    /// What a session of the VM is to be like; what the request leaves open, the configuration says.
    func options(_ request: ProtectRequest) throws(APIError) -> PrimaryOptions {
        let configured = configuration.vms[request.vm]
        guard let qmp = request.qmp ?? configured?.qmp else {
            throw APIError(
                .badRequest, "“qmp” in the configuration must say where the monitor of \(request.vm) is")
        }
        guard let standby = request.standby ?? configured?.standby else {
            throw APIError(
                .badRequest, "say which host is to be its standby: --standby HOST, or “standby” in the configuration")
        }
        let level = request.level ?? configured?.level ?? configuration.defaults.level
        guard level.holdsOutput || arbiter != nil else {
            throw APIError(
                .refused,
                "level “\(level.rawValue)” needs an arbiter, which confirms that the output of \(request.vm) may leave: see"
                    + " docs/ARBITERS.md, or protect it at level “system”")
        }
        var options = PrimaryOptions(vm: request.vm, qmpPath: qmp, standby: standby)
        options.level = level
        let epoch =
            request.epochMilliseconds ?? configured?.epochMilliseconds ?? configuration.defaults.epochMilliseconds
        options.tuning = EpochTuning(
            epochMilliseconds: epoch, goal: request.goal ?? configured?.goal, pauseBudget: request.pauseBudget,
            linkCapMegabits: request.linkCap(
                unlessSaid: configured?.linkCapMegabits ?? configuration.defaults.linkCapMegabits))
        options.reserve = configured?.standbys.filter { $0 != standby } ?? []
        options.replaceAfterSeconds = configuration.replaceAfter(of: request.vm)
        options.planted = planted
        options.createsImages = request.createImage ?? false
        options.overridesRegister = request.claim ?? false
        return options
    }

    /// `request` is what the operator asked for, where it was asked.
    func begin(
        _ asked: PrimaryOptions, origin: PrimaryOrigin, request: ProtectRequest? = nil
    ) throws(APIError) -> VMStatus {
        let vm = asked.vm
        let peer = asked.standby
        guard hosts[peer] != nil else { throw hosts.unknown(peer) }
        let session = try primary(complete(asked, origin), origin)
        var record = VMRecord(
            name: vm, part: .primary(session), role: .primary, peer: peer, level: asked.level,
            term: session.status.term, tuning: asked.tuning,
            metrics: roster.metrics(of: vm, peer: peer), qmp: asked.qmpPath, pid: nil,
            state: ProtectionState(session.status.phase))
        record.request = request
        if case .tookOver = origin { record.coldBoot = roster[vm]?.coldBoot }
        try roster.takeUp(record)
        if origin.isNamed {
            chronicle.note(vm, .request, "protection of \(vm) was asked for, with \(peer) as standby")
        }
        if case .wanted = origin {
            reporter.tell(vm, .request, "\(vm) is to be protected, with \(peer) as standby: it begins")
        }
        do throws(SystemError) {
            try session.start()
        } catch {
            roster.remove(vm)
            throw APIError(.failed, "the session of \(vm) cannot be started: \(error)")
        }
        return record.status()
    }

    private func primary(_ options: PrimaryOptions, _ origin: PrimaryOrigin) throws(APIError) -> PrimaryShell {
        do throws(SystemError) {
            return try PrimaryShell(
                options: options, origin: origin, custody: custody(of: options.vm), software: Hosts.software,
                guests: guests, bases: bases, starter: restarts.starter(of: options.vm), log: chronicle.log,
                connect: { [weak self] (node, handler) throws(SessionError) in
                    guard let self else { throw SessionError(.system, "the agent ends") }
                    return try hosts.connect(to: node, handler)
                },
                reasonsOfStandby: { [weak self] in self?.reasons(options, $0) ?? [] },
                report: { [weak self, reporter] report in
                    reporter.primary(options, reported: report)
                    if case .restarted(let started, let register) = report { self?.goOn(options, started, register) }
                    if case .event(.handedOver, _) = report {
                        onDecisionQueue { [weak self] in self?.restarts.giveAway(options.vm) }
                    }
                })
        } catch {
            throw APIError(.failed, "the session of \(options.vm) cannot be made: \(error)")
        }
    }

    /// What the configuration alone says.
    private func complete(_ asked: PrimaryOptions, _ origin: PrimaryOrigin) -> PrimaryOptions {
        var options = asked
        options.silenceMilliseconds = configuration.detection.silenceMilliseconds
        options.silenceFloorMilliseconds = configuration.detection.silenceFloorMilliseconds
        options.heartbeatMilliseconds = configuration.detection.heartbeatMilliseconds
        options.secondPaths.merge(hosts.secondPaths) { $1 }
        options.idleEpochMilliseconds = configuration.defaults.idleEpochMilliseconds
        options.checkpointsOnOutput = configuration.defaults.checkpointsOnOutput
        options.pauseBudget = configuration.defaults.pauseBudget
        options.isRealTime = configuration.defaults.isRealTime
        options.sleep = processorSleep
        options.referenceMebibytes = configuration.defaults.referenceMebibytes
        options.diskFaults = configuration.defaults.diskFaults
        options.diskTimeoutMilliseconds = configuration.defaults.diskTimeoutMilliseconds
        options.degrade = configuration.degrade(of: asked.vm)
        switch origin {
        case .named, .wanted: break
        case .found, .tookOver: options.degradedFrom = store[asked.vm].degradedFrom
        }
        options.diskRejoinSeconds = configuration.defaults.diskRejoinSeconds
        options.agentSilenceSeconds = configuration.agentSilence(of: asked.vm)
        return options
    }

    /// What stands in the way at the standby too, when the guest cannot be protected as it runs: told with this host's
    /// reasons. Nothing when it cannot be asked. Blocks.
    private func reasons(_ options: PrimaryOptions, _ guest: GuestDescription) -> [String] {
        let peer = options.standby
        let message = CheckMessage(
            vm: options.vm, guest: guest, createsImages: options.createsImages, level: options.level)
        let answer = blocking { [hosts] () async throws(Never) in await hosts.check(peer, message) }
        guard case .success(let checked) = answer else { return [] }
        return checked.problems.map { "at \(peer): \($0)" }
    }

    // MARK: - As standby

    /// Begins the standby's side of a session. `machine` is the one that accepted the offer; nil for a replica that an
    /// earlier run of the agent left, which has no `link`.
    func adopt(
        _ replica: Replica, _ machine: StandbyMachine?, link: Link?
    ) throws(SessionError) -> StandbyShell {
        let offer = replica.offer
        let peer = replica.peer
        let custody = custody(of: offer.vm)
        if let reason = custody.reasonToRefuse(offer.session.level) {
            replica.dismantle(keepingMemory: true)
            throw SessionError(.refused, reason)
        }
        let session: StandbyShell
        do throws(SystemError) {
            session = try StandbyShell(
                replica: replica, machine: machine, custody: custody, link: link,
                heartbeatMilliseconds: configuration.detection.heartbeatMilliseconds,
                diskTimeoutMilliseconds: configuration.defaults.diskTimeoutMilliseconds,
                secondPath: hosts[peer]?.secondPath, log: chronicle.log
            ) { [weak self, reporter] report in
                if case .becamePrimary(let register, let starts) = report {
                    if starts > 0 { self?.restarts.takeOver(offer.vm, after: starts) }
                    self?.goOn(offer, register)
                }
                reporter.standby(offer.vm, reported: report)
            }
        } catch {
            replica.dismantle(keepingMemory: true)
            throw SessionError(.system, "the session of \(offer.vm) cannot be made: \(error)")
        }
        roster.install(
            VMRecord(
                name: offer.vm, part: .standby(session), role: .standby, peer: peer, level: offer.session.level,
                term: offer.session.term, tuning: offer.tuning,
                metrics: roster.metrics(of: offer.vm, peer: peer), qmp: replica.qmpPath, pid: replica.qemuPID,
                state: .syncing))
        chronicle.note(
            offer.vm, .session, "this host became standby of \(offer.vm) for \(peer)", term: offer.session.term)
        return session
    }

    /// The guest was resumed here: this host is its primary now, and the old one may become its standby.
    private func goOn(_ offer: OfferMessage, _ register: Register) {
        // The guest goes on with this host's disks: whatever the former owner lacks is overwritten there.
        try? store.forgetOwners(of: offer.vm)
        roster.refresh(offer.vm)
        roster.giveWay(offer.vm)
        guard let record = roster[offer.vm], let qmp = record.qmp else { return roster.changes.publish() }
        var options = PrimaryOptions(vm: offer.vm, qmpPath: qmp, standby: offer.session.primary)
        options.level = register.level
        options.tuning = record.tuning
        options.identity = offer.identity
        options.reserve = whatIsLeft(of: offer)
        options.replaceAfterSeconds = offer.replaceAfterSeconds ?? configuration.replaceAfter(of: offer.vm)
        goOn(options, register)
    }

    /// The guest died here and was started here again.
    private func goOn(_ before: PrimaryOptions, _ started: StartedGuest, _ register: Register) {
        roster.refresh(before.vm)
        roster.giveWay(before.vm)
        var options = before
        options.qmpPath = started.monitorPath
        options.level = register.level
        options.standby = roster[before.vm]?.peer ?? before.standby
        options.tuning = roster[before.vm]?.tuning ?? before.tuning
        goOn(options, register)
    }

    private func goOn(_ options: PrimaryOptions, _ register: Register) {
        do throws(APIError) {
            _ = try begin(options, origin: .tookOver(register))
        } catch {
            chronicle.note(
                options.vm, .error, "\(options.vm) runs here, and its agent has no hold on it: \(error.message)")
            roster.changes.publish()
        }
    }

    /// Who may be the standby, after this host took the VM over, once the old primary was lost for long.
    private func whatIsLeft(of offer: OfferMessage) -> [NodeName] {
        let configured = configuration.vms[offer.vm]?.standbys ?? []
        return (offer.reserve ?? configured).filter {
            $0 != node && $0 != offer.session.primary && hosts[$0] != nil
        }
    }
}
