import Hypervisor

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
            checkNIC(nic, vhost: vhost)
        }
        for nic in nics {
            guard let netdev = nic.netdev, let count = queues[netdev], count > 1 else { continue }
            refuse(
                .nic, nic.name,
                "NIC \(nic.name) has \(count) queues, and output can be held on one only: "
                    + "start QEMU with queues=1 on netdev \(netdev) and mq=off on the device")
        }
        return nics
    }

    private mutating func checkNIC(_ nic: GuestNIC, vhost: Bool) {
        switch nic.backend {
        case "vhost-user", "vhost-vdpa":
            refuse(
                .nic, nic.name,
                "NIC \(nic.name) bypasses QEMU (\(nic.backend)), so that its output cannot be held: "
                    + "use a tap with vhost=off")
        case "tap" where vhost:
            // The kernel's worker is known by its open device only; the command line says which netdev asked for it.
            let options = CommandOption.parse(arguments.dropFirst())
                .filter { ["-netdev", "-nic", "-net"].contains($0.name) }
                .map { OptionValue($0.value ?? "", impliedKey: "type") }
                .filter { $0.has("vhost") || $0.has("vhostfd") || $0.has("vhostfds") || $0.has("vhostforce") }
            let asked = options.contains { option in
                let on = option["vhost"] == "on" || option["vhostforce"] == "on" || option["vhost"] == nil
                return on && (option["id"] == nil || option["id"] == nic.netdev)
            }
            if asked || options.isEmpty {
                refuse(
                    .nic, nic.name,
                    "NIC \(nic.name) uses vhost, so that its output bypasses QEMU and cannot be held: "
                        + "start QEMU with vhost=off on netdev \(nic.netdev ?? "")")
            }
        default: break
        }
    }
}
