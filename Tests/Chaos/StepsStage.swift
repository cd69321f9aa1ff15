import Foundation
import TestBed

/// A protected guest whose agents can be killed at any of their steps, again and again: it is turned, healed, and turned again.
final class StepsStage {
    private static let vm = "web"
    private let bed: Bed
    private let pair: Pair
    private let watch: StepWatch
    private let control: GuestControl
    private(set) var level = Plan.Level.restart

    init(_ bed: Bed, _ image: GuestImage) async throws {
        var configuration = GuestVM.Configuration()
        configuration.name = Self.vm
        configuration.memoryMiB = 160
        configuration.vcpus = 1
        let disks = bed.hosts.map { "\($0.stateDirectory)/web.raw" }
        configuration.disks = [try GuestDisk.create(disks[0], mebibytes: 16, content: .random(seed: 5))]
        watch = try StepWatch(on: bed.a)
        var options = Pair.Options()
        options.arbiter = .witness
        options.reprotectsByItself = true
        options.environment = watch.environment
        for (host, disk) in zip(bed.hosts, disks) {
            options.vms[host.name] = ["  \(Self.vm):", "    disks:", "      disk0: \(disk)"]
        }
        try bed.b.addTap("tap0")
        let guest = try await GuestVM.boot(on: bed.a, image: image, configuration)
        pair = try await Pair(on: bed, options)
        control = GuestControl(client: bed.client, address: configuration.address)
        self.bed = bed
        try await pair.protect(guest, ["--level", level.rawValue])
    }

    /// The host that has the guest, once that is protected.
    private func owner() async throws -> (host: BedHost, status: Pair.Status) {
        try await eventually("the guest is protected", within: .seconds(120)) {
            for host in bed.hosts {
                guard let status = try? pair.status(host, Self.vm), status.role == "primary" else { continue }
                if status.state == "protected" { return (host, status) }
            }
            return nil
        }
    }

    private func other(_ host: BedHost) -> BedHost { host === bed.a ? bed.b : bed.a }

    private func victim(_ side: StepsPlan.Side, _ owner: BedHost) -> BedHost { side == .primary ? owner : other(owner) }

    /// Turns the dial and waits for the end of it; nil, or what was said.
    func turn(to level: Plan.Level) async throws -> String? {
        let (host, _) = try await owner()
        let outcome = try pair.romulus(host, ["dial", Self.vm, level.rawValue, "--wait", "--timeout", "60"])
        guard outcome.status == 0 else { return outcome.errors }
        self.level = level
        return nil
    }

    /// What the turned guest still has to get rid of is over by then.
    private static let rest = Duration.milliseconds(700)

    /// Which steps an agent makes in a turn that nothing befalls.
    func steps(turningTo level: Plan.Level, of side: StepsPlan.Side) async throws -> [StepWatch.Step] {
        let (host, _) = try await owner()
        try await Task.sleep(for: Self.rest)
        guard let pid = pair.agent(victim(side, host))?.pid else { throw BedError("there is no agent.") }
        watch.begin(pid)
        defer { watch.end() }
        if let refusal = try await turn(to: level) { throw BedError(refusal) }
        try await Task.sleep(for: Self.rest)
        return watch.end()
    }

    struct Outcome {
        /// The agent came to that step, and so was killed.
        var isKilled = false
        var lost = 0
        var connectionsLost = 0
        var isBooted = false
        var wasMemoryLost = false
        var live = 1
        /// What is wrong beside.
        var wrongLevel: String?
        var refusal: String?
        var leftover: String?
        var report: Verifier.Report?

        var isGood: Bool {
            lost + connectionsLost == 0 && live == 1 && !wasMemoryLost && wrongLevel == nil && refusal == nil
                && leftover == nil
        }
    }

    /// Turns the dial, kills an agent on the way, and looks what became of the guest.
    func play(_ kill: StepsPlan.Kill, _ random: inout SeededRandom) async throws -> Outcome {
        let (host, _) = try await owner()
        let target = victim(kill.side, host)
        guard let agent = pair.agent(target), let before = control.boot() else {
            throw BedError("the guest is silent.")
        }
        let coldBoots = coldBoots()
        var plan = Verifier.Plan()
        (plan.echoConnections, plan.redisIntervalMs, plan.ledgerIntervalMs, plan.ledgerSlots) = (4, 0, 5, 512)
        let verifier = try await Verifier.start(on: bed.client, guest: control.address, plan)
        var outcome = Outcome()
        watch.begin(agent.pid, endingAt: kill.step, isAfter: kill.isAfter)
        outcome.isKilled = try await killing(agent, at: host, turningTo: kill.turn.to)
        watch.end()
        if outcome.isKilled {
            try await comeBack(kill.side, target, isLate: random.next() % 2 == 0, Int(random.next() % 300))
        }
        let status = try await owner().status
        outcome.live = live()
        if ![kill.turn.from.rawValue, kill.turn.to.rawValue].contains(status.level) {
            outcome.wrongLevel = status.level
        }
        outcome.refusal = try await turn(to: kill.turn.to)
        let boot = try await eventually("an answer of the guest", within: .seconds(60)) { control.boot() }
        outcome.isBooted = boot != before
        outcome.wasMemoryLost =
            self.coldBoots() > coldBoots || outcome.isBooted && (kill.side == .standby || !outcome.isKilled)
        outcome.leftover = try await leftover()
        // After seconds of silence TCP waits as long again before it tries once more.
        if !outcome.isBooted { try? await verifier.waitForAllAnswers() }
        try judge(&outcome, try await verifier.finish())
        return outcome
    }

