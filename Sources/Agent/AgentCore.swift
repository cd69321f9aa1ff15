import Fencing
import Foundation
import Hypervisor
import Journal
import LinuxSystem
import Logging
import Memory
import Messages
import Model
import NIOCore
import NIOPosix
import PKI
import Pair
import Protocol
import QEMU
import Registers
import RomulusAPI
import Standby
import Synchronization
import Telemetry
import Transport

/// The agent of one host: knows its VMs, makes their sessions, and answers what operators ask.
public final class AgentCore: Sendable {
    struct State {
        var vms: [VMName: VMRecord] = [:]
        /// VMs whose replica is being made.
        var preparing: Set<VMName> = []
        /// VMs that are watched for a forecast.
        var watched: Set<VMName> = []
        /// The newest link on which each VM was offered, in the order in which links were opened.
        private var newestOffer: [VMName: UInt64] = [:]

        mutating func isNewest(_ order: UInt64, of vm: VMName) -> Bool {
            guard order > newestOffer[vm] ?? 0 else { return false }
            newestOffer[vm] = order
            return true
        }
    }

    let configuration: Configuration
    let identity: TLSIdentity
    let group: MultiThreadedEventLoopGroup
    let registry = Registry()
    let journal: EventJournal
    let started = Date()
    let state = Mutex(State())
    let planted: PlantedFaults
    let log: Logger
    let store: VMStore
    let maintenance: Maintenance
    let reconciler = Reconciler()
    let node: NodeName
    /// Nil: the operator decides.
    let arbiter: WatchedArbiter?
    /// Nil: processors sleep as they like.
    let processorSleep: ProcessorSleep?
    /// What runs guests here, and what waits for those of other hosts.
    let guests: any GuestSource & GuestSurvey = QEMUGuests()
    let standbys: any StandbyGuestSource = QEMUStandbys()
    /// Memory of former replicas and guests.
    let bases: MemoryBases
    /// By the names of the peers.
    let secondPaths: [String: SecondPath]
    /// The peers' fence commands; they call back, so they are made last.
    let fences = Mutex<[NodeName: PeerFence]>([:])

    /// What encrypts, and so what the connections of a link are spread over. Idle ones cost nothing.
    private static let eventLoops = max(2, min(System.coreCount / 2, LinkDialer.connectionsMax))

