import Hypervisor

extension Derivation {
    mutating func network(_ option: CommandOption) throws(StandbyCommandError) {
        var value = OptionValue(option.value ?? "", impliedKey: "type")
        let nic = nic(option, value)
        guard value["type"] == "tap" else {
            result.append(option)
            return
        }
        let id = value["id"] ?? ""
        let interface = value["ifname"] ?? nic?.interface
        let passed = ["fd", "fds", "vhostfd", "vhostfds"].contains { value[$0] != nil }
        guard let here = tap([id, nic?.netdev, nic?.name, interface]) ?? interface else {
            throw StandbyCommandError(
                option: option.description,
                problem: "it does not name its interface; say which tap netdev “\(id)” uses at the standby"
                    + " in the VM's standby taps")
        }
        if passed {
            value.remove("fd", "fds", "vhostfd", "vhostfds")
            value.set("script", "no")
            value.set("downscript", "no")
        }
        value.remove("vhost", "vhostforce")
        value.set("ifname", .string(here))
        result.append(CommandOption(option.name, value.text))
    }

    private mutating func tap(_ keys: [String?]) -> String? {
        for key in keys.compactMap(\.self) where !key.isEmpty {
            guard let mapped = options.taps[key] else { continue }
            used.insert(key)
            return mapped
        }
        return nil
    }

    /// The NIC of a netdev: by the netdev's id, else by the order of those for which QEMU made up a name (`#net050`).
    private mutating func nic(_ option: CommandOption, _ value: OptionValue) -> GuestNIC? {
        if let id = value["id"] { return guest.nics.first { $0.netdev == id } }
        guard !["nic", "none", "hubport"].contains(value["type"] ?? "") else { return nil }
        let unnamed = guest.nics.filter { $0.netdev?.hasPrefix("#") == true }
        guard namedNICs < unnamed.count else { return nil }
        namedNICs += 1
        return unnamed[namedNICs - 1]
    }
}
