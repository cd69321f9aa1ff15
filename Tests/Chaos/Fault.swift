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
    case linkCutOneWay = "link cut one way"
    case witnessKilled = "witness killed and restarted"
    case primaryHostLostWithoutWitness = "primary host lost while the witness is down"

    /// Longer than any timeout of the pair, in seconds.
    private static let long = 3.0

    /// Does it, and undoes what can be undone. Returns when the world is as good as it gets again.
    func happen(_ stage: Stage) async throws {
        let (bed, pair) = (stage.bed, stage.pair)
        switch self {
        case .primaryQEMUKilled: try await stage.guest.killAndWait()
        case .primaryAgentKilled: try await bounce(pair, bed.a, after: stage.moment)
        case .standbyAgentKilled: try await bounce(pair, bed.b, after: stage.moment)
        case .primaryHostLost: try bed.a.cutPower()
        case .standbyHostLost: try bed.b.cutPower()
        case .primaryHostFrozen: try await freeze(bed.a.processes)
        case .standbyHostFrozen: try await freeze(bed.b.processes)
        case .primaryAgentFrozen: try await freeze([pair.agent(bed.a)?.pid].compactMap { $0 })
        case .linkCut:
            try bed.a.setLink("repl0", up: false)
            try await Self.pause(Self.long)
            try bed.a.setLink("repl0", up: true)
        case .linkCutOneWay:
            try bed.b.dropIncoming("repl0", true)
            try await Self.pause(Self.long)
            try bed.b.dropIncoming("repl0", false)
        case .witnessKilled:
            try await pair.agent(bed.witness)?.killAndWait()
            try await Self.pause(Self.long)
            try await pair.restartWitness()
        case .primaryHostLostWithoutWitness:
            try await pair.agent(bed.witness)?.killAndWait()
            try bed.a.cutPower()
            try await Self.pause(Self.long)
            try await pair.restartWitness()
        }
    }

    private func bounce(_ pair: Pair, _ host: BedHost, after moment: Double) async throws {
        try await pair.agent(host)?.killAndWait()
        try await Self.pause(moment)
        try await pair.start(host)
    }

    private func freeze(_ processes: [pid_t]) async throws {
        for pid in processes { kill(pid, SIGSTOP) }
        try await Self.pause(Self.long)
        for pid in processes { kill(pid, SIGCONT) }
    }

    private static func pause(_ seconds: Double) async throws { try await Task.sleep(for: .seconds(seconds)) }
}

/// One protected guest under load.
struct Stage {
    static let vm = "web"
    let bed: Bed
    let guest: GuestVM
    let pair: Pair
    let verifier: Verifier
    /// Random, 0 to 2 seconds.
    let moment: Double

    static func set(_ bed: Bed, _ image: GuestImage, moment: Double) async throws -> Stage {
        var configuration = GuestVM.Configuration()
        configuration.name = vm
        configuration.memoryMiB = 192
        let disk = "\(bed.a.stateDirectory)/web.raw"
        configuration.disks = [try GuestDisk.create(disk, mebibytes: 32, content: .random(seed: 5))]
        var options = Pair.Options()
        options.arbiter = .witness
        options.reprotectsByItself = true
        options.silenceMilliseconds = 1000
        // Half of the runs have a second path between the hosts.
        options.hasSecondPath = moment < 1
        options.vms["a"] = ["  \(vm):", "    disks:", "      disk0: \(disk)"]
        options.vms["b"] = ["  \(vm):", "    disks:", "      disk0: \(bed.b.stateDirectory)/web.raw"]
        try bed.b.addTap("tap0")
        let guest = try GuestVM.start(on: bed.a, image: image, configuration)
        try await guest.waitUntilReady()
        let pair = try await Pair(on: bed, options)
        var plan = Verifier.Plan()
        plan.dirtying = GuestControl.Dirtying(pages: 200, periodMs: 20, workingSet: 4096, pattern: .counter)
        let verifier = try await Verifier.start(on: bed.client, guest: configuration.address, plan)
        try await pair.protect(guest)
        return Stage(bed: bed, guest: guest, pair: pair, verifier: verifier, moment: moment)
    }

    /// How many hosts say that they let the guest's output out now.
    func live() -> Int {
        bed.hosts.filter { host in
            guard let status = try? pair.status(host, Self.vm), status.role == "primary" else { return false }
            return ["running", "protected", "peer_lost", "preparing", "syncing", "connecting"].contains(status.state)
        }.count
    }
}
