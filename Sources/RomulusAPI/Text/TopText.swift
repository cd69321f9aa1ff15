import FoundationEssentials
import Model

/// One look at everything that `romulus top` shows.
public struct TopLook: Codable, Hashable, Sendable {
    /// A VM, and what its QEMU uses of the processors: 1 is one of them.
    public struct VM: Codable, Hashable, Sendable {
        public var status: VMStatus
        public var processorShare: Double?

        enum CodingKeys: String, CodingKey {
            case status
            case processorShare = "qemu_cpu_ratio"
        }
    }

    public var time: Date
    public var node: NodeName
    /// What the agent uses of the processors: 1 is one of them. Nil at the first look.
    public var agentShare: Double?
    /// By name.
    public var vms: [VM]
    /// Of the VM that is looked at closely; nil when there is none.
    public var epochs: EpochList?

    enum CodingKeys: String, CodingKey {
        case time, node, vms, epochs
        case agentShare = "agent_cpu_ratio"
    }

    /// `before` is the look before this one, for what is told per second.
    public init(time: Date, health: Health, statuses: [VMStatus], epochs: EpochList?, before: TopBase?) {
        self.time = time
        node = health.node
        self.epochs = epochs
        let elapsed = before.map { time.timeIntervalSince($0.time) } ?? 0
        func share(_ now: Double?, _ then: Double?) -> Double? {
            guard let now, let then, now >= then, elapsed > 0 else { return nil }
            return (now - then) / elapsed
        }
        agentShare = share(health.processorSeconds, before?.agentSeconds)
        vms = statuses.sorted { $0.name < $1.name }.map { status in
            // Another process has a count of its own.
            let same = status.pid.flatMap { before?.qemuSeconds[$0] }
            return VM(status: status, processorShare: share(status.processorSeconds, same))
        }
    }
}

/// What a look leaves behind for the next one.
public struct TopBase: Sendable {
    var time: Date
    var agentSeconds: Double?
    var qemuSeconds: [Int32: Double]

    public init(time: Date, health: Health, statuses: [VMStatus]) {
        self.time = time
        agentSeconds = health.processorSeconds
        qemuSeconds = [:]
        for status in statuses {
            if let pid = status.pid, let seconds = status.processorSeconds { qemuSeconds[pid] = seconds }
        }
    }
}

/// What `romulus top` draws; fits a terminal of 80 columns and 24 rows.
public enum TopText {
    /// Columns of fixed width: what is longer is cut, so that nothing moves from one look to the next.
    private typealias Column = (title: String, width: Int, alignment: Table.Alignment)

    private static let vmColumns: [Column] = [
        ("VM", 10, .left), ("ROLE", 7, .left), ("STATE", 10, .left), ("EP/S", 4, .right), ("PAUSE", 5, .right),
        ("P95", 5, .right), ("ANSWR", 5, .right), ("DIRTY", 5, .right), ("LINK/S", 7, .right), ("HELD", 6, .right),
        ("CPU%", 4, .right),
    ]
    private static let epochColumns: [Column] = [
        ("EPOCH", 8, .left), ("RUN", 4, .right), ("PAUSE", 5, .right), ("MODEL", 5, .right), ("STOP", 4, .right),
        ("SCAN", 4, .right), ("COPY", 4, .right), ("DEVS", 4, .right), ("CONT", 4, .right), ("ENC", 4, .right),
        ("ACK", 4, .right), ("MODEL", 5, .right), ("PAGES", 5, .right), ("LINK", 6, .right),
    ]
    private static let vmsMax = 8

