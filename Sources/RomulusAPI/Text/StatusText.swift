import FoundationEssentials

/// What `romulus list`, `status` and `events` print for people.
public enum StatusText {
    /// One row per VM, by name.
    public static func list(_ vms: [VMStatus], now: Date = Date(), colour: Bool) -> String {
        guard !vms.isEmpty else { return "no VMs\n" }
        var table = Table([
            ("NAME", .left), ("ROLE", .left), ("STATE", .left), ("LEVEL", .left), ("PEER", .left), ("TERM", .right),
            ("EPOCH", .right), ("PAUSE P50", .right), ("P95", .right), ("LATENCY P50", .right), ("P95", .right),
            ("SINCE", .right), ("ERROR", .left),
        ])
        for vm in vms.sorted(by: { $0.name < $1.name }) {
            table.add([
                (vm.name.description, .bold), (vm.role.rawValue, .plain), (state(vm), style(vm.state)),
                (levelWord(vm), vm.dial?.isDegraded == true ? .warning : .plain),
                (vm.peerName, .plain), (String(vm.term), .plain),
                (String(vm.epoch), .plain),
                (milliseconds(vm.pause?.p50), .plain), (milliseconds(vm.pause?.p95), .plain),
                (milliseconds(vm.outputLatency?.p50), .plain), (milliseconds(vm.outputLatency?.p95), .plain),
                (Units.age(now.timeIntervalSince(vm.since)), .faint), (trouble(vm) ?? "", .bad),
            ])
        }
        return table.text(colour: colour)
    }

    /// Everything about one VM, one fact a line.
    public static func detail(_ vm: VMStatus, now: Date = Date(), colour: Bool) -> String {
        var lines: [(String, String, Style)] = [
            ("name", vm.name.description, .bold),
            (
                "uuid", vm.identity.map { $0.isMade ? "\($0) (made by Romulus: its QEMU has none)" : "\($0)" } ?? "-",
                .plain
            ),
            ("role", vm.role.rawValue, .plain),
            ("state", "\(state(vm)) for \(Units.age(now.timeIntervalSince(vm.since)))", style(vm.state)),
            ("level", level(vm), vm.dial == nil ? .plain : .warning),
            ("peer", vm.peerName, .plain),
            ("term", String(vm.term), .plain),
            ("epoch", "\(vm.epoch) (every \(vm.epochMilliseconds) ms asked for)", .plain),
        ]
        for loss in vm.diskLoss ?? [] { lines.append(("disk lost", report(loss, vm, now), .bad)) }
        for nic in vm.carried ?? [] {
            let age = Units.age(now.timeIntervalSince(nic.since))
            lines.append(("carried", "NIC \(nic.nic), through \(vm.peerName) for \(age): \(nic.reason)", .warning))
        }
        if let target = vm.target { lines.append(("target", report(target), target.isHeld ? .plain : .warning)) }
        if let qmp = vm.qmp { lines.append(("qmp", qmp, .plain)) }
        if let pid = vm.pid { lines.append(("qemu pid", String(pid), .plain)) }
        if vm.sync != nil { lines.append(("first copy", ProgressBar.plain(vm), .plain)) }
        if vm.state == .protected {
            lines.append(("epochs per second", Units.decimal(vm.epochsPerSecond, 1), .plain))
            lines.append(("link", link(vm), .plain))
        }
        if let peer = vm.peerReport { lines.append(("peer's host", report(peer), peer.link == .up ? .plain : .bad)) }
        if let arbiter = vm.arbiter { lines.append(("arbiter", report(arbiter), arbiter.isUp ? .plain : .bad)) }
        if let pause = vm.pause { lines.append(("pause", percentiles(pause), .plain)) }
        if let latency = vm.outputLatency { lines.append(("output latency", percentiles(latency), .plain)) }
        if let epoch = vm.lastEpoch { lines += report(epoch, vm.model) }
        if let desired = vm.desired, vm.role == .primary { lines.append(report(desired, now)) }
        if let boot = vm.coldBoot {
            lines.append(
                (
                    "cold boot",
                    "\(Units.age(now.timeIntervalSince(boot.at))) ago, from its disk as of epoch \(boot.epoch): its memory was lost",
                    .bad
                ))
        }
        if let error = vm.lastError { lines.append(("last error", error, .bad)) }
        let width = lines.map(\.0.count).max() ?? 0
        return lines.map { line in
            let padding = String(repeating: " ", count: width - line.0.count)
            return "\(line.0):\(padding) \(line.2.apply(to: Table.oneLine(line.1), colour: colour))\n"
        }.joined()
    }

