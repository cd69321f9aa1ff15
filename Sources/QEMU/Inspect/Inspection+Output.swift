import Hypervisor

/// Ways out of a guest that are no network. They are not held: docs/OUTPUT.md has the rule.
extension Inspection {
    /// Devices whose chardev is a line of bytes, of which the standby's QEMU has one of its own.
    private static let lines: Set<String> = [
        "isa-serial", "pci-serial", "pci-serial-2x", "pci-serial-4x", "isa-parallel", "isa-debugcon", "virtserialport",
        "virtconsole", "usb-serial", "usb-braille",
    ]

    /// Objects that carry a guest's output past the gate.
    private static let leaks: [(type: String, reason: String)] = [
        ("can-host-socketcan", "what the guest sends on the host's CAN bus cannot be held; remove it"),
        ("filter-mirror", "it copies frames that are not released yet; remove it while the VM is protected"),
        ("filter-redirector", "it takes frames past the gate that holds them; remove it while the VM is protected"),
        ("filter-rewriter", "it changes frames past the gate that holds them; remove it while the VM is protected"),
        ("colo-compare", "it takes frames past the gate that holds them; remove it while the VM is protected"),
    ]

    mutating func checkLeaks(_ objects: [GuestDevice]) {
        for object in objects {
            let name = object.path.split(separator: "/").last.map(String.init) ?? object.path
            guard let leak = Self.leaks.first(where: { $0.type == object.type }), !OutputFilter.isOurs(name) else {
                continue
            }
            refuse(.device, name, "object \(name) (\(object.type)) cannot be there: \(leak.reason)")
        }
    }

    mutating func checkChardevs(_ devices: [GuestDevice]) throws(QMPError) {
        var used: Set<String> = []
        for device in devices {
            guard let chardev = property("chardev", of: device.path)?.string, !chardev.isEmpty else { continue }
            used.insert(chardev)
            guard !Self.lines.contains(device.type) else { continue }
            let name = device.path.split(separator: "/").last.map(String.init) ?? device.path
            refuse(
                .device, name,
                "device \(name) (\(device.type)) is one half of a conversation with the program behind chardev \(chardev),"
                    + " whose state is not replicated; remove it")
        }
        for entry in try monitor.execute("query-chardev").array ?? [] {
            guard let label = entry["label"]?.string, let place = entry["filename"]?.string,
                used.contains(label) || Self.isBoards(label), Self.leavesHost(place)
            else { continue }
            notes.append(
                "chardev \(label) (\(place)) leads to another machine: what the guest says there is not held, and can be ahead"
                    + " of what the standby goes on from")
        }
    }

    /// Nil for a device without it.
    private func property(_ name: String, of path: String) -> JSONValue? {
        try? monitor.execute("qom-get", ["path": .string(path), "property": .string(name)])
    }

    /// The labels that `-serial` and its like give.
    private static func isBoards(_ label: String) -> Bool {
        ["serial", "parallel", "virtcon", "debugcon"].contains {
            label.hasPrefix($0) && Int(label.dropFirst($0.count)) != nil
        }
    }

    private static func leavesHost(_ place: String) -> Bool {
        let kind = place.hasPrefix("disconnected:") ? place.dropFirst(13) : place[...]
        return ["tcp:", "udp", "telnet:", "tn3270:", "websocket:", "tls"].contains { kind.hasPrefix($0) }
    }
}