    /// `rows` of `columns` at most. `chosen` is the VM that is looked at closely.
    public static func screen(_ look: TopLook, columns: Int, rows: Int, colour: Bool) -> String {
        var lines: [(String, Style)] = [
            (head(look), .bold), ("", .plain), (line(vmColumns.map(\.title), vmColumns), .bold),
        ]
        let room = max(1, min(vmsMax, rows - 8))
        for vm in look.vms.prefix(room) {
            let isDegraded = vm.status.dial?.isDegraded == true
            lines.append((line(cells(vm), vmColumns), isDegraded ? .warning : StatusText.style(vm.status.state)))
        }
        if look.vms.isEmpty { lines.append(("no VMs", .faint)) }
        if look.vms.count > room { lines.append(("and \(look.vms.count - room) more", .faint)) }
        if let epochs = look.epochs {
            let model = epochs.model.map { [("", Style.plain), (sentence($0), .faint)] } ?? []
            lines += [("", .plain), (line(epochColumns.map(\.title), epochColumns), .bold)]
            let left = max(0, rows - 1 - lines.count - model.count)
            if epochs.epochs.isEmpty {
                lines.append(("\(epochs.vm) had no epochs here", .faint))
            }
            for row in epochs.epochs.suffix(left) { lines.append((line(cells(row), epochColumns), .plain)) }
            lines += model
        }
        return lines.prefix(rows - 1).map { text, style in
            style.apply(to: String(Table.oneLine(text).prefix(columns)), colour: colour) + "\n"
        }.joined()
    }

    private static func head(_ look: TopLook) -> String {
        let name = look.epochs.map { ", epochs of \($0.vm)" } ?? ""
        return
            "\(look.node) \(Units.time(look.time).prefix(19)), agent CPU \(percent(look.agentShare)) %, times in ms\(name)"
    }

    private static func cells(_ vm: TopLook.VM) -> [String] {
        let status = vm.status
        let isPrimary = status.role == .primary
        return [
            status.name.description, status.role.rawValue,
            (status.dial?.isDegraded == true ? "*" : "") + status.state.rawValue,
            isPrimary ? Units.decimal(status.epochsPerSecond, 0) : "-", number(status.pause?.p50),
            number(status.pause?.p95), number(status.outputLatency?.p50),
            status.dirtyPages.map { Units.decimal($0.p50, 0) } ?? "-",
            isPrimary ? bytes(status.linkBytesPerSecond) : "-", status.heldBytes.map { bytes(Double($0)) } ?? "-",
            percent(vm.processorShare),
        ]
    }

    private static func cells(_ row: EpochRow) -> [String] {
        let epoch = row.measured
        return [
            "\(epoch.epoch)", number(epoch.run), number(epoch.pause), number(row.model?.pause), number(epoch.stop),
            number(epoch.scan), number(epoch.copy), number(epoch.deviceState), number(epoch.resume),
            number(epoch.encode), number(epoch.acknowledge), number(row.model?.acknowledge), "\(epoch.dirtyPages)",
            bytes(Double(epoch.linkBytes)),
        ]
    }

    private static func sentence(_ model: ModelReport) -> String {
        func line(_ fixed: Double, _ page: Double) -> String {
            "\(Units.decimal(fixed, 2)) + \(Units.decimal(page, 2)) us*PAGES"
        }
        return "PAUSE = \(Units.decimal(model.fixed, 2)) + max(\(Units.decimal(model.save, 2)),"
            + " \(line(model.scan + model.copy, model.scanPage + model.copyPage)))"
    }

    private static func line(_ cells: [String], _ columns: [Column]) -> String {
        zip(cells, columns).map { text, column in
            let cut = String(text.prefix(column.width))
            let padding = String(repeating: " ", count: column.width - cut.count)
            return column.alignment == .left ? cut + padding : padding + cut
        }.joined(separator: " ")
    }

    /// In at most four places: `0.25`, `12.3`, `200`, `1234`.
    static func number(_ value: Double?) -> String {
        guard let value, value.isFinite else { return "-" }
        return switch value {
        case ..<9.995: Units.decimal(value, 2)
        case ..<99.95: Units.decimal(value, 1)
        case ..<9999.5: Units.decimal(value, 0)
        default: ">10s"
        }
    }

    /// In at most six places: `712`, `1.2K`, `340K`, `12.5M`.
    static func bytes(_ count: Double) -> String {
        var value = max(0, count)
        var unit = ""
        for next in ["K", "M", "G", "T"] where value >= 999.5 {
            value /= 1024
            unit = next
        }
        return Units.decimal(value, unit.isEmpty || value >= 99.95 ? 0 : 1) + unit
    }

    private static func percent(_ share: Double?) -> String {
        guard let share else { return "-" }
        return Units.decimal(share * 100, share < 0.0995 ? 1 : 0)
    }
}