    /// With a star where it fell there by itself.
    private static func levelWord(_ vm: VMStatus) -> String {
        vm.level.rawValue + (vm.dial?.isDegraded == true ? "*" : "")
    }

    private static func level(_ vm: VMStatus) -> String {
        guard let dial = vm.dial else { return vm.level.rawValue }
        let reason = dial.reason.map { ", and is not in force: \($0)" } ?? " is being turned to"
        return "\(vm.level.rawValue); \(dial.asked.rawValue) was asked for\(dial.reason == nil ? " and" : "")\(reason)"
    }

    private static func report(_ loss: DiskLossReport, _ vm: VMStatus, _ now: Date) -> String {
        let state =
            loss.isRejoining
            ? "rejoins, at most \(Units.bytes(loss.staleBytes)) to copy"
            : "the guest goes on with the copy of \(vm.peerName)"
        return "\(loss.disk) for \(Units.age(now.timeIntervalSince(loss.since))): \(loss.reason); \(state)"
    }

    /// What stands in the way now comes before what went wrong last.
    private static func trouble(_ vm: VMStatus) -> String? { vm.desired?.reason ?? vm.lastError }

    private static func report(_ desired: DesiredReport, _ now: Date) -> (String, String, Style) {
        var text = desired.protect == .always ? "always protected" : "protected by hand only"
        if let reason = desired.reason { text += "; not now: \(reason)" }
        if let next = desired.nextTry {
            text += "; tried again in \(Units.age(max(0, next.timeIntervalSince(now))))"
            if desired.failures > 1 { text += " (\(desired.failures) times in vain)" }
        }
        return ("desired", text, desired.reason == nil ? .plain : .warning)
    }

    /// `1.2 MiB/s (no more than 200 Mbit/s) over 4 connections, 1 checkpoint on the way`
    private static func link(_ vm: VMStatus) -> String {
        let cap = vm.linkCapMegabits.map { " (no more than \($0) Mbit/s)" } ?? ""
        let connections = vm.linkConnections.map { $0 > 1 ? " over \($0) connections" : "" } ?? ""
        let inFlight = vm.epochsInFlight.map { ", \($0) \($0 == 1 ? "checkpoint" : "checkpoints") on the way" } ?? ""
        return Units.bytes(UInt64(max(0, min(vm.linkBytesPerSecond, 1e18)))) + "/s" + cap + connections + inFlight
    }

    /// One line, for `status --watch` where the lines scroll.
    public static func line(_ vm: VMStatus, now: Date = Date(), colour: Bool) -> String {
        var parts = ["\(Units.time(now))  \(vm.name)  \(style(vm.state).apply(to: state(vm), colour: colour))"]
        parts.append("term \(vm.term)  epoch \(vm.epoch)")
        if let epoch = vm.lastEpoch {
            parts.append(
                "pause \(Units.milliseconds(epoch.pause))  dirty \(epoch.dirtyPages)  sent \(Units.bytes(epoch.linkBytes))"
            )
        }
        if let error = trouble(vm) { parts.append(Style.bad.apply(to: Table.oneLine(error), colour: colour)) }
        return parts.joined(separator: "  ") + "\n"
    }

    /// One event on one line.
    public static func event(_ event: Event, colour: Bool) -> String {
        var parts = [Units.time(event.time), event.vm?.description ?? "-"]
        let style: Style =
            switch event.kind {
            case .error, .coldBoot, .restarted: .bad
            case .detected, .standbyLost, .refused, .fenced, .degraded: .warning
            case .forced, .promoted: .bold
            default: .plain
            }
        parts.append(style.apply(to: Table.oneLine(event.kind.rawValue), colour: colour))
        if let term = event.term { parts.append("term \(term)") }
        if let epoch = event.epoch { parts.append("epoch \(epoch)") }
        parts.append(Table.oneLine(event.message))
        return parts.joined(separator: "  ") + "\n"
    }

    static func style(_ state: ProtectionState) -> Style {
        switch state {
        case .protected: .good
        case .connecting, .preparing, .syncing, .handingOver, .failingOver, .restarting, .waiting: .warning
        case .unprotected: .plain
        case .running: .warning
        case .stalled, .frozen, .forked, .peerLost, .failed: .bad
        }
    }

