import Hypervisor
import LinuxSystem
import TapDetour

extension Inspection {
    mutating func listNICs() throws(QMPError) -> [GuestNIC] {
        let clients = MonitorText.clients(try monitor.monitor("info network"))
        let vhost = facts.openFiles.contains { $0.hasPrefix("/dev/vhost-") }
        let queues = MonitorText.queues(clients)
        var nics: [GuestNIC] = []
        for (position, client) in clients.enumerated() where client.type == "nic" && client.index == 0 {
            let peer: MonitorText.Client?
            if let hub = client.hub {
                let others = clients.filter { $0.hub == hub && $0.name != client.name }
                if others.count > 1 {
                    refuse(
                        .nic, client.name,
                        "NIC \(client.name) shares a hub (-net) with more than one other: start QEMU with -nic, or"
                            + " -netdev and -device, instead")
                    continue
                }
                peer = others.first
            } else {
                peer = position + 1 < clients.count && clients[position + 1].isPeer ? clients[position + 1] : nil
            }
            let nic = GuestNIC(
                name: client.name, model: client.fields["model"] ?? "",
                mac: (client.fields["macaddr"] ?? "").lowercased(), netdev: peer?.name, backend: peer?.type ?? "",
                interface: peer?.fields["ifname"] ?? peer?.fields["fd"].flatMap(facts.interface))
            nics.append(nic)
        }
        for index in nics.indices { place(&nics[index], vhost: vhost, queues: queues) }
        return nics
    }

    /// Says where the NIC's output is held: at its tap what QEMU's filters do not see. Refuses it where it cannot be held at all.
    private mutating func place(_ nic: inout GuestNIC, vhost: Bool, queues: [String: Int]) {
        let netdev = nic.netdev ?? ""
        let (problem, way): (String, String)
        if ["vhost-user", "vhost-vdpa"].contains(nic.backend) {
            refuse(
                .nic, nic.name,
                "NIC \(nic.name) bypasses QEMU (\(nic.backend)), so that its output cannot be held: use a tap")
            return
        } else if nic.backend == "tap", vhost, asksForVhost(nic) {
            (problem, way) = (
                "uses vhost, so that its output bypasses QEMU", "start QEMU with vhost=off on netdev \(netdev)"
            )
        } else if let count = queues[netdev], count > 1 {
            (problem, way) = (
                "has \(count) queues, of which QEMU can hold one only",
                "start QEMU with queues=1 on netdev \(netdev) and mq=off on the device"
            )
        } else {
            return
        }
        guard let obstacle = obstacleAtTap(of: nic) else {
            nic.holding = .tap
            notes.append("NIC \(nic.name) \(problem): its output is held at its tap \(nic.interface ?? "") instead")
            return
        }
        refuse(
            .nic, nic.name, "NIC \(nic.name) \(problem), and it cannot be held at a tap either (\(obstacle)): \(way)")
    }

    /// The kernel's worker is known by its open device only; the command line says which netdev asked for it.
    private func asksForVhost(_ nic: GuestNIC) -> Bool {
        let all = CommandOption.parse(arguments.dropFirst())
            .filter { ["-netdev", "-nic", "-net"].contains($0.name) }
            .map { OptionValue($0.value ?? "", impliedKey: "type") }
        let options = all.filter { $0.has("vhost") || $0.has("vhostfd") || $0.has("vhostfds") || $0.has("vhostforce") }
        let asked = options.contains { option in
            let on = option["vhost"] == "on" || option["vhostforce"] == "on" || option["vhost"] == nil
            return on && (option["id"] == nil || option["id"] == nic.netdev)
        }
        // Nobody can say of one that was plugged in later.
        let isNamed = nic.netdev?.hasPrefix("#") == true || all.contains { $0["id"] == nic.netdev }
        return asked || options.isEmpty || !isNamed
    }

    private func obstacleAtTap(of nic: GuestNIC) -> String? {
        guard nic.backend == "tap", let interface = nic.interface else { return "it is on no tap whose name is known" }
        guard ProcessFiles.sharesNetwork(with: facts.pid) else {
            return "\(interface) is in another network namespace than the agent"
        }
        return Detour.obstacle(at: interface)?.description
    }
}