    /// `planted` is for the tests' own build of the agent.
    public init(configuration: Configuration, planted: PlantedFaults = [], log: Logger) throws {
        self.configuration = configuration
        self.planted = planted
        self.log = log
        identity = try configuration.loadIdentity()
        group = MultiThreadedEventLoopGroup(numberOfThreads: Self.eventLoops)
        for (directory, mode) in [
            (configuration.stateDirectory, 0o750), (configuration.runtimeDirectory, 0o755),
            (configuration.memoryDirectory, 0o700),
        ] {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: mode])
        }
        bases = MemoryBases(
            in: configuration.memoryDirectory, minutes: configuration.defaults.keepMemoryMinutes, log: log)
        store = try VMStore("\(configuration.stateDirectory)/vms")
        maintenance = try Maintenance(stateDirectory: configuration.stateDirectory)
        node = identity.node
        arbiter = try configuration.makeArbiter(identity: identity, group: group).map { WatchedArbiter($0) }
        processorSleep = configuration.defaults.isAwake ? Self.makeProcessorSleep(log) : nil
        journal = EventJournal(path: "\(configuration.stateDirectory)/journal.sqlite", limits: configuration.journal) {
            log.error("\($0)")
        }
        _ = AgentMetrics(version: Romulus.version, keptMemory: { [bases] in bases.bytes }, registry: registry)
        secondPaths = Self.secondPaths(configuration, identity, group, journal, registry, log)
        let fences = makeFences()
        self.fences.withLock { $0 = fences }
        if let arbiter { arbiter.onChange { [weak self] in self?.arbiterChanged(arbiter.name, $0) } }
    }

    private static func makeProcessorSleep(_ log: Logger) -> ProcessorSleep? {
        do throws(SystemError) {
            return try ProcessorSleep()
        } catch {
            log.notice("processors may sleep during checkpoints, which take longer then: \(error)")
            return nil
        }
    }

    private func custody(of vm: VMName) -> Custody {
        Custody(
            node: node, rule: arbiter == nil ? .manual(configuration.defaults.standbyLost) : .arbiter, arbiter: arbiter,
            reprotection: configuration.reprotection(of: vm), fences: fences.withLock { $0 }, record: store[vm].local,
            identify: { [self] (found, isFresh) throws(SessionError) in try identify(vm, found, isFresh) },
            persist: { [store, node] record in
                try store.update(vm) { memory in
                    memory.local = record
                    // The operator's word may have begun another history of the same guest.
                    if let register = record.register, register.owner == node {
                        memory.guest?.lineage = register.lineage
                    }
                }
            })
    }

    /// Accepts links from the configured peers at `address` until the process ends.
    func listen(at address: HostPort) async throws(LinkError) -> LinkListener {
        let log = log
        return try await LinkListener.start(
            host: address.host, port: address.port, identity: identity,
            allowed: Set(configuration.peers.keys), group: group,
            refused: { log.warning("a connection was refused: \($0)") },
            makeHandler: { [self] link in
                hear(link.peerNode)
                return Reception(
                    node: configuration.node, secondPath: secondPaths[link.peerNode], log: log,
                    judge: { [self] in reasonNotToYield($0, to: $1) },
                    tell: { [self] in $0.compactMap { knowledge(of: $0) } },
                    check: { [self] in answer($0, from: $1) },
                    prepare: { [self] (offer, link, order) throws(SessionError) in
                        try accept(offer, from: link, order)
                    })
            })
    }

    // MARK: - As standby

    /// Makes the replica of a VM that a peer offers. Called on a thread that may block.
    private func accept(
        _ offer: OfferMessage, from link: Link, _ order: UInt64
    ) throws(SessionError) -> StandbyShell {
        guard !maintenance.isOn else {
            throw SessionError(.refused, "\(configuration.node) is in maintenance")
        }
        guard state.withLock({ $0.preparing.insert(offer.vm).inserted }) else {
            throw SessionError(.refused, "\(configuration.node) is already preparing a replica of \(offer.vm)")
        }
        defer { state.withLock { _ = $0.preparing.remove(offer.vm) } }
        // The order of links is the order of offers: what a slow thread still has of an older one is not taken up.
        guard state.withLock({ $0.isNewest(order, of: offer.vm) }) else {
            throw SessionError(.refused, "a newer offer of \(offer.vm) came already")
        }

        let custody = custody(of: offer.vm)
        try checkIdentity(of: offer)
        var machine = try machine(for: offer, custody)
        guard let identity = machine.image?.identity else {
            throw SessionError(.refused, "\(configuration.node) cannot be the standby of \(offer.vm)")
        }
        do {
            try custody.persist(machine.record)
        } catch {
            throw SessionError(.system, "\(configuration.node) cannot remember what it promises: \(error)")
        }
        _ = machine.handle(.persisted(machine.record.seen))
        takeBackWord(about: offer.vm)
        let places = places(of: offer.vm, offer.guest)
        let replica = try Replica(offer: offer, identity: identity, peer: link.peerNode, places: places, log: log)
        _ = machine.handle(.prepared(offer.session.session))
        return try adopt(replica, machine, link: link, peer: link.peerNode)
    }

    /// The machine that takes the offer, or why it is not taken. An older replica of the VM that must give way is gone
    /// afterwards.
    private func machine(for offer: OfferMessage, _ custody: Custody) throws(SessionError) -> StandbyMachine {
        switch state.withLock({ $0.vms[offer.vm]?.part }) {
        case .standby(let session):
            let machine = try session.consider(offer.session).get()
            for _ in 0..<200 where state.withLock({ $0.vms[offer.vm] != nil }) { usleep(50_000) }
            guard state.withLock({ $0.vms[offer.vm] == nil }) else {
                throw SessionError(
                    .refused, "\(configuration.node) still has to give up an older replica of \(offer.vm)")
            }
            return machine
        case .primary(let session):
            session.hear(of: offer.session)
            throw SessionError(
                .refused, "\(offer.vm) is already primary at \(configuration.node)", knows: session.register)
        case .some(.none), nil:
            var machine = StandbyMachine(
                node: custody.node, rule: custody.rule, record: custody.record,
                fences: Set(custody.fences.keys), seed: .random(in: 1 ... .max))
            for case .refuse(_, let reason, let known) in machine.handle(.offered(offer.session)) {
                throw SessionError(.refused, reason, knows: known)
            }
            return machine
        }
    }

    /// Takes up what an earlier run of this agent had in hand: guests first, then replicas.
    func recover() {
        for vm in store.torn {
            note(
                vm, .error,
                "the last write of what this agent remembers of \(vm) was cut short: the one before counts")
        }
        for vm in store.vms {
            guard let guest = store[vm].guest else { continue }
            guard guest.isAlive else {
                forgetGuest(of: vm)
                note(vm, .error, "the QEMU of \(vm) (pid \(guest.pid)) ended while this agent was away")
                continue
            }
            note(vm, .session, "the guest of \(vm) (pid \(guest.pid)) was found after a restart of this agent")
            take(vm, guest)
        }
        recoverReplicas()
        for vm in bases.lent where store[vm].guest == nil { bases.forgetGuest(vm) }
    }

    private func take(_ vm: VMName, _ guest: VMStore.Guest) {
        var options = PrimaryOptions(vm: vm, qmpPath: guest.qmp, standby: guest.standby)
        options.level = guest.level
        options.tuning = guest.tuning
        options.reserve = guest.reserve ?? []
        options.replaceAfterSeconds = guest.replaceAfterSeconds ?? configuration.replaceAfter(of: vm)
        do throws(APIError) {
            _ = try startPrimary(options, origin: .found(guest.lineage))
        } catch {
            note(vm, .error, "the guest of \(vm) cannot be taken in hand: \(error.message)")
        }
    }

    /// Takes up replicas that an earlier run of this agent left behind, and removes those that are of no use.
    private func recoverReplicas() {
        for vm in Replica.leftBehind(in: configuration.memoryDirectory) {
            let directory = "\(configuration.memoryDirectory)/\(vm)"
            if let resumed = Replica.resumed(in: directory) {
                takeResumed(vm, resumed)
                try? FileManager.default.removeItem(atPath: directory)
                continue
            }
            do throws(SessionError) {
                let replica = try Replica(
                    recovering: directory, runtimeDirectory: "\(configuration.runtimeDirectory)/\(vm)",
                    node: configuration.node, bases: bases, guests: standbys,
                    isRealTime: configuration.defaults.isRealTime,
                    standby: { [configuration] in configuration.standbyOptions(for: vm, guest: $0.guest) }, log: log)
                _ = try adopt(replica, nil, link: nil, peer: replica.peer)
                note(
                    vm, .session,
                    "a whole replica of \(vm) was found after a restart of this agent: its session is over"
                        + (arbiter == nil ? ", it can be taken over or given up" : ", the arbiter decides"))
            } catch {
                note(vm, .error, "\(error); it was removed")
                Replica.keepLeftover(vm, directory, guests: standbys, bases)
            }
        }
    }

    /// A guest that was resumed here just before an earlier run of this agent ended.
    private func takeResumed(
        _ vm: VMName, _ resumed: (pid: Int32, monitorPath: String, image: StandbyMachine.Image)
    ) {
        guard state.withLock({ $0.vms[vm] == nil }), processRuns(resumed.pid),
            let startTime = VMStore.startTime(of: resumed.pid)
        else { return }
        take(
            vm,
            VMStore.Guest(
                pid: resumed.pid, startTime: startTime, lineage: resumed.image.lineage, qmp: resumed.monitorPath,
                standby: resumed.image.primary, level: configuration.vms[vm]?.level ?? configuration.defaults.level,
                epochMilliseconds: configuration.vms[vm]?.epochMilliseconds ?? configuration.defaults.epochMilliseconds)
        )
    }

    private func adopt(
        _ replica: Replica, _ machine: StandbyMachine?, link: Link?, peer: String
    ) throws(SessionError) -> StandbyShell {
        let offer = replica.offer
        let session: StandbyShell
        do throws(SystemError) {
            session = try StandbyShell(
                replica: replica, machine: machine, custody: custody(of: offer.vm), link: link,
                heartbeatMilliseconds: configuration.detection.heartbeatMilliseconds, secondPath: secondPaths[peer],
                log: log
            ) { [weak self] in
                self?.standby(offer, reported: $0)
            }
        } catch {
            replica.dismantle(keepingMemory: true)
            throw SessionError(.system, "the session of \(offer.vm) cannot be made: \(error)")
        }
        let record = VMRecord(
            name: offer.vm, part: .standby(session), role: .standby, peer: peer, level: offer.session.level,
            term: offer.session.term, tuning: offer.tuning,
            metrics: metrics(of: offer.vm, peer: peer), qmp: replica.qmpPath, pid: replica.qemuPID, state: .syncing)
        install(record)
        note(
            offer.vm, .session, "this host became standby of \(offer.vm) for \(peer)", term: offer.session.term)
        return session
    }

    /// Notes what happens now in the log and in the journal, where it follows from the VM's last decision. What is not
    /// given of term and epoch is what the VM's record has.
    func note(
        _ vm: VMName?, _ kind: EventKind, _ message: String, epoch: Epoch? = nil, term: Term? = nil
    ) {
        log.info("\(message)", metadata: ["vm": "\(vm?.description ?? "-")", "kind": "\(kind.rawValue)"])
        let record = vm.flatMap { vm in state.withLock { $0.vms[vm] } }
        journal.append(
            kind, vm: vm, term: term ?? record?.term, epoch: epoch ?? record?.acknowledged, message)
    }

    private func standby(_ offer: OfferMessage, reported report: SessionReport) {
        let vm = offer.vm
        let metrics = state.withLock { $0.vms[vm]?.metrics }
        switch report {
        case .event(let kind, let message): note(vm, kind, message)
        case .failure(let error):
            metrics?.recordError(.apply)
            note(vm, .error, error.message)
        case .tookOver(let result, let cause, let reason):
            metrics?.recordFailover(VMMetrics.FailoverReason(cause), nanoseconds: result.decisionToRunning)
            // The takeover is of a term of its own.
            refresh(vm)
            note(
                vm, .promoted,
                "\(vm) runs here from checkpoint \(result.epoch), \(milliseconds(result.decisionToRunning)) ms after the"
                    + " decision (\(reason)); its state was loaded after \(milliseconds(result.decisionToLoaded)) ms, and"
                    + " who may run it was durable after \(milliseconds(result.decisionToRecorded)) ms",
                epoch: result.epoch)
            if result.framesReleased > 0 {
                note(
                    vm, .firstOutput,
                    "\(result.framesReleased) frames of committed epochs, which the primary had not let out, left here",
                    epoch: result.epoch)
            }
        case .becamePrimary(let register): goOn(offer, register)
        case .ended(let reason):
            note(vm, .ended, "the replica of \(vm) was given up: \(reason)")
            state.withLock { state in
                state.vms[vm]?.part = .none
                state.vms[vm]?.metrics.remove()
                state.vms[vm] = nil
            }
        case .acknowledged, .epoch, .released, .dropped, .found, .gaveWay, .memoryCopied, .stoodStill: break
        }
    }

    /// The guest was resumed here: this host is its primary now, and the old one may become its standby.
    private func goOn(_ offer: OfferMessage, _ register: Register) {
        refresh(offer.vm)
        let record = state.withLock { state in
            state.vms[offer.vm]?.part = .none
            return state.vms[offer.vm]
        }
        guard let record, let qmp = record.qmp else { return }
        var options = PrimaryOptions(vm: offer.vm, qmpPath: qmp, standby: offer.session.primary)
        options.level = register.level
        options.tuning = record.tuning
        options.identity = offer.identity
        options.reserve = whatIsLeft(of: offer)
        options.replaceAfterSeconds = offer.replaceAfterSeconds ?? configuration.replaceAfter(of: offer.vm)
        do throws(APIError) {
            _ = try startPrimary(options, origin: .tookOver(register))
        } catch {
            note(offer.vm, .error, "\(offer.vm) runs here, and its agent has no hold on it: \(error.message)")
        }
    }

    private func forgetGuest(of vm: VMName) {
        bases.forgetGuest(vm)
        do throws(SystemError) {
            try store.update(vm) { memory in
                memory.left = memory.guest.flatMap { $0.isAlive ? $0 : nil } ?? memory.left
                memory.guest = nil
            }
        } catch {
            note(vm, .error, "that the guest of \(vm) is gone cannot be remembered: \(error)")
        }
    }

    // MARK: - As primary

    /// `request` is what the operator asked for, where it was asked.
    func startPrimary(
        _ options: PrimaryOptions, origin: PrimaryOrigin, request: ProtectRequest? = nil
    ) throws(APIError) -> VMStatus {
        let peer = options.standby.description
        guard configuration.peers[peer] != nil else {
            throw APIError(
                .noSuchPeer,
                "there is no peer “\(peer)” in the configuration (known: \(configuration.peers.keys.sorted().joined(separator: ", ")))"
            )
        }
        let vm = options.vm
        var options = options
        options.silenceMilliseconds = configuration.detection.silenceMilliseconds
        options.silenceFloorMilliseconds = configuration.detection.silenceFloorMilliseconds
        options.heartbeatMilliseconds = configuration.detection.heartbeatMilliseconds
        for (name, path) in secondPaths { if let node = NodeName(name) { options.secondPaths[node] = path } }
        options.idleEpochMilliseconds = configuration.defaults.idleEpochMilliseconds
        options.checkpointsOnOutput = configuration.defaults.checkpointsOnOutput
        options.pauseBudget = configuration.defaults.pauseBudget
        options.isRealTime = configuration.defaults.isRealTime
        options.sleep = processorSleep
        options.referenceMebibytes = configuration.defaults.referenceMebibytes
        let session: PrimaryShell
        do throws(SystemError) {
            session = try PrimaryShell(
                options: options, origin: origin, custody: custody(of: vm), software: "romulus \(Romulus.version)",
                guests: guests, bases: bases, log: log,
                connect: { [weak self] (node, handler) throws(SessionError) in
                    guard let self else { throw SessionError(.system, "the agent ends") }
                    return try connect(to: node, handler)
                },
                reasonsOfStandby: { [weak self, options] in self?.reasons(of: peer, options, $0) ?? [] },
                report: { [weak self, options] in self?.primary(options, reported: $0) })
        } catch {
            throw APIError(.failed, "the session of \(vm) cannot be made: \(error)")
        }
        var record = VMRecord(
            name: vm, part: .primary(session), role: .primary, peer: peer, level: options.level,
            term: session.status.term, tuning: options.tuning,
            metrics: metrics(of: vm, peer: peer), qmp: options.qmpPath, pid: nil,
            state: ProtectionState(session.status.phase))
        record.request = request
        try take(up: record)
        show(record)
        if origin.isNamed { note(vm, .request, "protection of \(vm) was asked for, with \(peer) as standby") }
        if case .wanted = origin { tell(vm, .request, "\(vm) is to be protected, with \(peer) as standby: it begins") }
        do throws(SystemError) {
            try session.start()
        } catch {
            state.withLock { $0.vms[vm] = nil }
            throw APIError(.failed, "the session of \(vm) cannot be started: \(error)")
        }
        return record.status()
    }

    /// Opens the link to a node that is to be a standby; blocks.
    private func connect(to node: NodeName, _ handler: any LinkHandler) throws(SessionError) -> Link {
        let peer = node.description
        guard let settings = configuration.peers[peer] else {
            throw SessionError(.peerLost, "there is no peer “\(peer)” in the configuration")
        }
        let (identity, group) = (identity, group)
        let link = try blocking { () async throws(SessionError) in
            do throws(LinkError) {
                return try await LinkDialer.connect(
                    host: settings.address.host, port: settings.address.port, identity: identity,
                    expectedPeer: peer, timeout: .seconds(10), group: group, connections: settings.connections,
                    handler: handler)
            } catch {
                throw SessionError(.peerLost, "\(error)")
            }
        }
        hear(peer)
        return link
    }

    /// Of one VM there is one session at a time.
    private func take(up record: VMRecord) throws(APIError) {
        let vm = record.name
        let refusal = state.withLock { state -> String? in
            if let known = state.vms[vm], known.isActive {
                return "\(vm) is already \(known.role.rawValue) here (\(known.state.rawValue))"
            }
            guard !state.preparing.contains(vm) else { return "a replica of \(vm) is being made here" }
            state.vms[vm] = record
            return nil
        }
        if let refusal { throw APIError(.refused, refusal) }
    }

    /// As `note`, where each try of the reconciler may say the same.
    private func tell(_ vm: VMName, _ kind: EventKind, _ message: String) {
        if reconciler.isNews(vm, message) { note(vm, kind, message) }
    }

    private func primary(_ options: PrimaryOptions, reported report: SessionReport) {
        let vm = options.vm
        let metrics = state.withLock { $0.vms[vm]?.metrics }
        switch report {
        case .event(let kind, let message):
            tell(vm, kind, message)
            if kind == .protected {
                reconciler.noteProtected(vm)
                keepStandby(of: vm)
            }
        case .failure(let error):
            metrics?.recordError(VMMetrics.Component(error.code))
            tell(vm, [.refused, .standbyRefused].contains(error.code) ? .refused : .error, error.message)
            if let register = error.knows { reconciler.noteContested(vm, register) }
        case .acknowledged(let epoch): state.withLock { $0.vms[vm]?.acknowledged = epoch }
        case .epoch(let timings):
            metrics?.record(timings)
            state.withLock { $0.vms[vm]?.recent.add(timings) }
            log.debug("\(StatusText.epoch(EpochReport(timings)))", metadata: ["vm": "\(vm)"])
        case .released(let outputs):
            for output in outputs where output.frames > 0 {
                metrics?.recordHold(nanoseconds: output.held)
                metrics?.releasedFrames.add(UInt64(output.frames))
            }
        case .dropped(let frames): metrics?.droppedOutputFrames.add(UInt64(frames))
        case .found(let pid, let lineage): remember(options, pid, lineage)
        case .memoryCopied(let sent, let present): metrics?.recordFirstCopy(sentPages: sent, presentPages: present)
        case .stoodStill(let standstill):
            metrics?.recordStandstill(standstill.cause.rawValue, nanoseconds: standstill.nanoseconds)
            let text =
                "\(vm) stood still for \(milliseconds(standstill.nanoseconds)) ms (\(standstill.cause.rawValue)),"
                + " \(milliseconds(standstill.waited)) ms of them waiting for \(standstill.longest)"
            if standstill.isToBeTold { note(vm, .session, text) } else { log.debug("\(text)") }
        case .gaveWay(let record):
            bases.keepGuest(vm)
            note(vm, .fenced, "another host goes on with \(vm): its guest here is gone", term: record.seen)
            do throws(SystemError) {
                try store.update(vm) { memory in
                    memory.local = record
                    memory.guest = nil
                    memory.identity = nil
                }
            } catch {
                note(vm, .error, "that \(vm) was given away cannot be remembered: \(error)")
            }
        case .tookOver, .becamePrimary: break
        case .ended(let reason):
            forgetGuest(of: vm)
            refresh(vm)
            let hasFailed = state.withLock { state in
                state.vms[vm]?.part = .none
                return state.vms[vm]?.state == .failed
            }
            tell(vm, .ended, "the session of \(vm) ended: \(reason)")
            reconciler.noteEnded(vm, hasFailed ? reason : nil, qmp: options.qmpPath)
        }
    }

    /// Before anything is claimed: a restarted agent must know which process it had in hand.
    private func remember(_ options: PrimaryOptions, _ pid: Int32, _ lineage: Lineage) {
        var guest = VMStore.Guest(
            pid: pid, startTime: VMStore.startTime(of: pid) ?? 0, lineage: lineage, qmp: options.qmpPath,
            standby: options.standby, level: options.level, epochMilliseconds: options.tuning.epochMilliseconds)
        guest.reserve = options.reserve.isEmpty ? nil : options.reserve
        guest.replaceAfterSeconds = options.replaceAfterSeconds
        guest.tuning = state.withLock { $0.vms[options.vm]?.tuning } ?? options.tuning
        do throws(SystemError) {
            try store.update(options.vm) { $0.guest = guest }
        } catch {
            note(options.vm, .error, "the guest of \(options.vm) cannot be remembered: \(error)")
        }
    }

    // MARK: - Records

    /// Those of a VM that is known already go on: a counter must not begin anew while its VM stays here.
    func metrics(of vm: VMName, peer: String) -> VMMetrics {
        VMMetrics(vm: vm, peer: peer, states: ProtectionState.allCases.map(\.rawValue), registry: registry)
    }

    private func install(_ record: VMRecord) {
        state.withLock { $0.vms[record.name] = record }
        show(record)
    }

    private func show(_ record: VMRecord) {
        record.metrics.role.set(record.role.rawValue)
        record.metrics.state.set(record.state.rawValue)
        record.metrics.level.set(record.level.rawValue)
        record.metrics.term.set(Double(record.term.number))
    }

    func refreshed() -> [VMRecord] {
        for vm in state.withLock({ Array($0.vms.keys) }) { refresh(vm) }
        return state.withLock { $0.vms.values.sorted { $0.name < $1.name } }
    }

    /// Takes over what the session of a VM says of itself now. A session reports with its own lock held and is then
    /// answered under this one's: it must never be asked under it.
    private func refresh(_ vm: VMName) {
        guard let part = state.withLock({ $0.vms[vm]?.part }) else { return }
        let view = part.view()
        let desired = desired(vm)
        state.withLock { state in
            if state.vms[vm]?.part.session === part.session { state.vms[vm]?.refresh(view) }
            state.vms[vm]?.show(desired)
        }
    }

    func record(of vm: VMName) throws(APIError) -> VMRecord {
        refresh(vm)
        guard let record = state.withLock({ $0.vms[vm] }) else {
            throw APIError(.noSuchVM, "\(configuration.node) knows no VM “\(vm)”: “romulus list” shows those it knows")
        }
        return record
    }
}

