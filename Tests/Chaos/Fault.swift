import Foundation
import TestBed

/// What happens to a protected pair, and what is left of it afterwards.
enum Fault: String, CaseIterable {
    case primaryQEMUKilled = "primary QEMU killed"
    case primaryAgentKilled = "primary agent killed and restarted"
    case standbyAgentKilled = "standby agent killed and restarted"
    case primaryHostLost = "primary host lost"
    case standbyHostLost = "standby host lost"
    case primaryHostFrozen = "primary host frozen and thawed"
    case standbyHostFrozen = "standby host frozen and thawed"
    case primaryAgentFrozen = "primary agent frozen and thawed"
    case linkCut = "link cut both ways"
    case linkCutOneWay = "link cut one way, to the standby"
    case linkCutOtherWay = "link cut one way, to the primary"
    case arbiterKilled = "arbiter killed and restarted"
    case arbiterFrozen = "arbiter frozen and thawed"
    case primaryHostLostWithoutArbiter = "primary host lost while the arbiter is down"
    case primaryQEMUFrozen = "primary QEMU frozen and thawed"
    case standbyQEMUKilled = "standby QEMU killed"
    case primaryHostKilled = "all processes of the primary host killed"
    case bothAgentsKilled = "both agents killed and restarted"
    case switchover = "switchover"
    case primaryLostInSwitchover = "primary host lost during a switchover"
    case standbyLostInSwitchover = "standby host lost during a switchover"
    case primaryDiskFails = "primary disk fails and is mended"
    case primaryDiskFull = "primary disk full and with room again"
    case primaryDiskHangs = "primary disk hangs and answers again"
    case primaryUplinkLost = "primary uplink pulled and put back"
    case turns = "level turned and turned back"
    case primaryLostInTurn = "primary host lost while its level is turned"
    case standbyLostInTurn = "standby host lost while its level is turned"
    case qemuKilledInTurn = "primary QEMU killed while its level is turned"
    case primaryAgentKilledInTurn = "primary agent killed and restarted while its level is turned"
    case standbyAgentKilledInTurn = "standby agent killed and restarted while its level is turned"
    case linkCutInTurn = "link cut both ways while the level is turned"

    /// What befalls the primary's disk.
    var ofDisk: SlowDisk.Fault? {
        switch self {
        case .primaryDiskFails: .eio
        case .primaryDiskFull: .enospc
        case .primaryDiskHangs: .hang
        default: nil
        }
    }

    /// At which level the guest is by then depends on the moment.
    var turnsLevel: Bool {
        switch self {
        case .turns, .primaryLostInTurn, .standbyLostInTurn, .qemuKilledInTurn, .primaryAgentKilledInTurn,
            .standbyAgentKilledInTurn, .linkCutInTurn:
            true
        default: false
        }
    }

    /// Whether something follows from it at that level that is to be seen.
    func isPlayed(at level: Plan.Level) -> Bool {
        switch self {
        case .primaryQEMUKilled, .primaryHostLost, .primaryHostFrozen, .standbyHostLost, .linkCut, .primaryAgentKilled,
            .standbyAgentKilled:
            true
        case _ where turnsLevel: true
        case .primaryDiskFails, .primaryDiskFull, .primaryDiskHangs: level != .restart
        case .primaryUplinkLost: level == .component
        default: level == .system
        }
    }

    /// Longer than any timeout of the pair, in seconds.
    private static let long = 3.0