    private static func state(_ vm: VMStatus) -> String {
        guard vm.state == .syncing, let sync = vm.sync else { return vm.state.rawValue }
        return "syncing \(Int(sync.ratio * 100)) %"
    }

    private static func milliseconds(_ value: Double?) -> String {
        value.map(Units.milliseconds) ?? "-"
    }

    private static func percentiles(_ value: Percentiles) -> String {
        "p50 \(Units.milliseconds(value.p50)), p95 \(Units.milliseconds(value.p95))"
    }

    private static func report(_ target: TargetReport) -> String {
        var text: String
        if let limit = target.latency {
            text = "answers within \(Units.milliseconds(limit))"
            if let reached = target.reached { text += ", \(Units.milliseconds(reached)) expected" }
        } else {
            text = "no more than \(Units.decimal(target.overhead ?? 0, 1)) % of the guest's work lost"
            if let reached = target.reached { text += ", \(Units.decimal(reached, 1)) % lately" }
        }
        if let reason = target.reason { text += "; not held: \(reason)" }
        return text
    }

    private static func report(_ peer: PeerReport) -> String {
        let borne = "silence is borne for \(Units.milliseconds(peer.silenceBorne))"
        return switch (peer.link, peer.secondPath) {
        case (.up, nil): "alive; \(borne)"
        case (.up, true?): "alive, on both paths; \(borne)"
        case (.up, false?): "alive, but not heard over the second path; \(borne)"
        case (.stalled, _): "alive, but the link is stalled"
        case (.down, true?): "link down, host alive"
        case (.down, false?): "not heard on either path"
        case (.down, nil): "not heard"
        }
    }

    private static func report(_ arbiter: ArbiterReport) -> String {
        let answer = arbiter.lastAnswer.map { "last answer \(Units.age($0 / 1000)) ago" } ?? "no answer yet"
        guard !arbiter.isUp else { return "\(arbiter.name), \(answer)" }
        let reason = arbiter.reason ?? "no reason given"
        return "\(arbiter.name) does not answer, \(answer): nobody could take over (\(reason))"
    }

    private static func report(_ epoch: EpochReport, _ model: EpochPrediction?) -> [(String, String, Style)] {
        var lines: [(String, String, Style)] = [
            ("last epoch", "\(epoch.epoch), pause \(Units.milliseconds(epoch.pause))", .plain),
            ("  phases", phases(epoch), .plain),
            ("  contents", contents(epoch), .plain),
            ("  output", output(epoch), .plain),
        ]
        if let model {
            let bound = model.bound == .pages ? "the pages" : "QEMU's saving of its devices"
            lines.append(
                (
                    "  model",
                    "pause \(Units.milliseconds(model.pause)), bounded by \(bound); acknowledge"
                        + " \(Units.milliseconds(model.acknowledge)); \(Units.bytes(UInt64(max(0, model.linkBytes))))"
                        + " on the link", .plain
                ))
        }
        return lines
    }

    /// One epoch on one line, for a log.
    public static func epoch(_ epoch: EpochReport) -> String {
        "epoch \(epoch.epoch): pause \(Units.milliseconds(epoch.pause)); \(phases(epoch)); \(contents(epoch));"
            + " \(output(epoch))"
    }

    private static func phases(_ epoch: EpochReport) -> String {
        [
            ("run", epoch.run), ("stop", epoch.stop), ("scan", epoch.scan), ("copy", epoch.copy),
            ("device state", epoch.deviceState), ("resume", epoch.resume), ("encode", epoch.encode),
            ("transfer", epoch.transfer), ("acknowledge", epoch.acknowledge), ("release", epoch.release),
        ].map { "\($0) \(Units.milliseconds($1))" }.joined(separator: ", ")
    }

    private static func contents(_ epoch: EpochReport) -> String {
        let sizes = [
            ("memory", epoch.memoryBytes), ("disk", epoch.diskBytes), ("device state", epoch.deviceStateSentBytes),
        ].map { "\($0) \(Units.bytes($1))" }.joined(separator: ", ")
        return "\(epoch.dirtyPages) dirty pages, \(sizes), \(Units.bytes(epoch.linkBytes)) on the link"
    }

    private static func output(_ epoch: EpochReport) -> String {
        "\(epoch.heldFrames) frames, \(Units.bytes(epoch.heldBytes)), held for \(Units.milliseconds(epoch.held))"
    }
}
