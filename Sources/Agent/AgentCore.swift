import Foundation
import LinuxSystem
import Logging
import Model
import NIOPosix
import PKI
import Pipeline
import QEMU
import RomulusAPI
import Synchronization
import Telemetry
import Transport

/// The agent of one host: knows its VMs, makes their sessions, and answers what operators ask.
public final class AgentCore: Sendable {
    struct State {
        var vms: [VMName: VMRecord] = [:]
        /// VMs whose replica is being made.
        var preparing: Set<VMName> = []
    }

    let configuration: Configuration
    let identity: TLSIdentity
    let group: MultiThreadedEventLoopGroup
    let registry = Registry()
    let events = EventLog()
    let started = Date()
    let state = Mutex(State())
    let planted: PlantedFaults
    let log: Logger

    /// `planted` is for the tests' own build of the agent.
    public init(configuration: Configuration, planted: PlantedFaults = [], log: Logger) throws {
        self.configuration = configuration
        self.planted = planted
        self.log = log
        identity = try configuration.loadIdentity()
        group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
        for (directory, mode) in [
            (configuration.stateDirectory, 0o750), (configuration.runtimeDirectory, 0o755),
            (configuration.memoryDirectory, 0o700),
        ] {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: mode])
        }
        _ = AgentMetrics(version: Romulus.version, registry: registry)
    }

    /// Accepts links from the configured peers until the process ends.
    func listen() async throws(LinkError) -> LinkListener {
        let log = log
        return try await LinkListener.start(
            host: configuration.listen.host, port: configuration.listen.port, identity: identity,
            allowed: Set(configuration.peers.keys), group: group,
            refused: { log.warning("a connection was refused: \($0)") },
            makeHandler: { [self] link in
                Reception(node: configuration.node, log: log) { (offer, link) throws(SessionError) in
                    try self.accept(offer, from: link)
                }
            })
    }

    // MARK: - As standby

    /// Makes the replica of a VM that a peer offers. Called on a thread that may block.
    private func accept(_ offer: OfferMessage, from link: Link) throws(SessionError) -> StandbySession {
        let claimed = state.withLock { state -> String? in
            if state.preparing.contains(offer.vm) {
                return "\(configuration.node) is already preparing a replica of it"
            }
            if let known = state.vms[offer.vm], known.isActive {
                switch (known.part, known.state) {
                case (.standby, .peerLost):
                    return
                        "\(configuration.node) still keeps a replica of \(offer.vm) whose primary was lost: take it over or"
                        + " give it up there with “romulus unprotect \(offer.vm)”"
                default:
                    return
                        "\(offer.vm) is already \(known.role.rawValue) at \(configuration.node) (\(known.state.rawValue))"
                }
            }
            if let known = state.vms[offer.vm], known.state == .running, known.pid.map(processRuns) ?? false {
                return
                    "\(offer.vm) runs at \(configuration.node) itself since its failover (pid \(known.pid ?? 0)); protect it"
                    + " from there"
            }
            state.preparing.insert(offer.vm)
            return nil
        }
        if let claimed { throw SessionError(.refused, claimed) }
        defer { state.withLock { _ = $0.preparing.remove(offer.vm) } }

        let places = ReplicaPlaces(
            node: configuration.node, memoryDirectory: "\(configuration.memoryDirectory)/\(offer.vm)",
            runtimeDirectory: "\(configuration.runtimeDirectory)/\(offer.vm)",
            standby: configuration.standbyOptions(for: offer.vm, guest: offer.guest))
        let replica = try Replica(offer: offer, peer: link.peerNode, places: places, log: log)
        return try adopt(replica, link: link, peer: link.peerNode)
    }

    /// Takes up replicas that an earlier run of this agent left behind, and removes those that are of no use.
    func recoverReplicas() {
        for vm in Replica.leftBehind(in: configuration.memoryDirectory) {
            let directory = "\(configuration.memoryDirectory)/\(vm)"
            do throws(SessionError) {
                let replica = try Replica(
                    recovering: directory, runtimeDirectory: "\(configuration.runtimeDirectory)/\(vm)",
                    node: configuration.node,
                    standby: { [configuration] in configuration.standbyOptions(for: vm, guest: $0.guest) }, log: log)
                _ = try adopt(replica, link: nil, peer: replica.peer)
                note(
                    vm, .session,
                    "a whole replica of \(vm) was found after a restart of this agent: its session is over, it can be taken"
                        + " over or given up")
            } catch {
                note(vm, .error, "\(error); it was removed")
                Replica.removeLeftover(directory)
            }
        }
    }

    private func adopt(_ replica: Replica, link: Link?, peer: String) throws(SessionError) -> StandbySession {
        let offer = replica.offer
        let session: StandbySession
        do throws(SystemError) {
            session = try StandbySession(replica: replica, link: link, log: log) { [weak self] in
                self?.standby(offer.vm, reported: $0)
            }
        } catch {
            replica.dismantle()
            throw SessionError(.system, "the session of \(offer.vm) cannot be made: \(error)")
        }
        let record = VMRecord(
            name: offer.vm, part: .standby(session), role: .standby, peer: peer, level: offer.level, term: offer.term,
            epochMilliseconds: offer.epochMilliseconds, metrics: metrics(of: offer.vm, peer: peer),
            qmp: replica.qmpPath, pid: replica.qemuPID, state: .syncing)
        install(record)
        note(offer.vm, .session, "this host became standby of \(offer.vm) for \(peer)", term: offer.term)
        return session
    }

    func note(
        _ vm: VMName?, _ kind: Event.Kind, _ message: String, epoch: Epoch? = nil, term: Term? = nil
    ) {
        log.info("\(message)", metadata: ["vm": "\(vm?.description ?? "-")", "kind": "\(kind.rawValue)"])
        events.append(kind, vm: vm, epoch: epoch?.number, term: term?.number, message)
    }

    private func standby(_ vm: VMName, reported report: SessionReport) {
        let metrics = state.withLock { $0.vms[vm]?.metrics }
        switch report {
        case .event(let kind, let message): note(vm, Event.Kind(sessionEvent: kind), message)
        case .failure(let error):
            metrics?.recordError(.apply)
            note(vm, .error, error.message)
        case .tookOver(let result, let reason):
            metrics?.recordFailover(
                reason.contains("QEMU") ? .qemuDied : .operator, nanoseconds: result.decisionToRunning)
            note(
                vm, .failover,
                "\(vm) runs here from checkpoint \(result.epoch), \(milliseconds(result.decisionToRunning)) ms after the"
                    + " decision (\(reason)); \(result.framesReleased) held frames were let out",
                epoch: result.epoch)
            state.withLock { state in
                state.vms[vm]?.refresh()
                state.vms[vm]?.part = .none
                state.vms[vm]?.enter(.running)
            }
        case .ended(let reason):
            note(vm, .session, "the replica of \(vm) was given up: \(reason)")
            state.withLock { state in
                state.vms[vm]?.part = .none
                state.vms[vm]?.metrics.remove()
                state.vms[vm] = nil
            }
        case .epoch, .released, .dropped: break
        }
    }

    // MARK: - As primary

    func startPrimary(_ options: PrimaryOptions, peer: String) throws(APIError) -> VMStatus {
        guard let address = configuration.peers[peer]?.address else {
            throw APIError(
                .noSuchPeer,
                "there is no peer “\(peer)” in the configuration (known: \(configuration.peers.keys.sorted().joined(separator: ", ")))"
            )
        }
        let (identity, group, vm) = (identity, group, options.vm)
        let session: PrimarySession
        do throws(SystemError) {
            session = try PrimarySession(
                options: options, node: configuration.node, software: "romulus \(Romulus.version)", log: log,
                connect: { (handler) throws(SessionError) in
                    try blocking { () async throws(SessionError) in
                        do throws(LinkError) {
                            return try await LinkDialer.connect(
                                host: address.host, port: address.port, identity: identity, expectedPeer: peer,
                                timeout: .seconds(10), group: group, handler: handler)
                        } catch {
                            throw SessionError(.peerLost, "\(error)")
                        }
                    }
                },
                report: { [weak self] in self?.primary(vm, reported: $0) })
        } catch {
            throw APIError(.failed, "the session of \(vm) cannot be made: \(error)")
        }
        let record = VMRecord(
            name: vm, part: .primary(session), role: .primary, peer: peer, level: options.level, term: options.term,
            epochMilliseconds: options.epochMilliseconds, metrics: metrics(of: vm, peer: peer), qmp: options.qmpPath,
            pid: nil, state: .connecting)
        let taken = state.withLock { state -> VMRecord? in
            if let known = state.vms[vm], known.isActive { return known }
            state.vms[vm]?.metrics.remove()
            state.vms[vm] = record
            return nil
        }
        if let taken {
            throw APIError(.refused, "\(vm) is already \(taken.role.rawValue) here (\(taken.state.rawValue))")
        }
        show(record)
        note(vm, .request, "protection of \(vm) was asked for, with \(peer) as standby", term: options.term)
        do throws(SystemError) {
            try session.start()
        } catch {
            state.withLock { $0.vms[vm] = nil }
            throw APIError(.failed, "the session of \(vm) cannot be started: \(error)")
        }
        return record.status()
    }

    private func primary(_ vm: VMName, reported report: SessionReport) {
        let metrics = state.withLock { $0.vms[vm]?.metrics }
        switch report {
        case .event(let kind, let message): note(vm, Event.Kind(sessionEvent: kind), message)
        case .failure(let error):
            metrics?.recordError(VMMetrics.Component(error.code))
            note(vm, .error, error.message)
        case .epoch(let timings): metrics?.record(timings)
        case .released(let outputs):
            for output in outputs where output.frames > 0 {
                metrics?.recordHold(nanoseconds: output.held)
                metrics?.releasedFrames.add(UInt64(output.frames))
            }
        case .dropped(let frames): metrics?.droppedOutputFrames.add(UInt64(frames))
        case .tookOver: break
        case .ended(let reason):
            state.withLock { state in
                state.vms[vm]?.refresh()
                state.vms[vm]?.part = .none
            }
            note(vm, .session, "the session of \(vm) ended: \(reason)")
        }
    }

    // MARK: - Records

    private func metrics(of vm: VMName, peer: String) -> VMMetrics {
        VMMetrics(vm: vm, peer: peer, states: ProtectionState.allCases.map(\.rawValue), registry: registry)
    }

    private func install(_ record: VMRecord) {
        state.withLock { state in
            state.vms[record.name]?.metrics.remove()
            state.vms[record.name] = record
        }
        show(record)
    }

    private func show(_ record: VMRecord) {
        record.metrics.role.set(record.role.rawValue)
        record.metrics.state.set(record.state.rawValue)
        record.metrics.level.set(record.level.rawValue)
        record.metrics.term.set(Double(record.term.number))
    }

    func refreshed() -> [VMRecord] {
        state.withLock { state in
            for name in state.vms.keys { state.vms[name]?.refresh() }
            return state.vms.values.sorted { $0.name < $1.name }
        }
    }

    func record(of vm: VMName) throws(APIError) -> VMRecord {
        let record = state.withLock { state in
            state.vms[vm]?.refresh()
            return state.vms[vm]
        }
        guard let record else {
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
    guard let text = try? Files.text(of: "/proc/\(pid)/stat"), let name = text.lastIndex(of: ")") else { return false }
    return !text[text.index(after: name)...].hasPrefix(" Z")
}

extension Event.Kind {
    /// Sessions report finer words than the API keeps.
    init(sessionEvent kind: String) {
        self =
            switch kind {
            case "guest-paused", "guest-resumed", "guest-reset": .qemu
            case "take-over-asked": .failover
            case "holding", "standby-ready", "memory-copied": .state
            default: .session
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
