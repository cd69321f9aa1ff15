import Hypervisor

/// Compares a waiting QEMU with the description of the one it shall continue.
enum MachineComparison {
    /// The first difference in words, or nil.
    static func difference(_ monitor: QMPConnection, _ guest: GuestDescription) throws(QMPError) -> String? {
        let machine = try monitor.execute("qom-get", ["path": "/machine", "property": "type"]).string ?? ""
        guard machine == "\(guest.machineType)-machine" else {
            return "machine type \(machine) instead of \(guest.machineType)-machine"
        }
        let cpus = try monitor.execute("query-cpus-fast").array?.count ?? 0
        guard cpus == guest.vcpus.count else { return "\(cpus) vCPUs instead of \(guest.vcpus.count)" }
        if let problem = try devices(monitor, guest) { return problem }
        return blocks(MonitorText.blocks(try monitor.monitor("info ramblock")), guest.blocks)
    }

    private static func devices(_ monitor: QMPConnection, _ guest: GuestDescription) throws(QMPError) -> String? {
        let here = try Inspection(monitor: monitor).listDevices()
        let missing = guest.devices.filter { !here.contains($0) }.map { "\($0.path) (\($0.type))" }
        guard missing.isEmpty else { return "without the device \(missing.joined(separator: ", "))" }
        let extra = here.filter { !guest.devices.contains($0) }.map { "\($0.path) (\($0.type))" }
        return extra.isEmpty ? nil : "with the additional device \(extra.joined(separator: ", "))"
    }

    static func blocks(_ listed: [MonitorText.Block], _ wanted: [GuestRAMBlock]) -> String? {
        let here = listed.filter { !$0.name.isEmpty }
        for block in wanted {
            guard let twin = here.first(where: { $0.name == block.name }) else {
                return "without the memory block “\(block.name)”"
            }
            guard twin.total == block.maximum, !block.tracked || twin.used == block.length else {
                return "with \(twin.used) bytes in the memory block “\(block.name)” instead of \(block.length)"
            }
        }
        if let extra = here.first(where: { block in !wanted.contains { $0.name == block.name } }) {
            return "with the additional memory block “\(extra.name)”"
        }
        return nil
    }
}
