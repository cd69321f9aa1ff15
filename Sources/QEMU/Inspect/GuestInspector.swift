import Hypervisor

/// Finds out what a running QEMU is made of, and whether it can be protected. Reads only: the VM is not changed.
public enum GuestInspector {
    /// Describes the VM behind the monitor, or throws every reason why it cannot be protected as it runs.
    public static func inspect(_ monitor: QMPConnection) throws(RefusalError) -> GuestDescription {
        let (description, refusals) = examine(monitor)
        guard refusals.isEmpty, let description else { throw RefusalError(refusals) }
        return description
    }

    /// As `inspect`, with the description also of a VM that cannot be protected; nil when its QEMU could not be asked.
    public static func examine(_ monitor: QMPConnection) -> (description: GuestDescription?, refusals: [Refusal]) {
        var work = Inspection(monitor: monitor)
        do throws(QMPError) {
            var description = try work.run()
            description.identity = work.identity()
            return (description, work.refusals)
        } catch {
            return (nil, work.refusals + RefusalError(error).refusals)
        }
    }
}

struct Inspection {
    let monitor: QMPConnection
    var facts: ProcessFacts
    var refusals: [Refusal] = []
    var notes: [String] = []
    var arguments: [String] = []

    init(monitor: QMPConnection) {
        self.monitor = monitor
        facts = ProcessFacts(pid: monitor.peer.pid)
    }

    mutating func refuse(_ code: Refusal.Code, _ subject: String = "", _ message: String) {
        refusals.append(Refusal(code, subject, message))
    }

    mutating func run() throws(QMPError) -> GuestDescription {
        checkProcess()
        try checkState()
        let devices = try listDevices()
        checkDevices(devices)
        try checkObjects()
        try checkChardevs(devices)
        let machine = try monitor.execute("qom-get", ["path": "/machine", "property": "type"]).string ?? ""
        let kvm = try monitor.execute("query-kvm")["enabled"]?.bool ?? false
        let cpus = try monitor.execute("query-cpus-fast").array ?? []
        let name = try monitor.execute("query-name")["name"]?.string ?? ""
        let memory = MemorySize(try monitor.execute("query-memory-size-summary"))
        if memory == nil { refuse(.memory, "", "QEMU does not say how much memory the guest has") }
        let blocks = try listBlocks()
        let disks = try listDisks()
        let nics = try listNICs()
        let suffix = "-machine"
        return GuestDescription(
            process: monitor.peer, qemu: monitor.version, executable: facts.link("exe") ?? "", arguments: arguments,
            workingDirectory: facts.link("cwd") ?? "/", guestName: name,
            machineType: machine.hasSuffix(suffix) ? String(machine.dropLast(suffix.count)) : machine,
            accelerator: kvm ? .kvm : .tcg,
            vcpus: cpus.compactMap { cpu in
                guard let index = cpu["cpu-index"]?.int64, let thread = cpu["thread-id"]?.int64,
                    let index = Int(exactly: index), let thread = Int32(exactly: thread)
                else { return nil }
                return GuestCPU(index: index, thread: thread)
            },
            memorySize: memory ?? MemorySize(base: 0, plugged: 0), blocks: blocks, disks: disks, nics: nics,
            devices: devices, notes: notes.isEmpty ? nil : notes)
    }

    private mutating func checkProcess() {
        arguments = facts.arguments ?? []
        expandConfigurationFiles()
        if arguments.isEmpty {
            refuse(
                .process, "",
                "the command line of process \(facts.pid) cannot be read: QEMU ended, or the agent may not look at it")
        }
        if facts.is64Bit == false {
            refuse(.architecture, "", "this QEMU is a 32-bit program: only 64-bit QEMU on x86-64 can be protected")
        }
        if monitor.version < QEMUSupport.oldest {
            refuse(
                .version, "",
                "QEMU \(monitor.version) is too old: \(QEMUSupport.oldest.major).\(QEMUSupport.oldest.minor) is needed")
        }
    }

    private mutating func checkState() throws(QMPError) {
        let architecture = try monitor.execute("query-target")["arch"]?.string ?? "unknown"
        if architecture != "x86_64" {
            refuse(.architecture, "", "the guest's processor is \(architecture): only x86_64 guests can be protected")
        }
        let status = try monitor.execute("query-status")["status"]?.string ?? "unknown"
        if !["running", "paused", "prelaunch", "suspended"].contains(status) {
            refuse(
                .state, "", "the guest is in state “\(status)”: it must be running or paused to become protected")
        }
        let migration = try monitor.execute("query-migrate")
        for reason in migration["blocked-reasons"]?.array ?? [] {
            refuse(.migration, "", "QEMU cannot save this guest's state: QEMU said: \(reason.string ?? "no reason")")
        }
        if let phase = migration["status"]?.string,
            !["none", "completed", "cancelled", "failed"].contains(phase)
        {
            refuse(.migration, "", "a migration of this guest is under way (\(phase)): wait for its end or cancel it")
        }
    }

    func listDevices() throws(QMPError) -> [GuestDevice] {
        try (children(of: "/machine/peripheral") + children(of: "/machine/peripheral-anon")).sorted {
            $0.path < $1.path
        }
    }

    /// The QOM objects right below a path.
    func children(of parent: String) throws(QMPError) -> [GuestDevice] {
        try (monitor.execute("qom-list", ["path": .string(parent)]).array ?? []).compactMap { child in
            guard let name = child["name"]?.string, let type = child["type"]?.string, type.hasPrefix("child<"),
                type.hasSuffix(">")
            else { return nil }
            return GuestDevice(path: "\(parent)/\(name)", type: String(type.dropFirst(6).dropLast()))
        }
    }
}