func milliseconds(_ nanoseconds: UInt64) -> String {
    let tenths = nanoseconds / 100_000
    return "\(tenths / 10).\(tenths % 10)"
}

/// Runs `body` to its end from a thread that may block; never from one of the cooperative pool's.
func blocking<Value: Sendable, Failure: Error>(
    _ body: @escaping @Sendable () async throws(Failure) -> Value
) throws(Failure) -> Value {
    let outcome = Mutex<Result<Value, Failure>?>(nil)
    let box = OutcomeBox(outcome: outcome)
    let done = DispatchSemaphore(value: 0)
    Task.detached {
        do throws(Failure) {
            let value = try await body()
            box.outcome.withLock { $0 = .success(value) }
        } catch {
            box.outcome.withLock { $0 = .failure(error) }
        }
        done.signal()
    }
    done.wait()
    guard let result = box.outcome.withLock({ $0 }) else { preconditionFailure("the task ended without an outcome") }
    return try result.get()
}

private final class OutcomeBox<Value: Sendable, Failure: Error>: Sendable {
    let outcome: Mutex<Result<Value, Failure>?>
    init(outcome: consuming Mutex<Result<Value, Failure>?>) { self.outcome = outcome }
}

/// True while the process runs; one that ended and was not reaped yet does not.
func processRuns(_ pid: Int32) -> Bool {
    guard let fields = ProcessFiles.statistics(of: pid) else { return false }
    return fields.first != "Z"
}

extension VMMetrics.FailoverReason {
    init(_ cause: TakeOverCause) {
        self =
            switch cause {
            case .guestDied: .qemuDied
            case .primaryLost: .primaryLost
            case .switchover: .switchover
            case .operator: .operator
            }
    }
}

extension VMMetrics.Component {
    init(_ code: SessionError.Code) {
        self =
            switch code {
            case .refused, .standbyRefused: .agent
            case .peerLost, .protocolBroken: .link
            case .qemu, .guestLost: .qemu
            case .system: .capture
            case .storage: .disk
            }
    }
}
