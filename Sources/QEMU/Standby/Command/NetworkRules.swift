import Hypervisor

/// The rules for netdevs: a tap is another one at the standby, and QEMU opens it by itself.
struct NetworkRules {
    /// Of the NICs whose netdev has a name of QEMU's own: those that a line was given an id for.
    private var namedNICs = 0

    mutating func network(_ option: CommandOption, _ draft: inout CommandDraft) throws(StandbyCommandError) {
        var value = OptionValue(option.value ?? "", impliedKey: "type")
        let nic = nic(option, value, draft.guest)
        guard value["type"] == "tap" else {
            draft.lines.append(option)
            return
        }
        let id = value["id"] ?? ""
        let interface = value["ifname"] ?? nic?.interface
        let passed = ["fd", "fds", "vhostfd", "vhostfds"].contains { value[$0] != nil }
        guard let here = draft.tap([id, nic?.netdev, nic?.name, interface]) ?? interface else {
            throw StandbyCommandError(
                option: option.description,
                problem: "it does not name its interface; say which tap netdev “\(id)” uses at the standby"
                    + " in the VM's standby taps")
        }
        if passed {
            // One descriptor for each queue.
            let queues = value["fds"]?.split(separator: ":").count ?? 1
            if queues > 1 { value.set("queues", .integer(Int64(queues))) }
            value.remove("fd", "fds", "vhostfd", "vhostfds")
            value.set("script", "no")
            value.set("downscript", "no")
        }
        value.remove("vhost", "vhostforce")
        value.set("ifname", .string(here))
        draft.lines.append(CommandOption(option.name, value.text))
    }

    /// The NIC of a netdev: by the netdev's id, else by the order of those for which QEMU made up a name (`#net050`).
    private mutating func nic(_ option: CommandOption, _ value: OptionValue, _ guest: GuestDescription) -> GuestNIC? {
        if let id = value["id"] { return guest.nics.first { $0.netdev == id } }
        guard !["nic", "none", "hubport"].contains(value["type"] ?? "") else { return nil }
        let unnamed = guest.nics.filter { $0.netdev?.hasPrefix("#") == true }
        guard namedNICs < unnamed.count else { return nil }
        namedNICs += 1
        return unnamed[namedNICs - 1]
    }
}