    /// Does it, and undoes what can be undone. Returns when the world is as good as it gets again.
    func happen(_ stage: Stage) async throws {
        let (bed, pair) = (stage.bed, stage.pair)
        switch self {
        case .primaryQEMUKilled: try await stage.guest.killAndWait()
        case .primaryAgentKilled: try await bounce(pair, [bed.a], after: stage.moment)
        case .standbyAgentKilled: try await bounce(pair, [bed.b], after: stage.moment)
        case .bothAgentsKilled: try await bounce(pair, [bed.a, bed.b], after: stage.moment)
        case .primaryHostLost: try bed.a.cutPower()
        case .standbyHostLost: try bed.b.cutPower()
        case .primaryHostKilled: bed.a.killAll()
        case .primaryHostFrozen: try await freeze(bed.a.processes)
        case .standbyHostFrozen: try await freeze(bed.b.processes)
        case .primaryAgentFrozen: try await freeze([pair.agent(bed.a)?.pid].compactMap { $0 })
        case .arbiterFrozen: try await freeze(bed.witness.processes)
        case .primaryQEMUFrozen: try await freeze([stage.guest.pid])
        case .standbyQEMUKilled:
            guard let pid = try pair.status(bed.b, Stage.vm)?.pid else { throw BedError("the standby has no QEMU") }
            kill(pid, SIGKILL)
        case .linkCut:
            try bed.a.setLink("repl0", up: false)
            try await Self.pause(Self.long)
            try bed.a.setLink("repl0", up: true)
        case .linkCutOneWay: try await cutIncoming(at: bed.b)
        case .linkCutOtherWay: try await cutIncoming(at: bed.a)
        case .arbiterKilled:
            try await pair.agent(bed.witness)?.killAndWait()
            try await Self.pause(Self.long)
            try await pair.restartArbiter()
        case .primaryHostLostWithoutArbiter:
            try await pair.agent(bed.witness)?.killAndWait()
            try bed.a.cutPower()
            try await Self.pause(Self.long)
            try await pair.restartArbiter()
        case .switchover: try beginSwitchover(pair)
        case .turns: try turnBothWays(stage)
        case .primaryLostInTurn: try await turning(stage) { try bed.a.cutPower() }
        case .standbyLostInTurn: try await turning(stage) { try bed.b.cutPower() }
        case .qemuKilledInTurn: try await turning(stage) { try await stage.guest.killAndWait() }
        case .primaryAgentKilledInTurn:
            try await turning(stage) { try await bounce(pair, [bed.a], after: stage.moment) }
        case .standbyAgentKilledInTurn:
            try await turning(stage) { try await bounce(pair, [bed.b], after: stage.moment) }
        case .linkCutInTurn: try await turning(stage) { try await Self.linkCut.happen(stage) }
        case .primaryLostInSwitchover: try await lose(bed.a, duringSwitchoverOf: stage)
        case .standbyLostInSwitchover: try await lose(bed.b, duringSwitchoverOf: stage)
        case .primaryDiskFails, .primaryDiskFull, .primaryDiskHangs:
            try stage.storage?.be(ofDisk)
            try await Self.pause(Self.long)
            try stage.storage?.be(nil)
        case .primaryUplinkLost:
            try bed.lan.setLink("port-a", up: false)
            try await Self.pause(Self.long)
            try bed.lan.setLink("port-a", up: true)
        }
    }

    /// The command takes some time to be heard; the host is lost up to 100 ms after it was given.
    private func lose(_ host: BedHost, duringSwitchoverOf stage: Stage) async throws {
        let command = Task.detached { [pair = stage.pair] in try? pair.romulus(pair.bed.a, ["switchover", Stage.vm]) }
        try await Self.pause(stage.moment / 20)
        try host.cutPower()
        _ = await command.value
    }

    /// A turn takes from some milliseconds to a second: what befalls it does so up to 400 ms after it was asked for.
    private func turning(_ stage: Stage, _ fault: () async throws -> Void) async throws {
        let command = Task.detached { [pair = stage.pair, level = stage.otherLevel] in
            try? pair.romulus(pair.bed.a, ["dial", Stage.vm, level.rawValue])
        }
        try await Self.pause(stage.moment / 5)
        try await fault()
        _ = await command.value
    }

    private func turnBothWays(_ stage: Stage) throws {
        for level in [stage.otherLevel, stage.level] {
            let outcome = try stage.pair.romulus(stage.bed.a, ["dial", Stage.vm, level.rawValue, "--wait"])
            guard outcome.status == 0 else { throw BedError("romulus dial \(level.rawValue): \(outcome.errors)") }
        }
    }

    private func beginSwitchover(_ pair: Pair) throws {
        let outcome = try pair.romulus(pair.bed.a, ["switchover", Stage.vm])
        guard outcome.status == 0 else { throw BedError("romulus switchover: \(outcome.errors)") }
    }

    private func bounce(_ pair: Pair, _ hosts: [BedHost], after moment: Double) async throws {
        for host in hosts { try await pair.agent(host)?.killAndWait() }
        try await Self.pause(moment)
        for host in hosts { try await pair.start(host) }
    }

    private func freeze(_ processes: [pid_t]) async throws {
        for pid in processes { kill(pid, SIGSTOP) }
        try await Self.pause(Self.long)
        for pid in processes { kill(pid, SIGCONT) }
    }

    private func cutIncoming(at host: BedHost) async throws {
        try host.dropIncoming("repl0", true)
        try await Self.pause(Self.long)
        try host.dropIncoming("repl0", false)
    }

    private static func pause(_ seconds: Double) async throws { try await Task.sleep(for: .seconds(seconds)) }
}