    /// Whether the agent was killed before the turn was over.
    private func killing(_ agent: Child, at host: BedHost, turningTo level: Plan.Level) async throws -> Bool {
        _ = try pair.romulus(host, ["dial", Self.vm, level.rawValue])
        var end = ContinuousClock.now + .seconds(20)
        var isTurned = false
        while agent.isRunning, ContinuousClock.now < end {
            if !isTurned, let status = try? pair.status(host, Self.vm), status.level == level.rawValue {
                isTurned = true
                end = ContinuousClock.now + Self.rest
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        guard let exit = agent.exit else { return false }
        guard exit == .signal(SIGKILL) else { throw BedError("the agent ended by itself: \(exit)") }
        return true
    }

    /// The agent is started again: soon, or once the other host has noticed.
    private func comeBack(_ side: StepsPlan.Side, _ host: BedHost, isLate: Bool, _ milliseconds: Int) async throws {
        if isLate {
            _ = try? await eventually("the other host notices", within: .seconds(20)) {
                guard let status = try pair.status(other(host), Self.vm) else { return nil as Bool? }
                return status.role == "primary" && (side == .primary || status.state != "protected") ? true : nil
            }
        }
        try await Task.sleep(for: .milliseconds(milliseconds))
        try await pair.start(host, watch.environment)
    }

    /// How many hosts say that they let the guest's output out now.
    private func live() -> Int {
        bed.hosts.filter { host in
            guard let status = try? pair.status(host, Self.vm), status.role == "primary" else { return false }
            return ["running", "protected", "peer_lost", "preparing", "syncing", "connecting"].contains(status.state)
        }.count
    }

    /// How often memory was lost that a level had promised to keep.
    private func coldBoots() -> Int {
        bed.hosts.reduce(0) { sum, host in
            let outcome = try? pair.romulus(host, ["events", Self.vm, "--kind", "cold_boot"])
            return sum + (outcome?.output.split(separator: "\n").count ?? 0)
        }
    }

    private func servers() -> Int {
        bed.hosts.flatMap(\.processes).filter { pid in
            let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
            return String(decoding: line, as: UTF8.self).contains("disk-server")
        }.count
    }

    /// What a level has no use for and is there nevertheless, or the other way round; nil once all is as it should be.
    private func leftover() async throws -> String? {
        func found() -> String? {
            let qemus = bed.hosts.map(\.qemus.count).reduce(0, +)
            let wanted = level == .system ? 2 : 1
            if qemus != wanted { return "\(qemus) QEMUs at level \(level.rawValue)" }
            let served = servers()
            if served != (level == .component ? 1 : 0) {
                return "\(served) servers of disks at level \(level.rawValue)"
            }
            let gates = bed.hosts.filter { host in
                (try? host.run(["nft", "list", "tables"]).contains("netdev romulus")) ?? false
            }.count
            if gates != (level == .system ? 0 : 1) { return "\(gates) gates at level \(level.rawValue)" }
            return nil
        }
        _ = try? await eventually("nothing is left", within: .seconds(15)) { found() == nil ? true : nil }
        return found()
    }

    private func judge(_ outcome: inout Outcome, _ report: Verifier.Report) throws {
        guard let ledger = report.ledger else { throw BedError("there is no ledger.") }
        outcome.report = report
        outcome.lost =
            ledger.lost + ledger.torn + ledger.unexpected + (ledger.isVerified && ledger.acknowledged > 0 ? 0 : 1)
        if !outcome.isBooted {
            outcome.lost += report.bytesLost
            outcome.connectionsLost = report.connectionsLost
        }
    }

    /// What the agents said last.
    func words() -> String {
        bed.hosts.map { host in
            let events = (try? pair.romulus(host, ["events", Self.vm]))?.output ?? ""
            let status = (try? pair.romulus(host, ["status", Self.vm]))?.output ?? ""
            let log = pair.agent(host).map { $0.output + $0.errors } ?? ""
            func tail(_ text: String) -> String { text.split(separator: "\n").suffix(40).joined(separator: "\n") }
            return [("status", status), ("events", tail(events)), ("log", tail(log))].map { kind, text in
                "== \(host.name), \(kind)\n\(text)"
            }.joined(separator: "\n")
        }.joined(separator: "\n")
    }
}
