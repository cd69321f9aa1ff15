import Foundation
import TestBed

/// One protected guest under load.
struct Stage {
    static let vm = "web"
    let bed: Bed
    let guest: GuestVM
    let pair: Pair
    let verifier: Verifier
    /// What the primary's disk lies on, where that is to fail.
    let storage: SlowDisk?
    let level: Plan.Level
    /// Which boot of the guest was protected.
    let boot: String
    /// Random, 0 to 2 seconds.
    let moment: Double

    static func set(_ bed: Bed, _ image: GuestImage, _ run: Plan.Run, moment: Double) async throws -> Stage {
        var configuration = GuestVM.Configuration()
        configuration.name = vm
        configuration.memoryMiB = 192
        let disk = "\(bed.a.stateDirectory)/web.raw"
        configuration.disks = [try GuestDisk.create(disk, mebibytes: 32, content: .random(seed: 5))]
        var storage: SlowDisk?
        if run.fault.ofDisk != nil {
            let faulty = try await SlowDisk.start(on: bed.a, image: disk, delayMilliseconds: 0)
            configuration.disks[0].path = faulty.path
            configuration.driveOptions = ["cache=none", moment < 1 ? "aio=threads" : "aio=native"]
            storage = faulty
        }
        var options = Pair.Options()
        options.arbiter = run.arbiter
        options.reprotectsByItself = true
        options.silenceMilliseconds = 1000
        // Half of the runs have a second path between the hosts.
        options.hasSecondPath = moment < 1
        options.defaults = ["disk_timeout_ms: 1000", "disk_bound_ms: 500", "disk_rejoin_seconds: 2"]
        options.vms["a"] = ["  \(vm):", "    disks:", "      disk0: \(disk)"]
        options.vms["b"] = ["  \(vm):", "    disks:", "      disk0: \(bed.b.stateDirectory)/web.raw"]
        try bed.b.addTap("tap0")
        let guest = try await GuestVM.boot(on: bed.a, image: image, configuration)
        let pair = try await Pair(on: bed, options)
        var plan = Verifier.Plan()
        if run.level == .system {
            plan.dirtying = GuestControl.Dirtying(pages: 200, periodMs: 20, workingSet: 4096, pattern: .counter)
        }
        let verifier = try await Verifier.start(on: bed.client, guest: configuration.address, plan)
        try await pair.protect(guest, ["--level", run.level.rawValue])
        guard let boot = verifier.control.boot() else { throw BedError("the guest does not say which boot it is of.") }
        return Stage(
            bed: bed, guest: guest, pair: pair, verifier: verifier, storage: storage, level: run.level, boot: boot,
            moment: moment)
    }

    /// Where the level is turned to while something happens.
    var otherLevel: Plan.Level {
        let others = Plan.Level.allCases.filter { $0 != level }
        return others[moment < 1 ? 0 : 1]
    }

    /// Below level `system`: which boot of the guest answers once it is settled where it runs. Before the lease of a lost host
    /// has run out, the guest that is given up there may answer as well.
    func awaitAnswer() async throws -> String {
        try await Task.sleep(for: .seconds(8))
        return try await eventually("an answer of the guest", within: .seconds(120)) { verifier.control.boot() }
    }

    /// How many hosts say that they let the guest's output out now.
    func live() -> Int {
        bed.hosts.filter { host in
            guard let status = try? pair.status(host, Self.vm), status.role == "primary" else { return false }
            return ["running", "protected", "peer_lost", "preparing", "syncing", "connecting"].contains(status.state)
        }.count
    }

    /// The first host knows that the other one had won the guest.
    var wasGivenAway: Bool {
        (try? pair.romulus(bed.a, ["events", Self.vm]))?.output.contains("another host goes on with") ?? false
    }

    /// What the agents' journals say of the time from `moment` on (nanoseconds of CLOCK_BOOTTIME, which all hosts of a bed
    /// share): milliseconds until something was found lost, and until it was decided who goes on and that one ran.
    func timeline(since moment: Int64) -> (detected: Double?, running: Double?) {
        struct Line: Decodable {
            var bootNs: Int64?
            var kind: String
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        var lines: [Line] = []
        for host in bed.hosts {
            guard let outcome = try? pair.romulus(host, ["events", Self.vm, "--output", "json"]) else { continue }
            lines += outcome.output.split(separator: "\n").compactMap {
                try? decoder.decode(Line.self, from: Data($0.utf8))
            }
        }
        func first(_ kinds: [String]) -> Double? {
            lines.filter { kinds.contains($0.kind) }.compactMap(\.bootNs).filter { $0 > moment }.min()
                .map { Double($0 - moment) / 1e6 }
        }
        return (first(["detected", "standby_lost"]), first(["promoted", "restarted", "granted"]))
    }
}
