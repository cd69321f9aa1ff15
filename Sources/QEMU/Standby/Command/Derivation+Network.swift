extension Derivation {
    mutating func network(_ option: QEMUOption) throws(StandbyCommandError) {
        var value = OptionValue(option.value ?? "", impliedKey: "type")
        guard value["type"] == "tap" else {
            result.append(option)
            return
        }
        let id = value["id"] ?? ""
        let interface = value["ifname"]
        let passed = ["fd", "fds", "vhostfd", "vhostfds"].contains { value[$0] != nil }
        let here = options.taps[id] ?? interface.flatMap { options.taps[$0] } ?? interface
        guard let here else {
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
        result.append(QEMUOption(option.name, value.text))
    }
}
