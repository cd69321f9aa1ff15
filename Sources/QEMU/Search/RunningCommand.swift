import Hypervisor

/// What the command line of a QEMU tells about which guest it runs, and about the monitors that it offers.
package struct RunningCommand: Hashable {
    package var pid: Int32
    /// Of `-name`; empty where there is none.
    package var name = ""
    /// Of `-uuid`, in small letters; empty likewise.
    package var uuid = ""
    /// The sockets of QMP monitors at which anybody may connect, as paths. A relative one is one of QEMU's working directory.
    package var monitors: [String] = []
    /// It has the monitor that libvirt gives to each domain (`charmonitor`, src/qemu/qemu_command.c).
    package var isOfLibvirt = false

    package init(pid: Int32, arguments: some Sequence<String>) {
        self.pid = pid
        var sockets: [String: String] = [:]
        var control: [String] = []
        for option in CommandOption.parse(arguments) {
            let text = option.value ?? ""
            switch option.name {
            case "-name": name = OptionValue(text, impliedKey: "guest")["guest"] ?? name
            case "-uuid": uuid = text.lowercased()
            case "-qmp", "-qmp-pretty":
                if let path = Self.listening(text) { monitors.append(path) }
                if text.hasPrefix("chardev:") { control.append(String(text.dropFirst("chardev:".count))) }
            case "-chardev":
                let value = OptionValue(text, impliedKey: "backend")
                guard let id = value["id"] else { break }
                if id == Self.libvirtsMonitor { isOfLibvirt = true }
                guard value["backend"] == "socket", Self.isOn(value["server"]), let path = value["path"] else { break }
                sockets[id] = path
            case "-mon":
                let value = OptionValue(text, impliedKey: "chardev")
                if value["mode"] == "control", let id = value["chardev"] { control.append(id) }
            default: break
            }
        }
        monitors += control.filter { $0 != Self.libvirtsMonitor || !isOfLibvirt }.compactMap { sockets[$0] }
    }

    private static let libvirtsMonitor = "charmonitor"

    /// A switch of a chardev; the bare word reads as `on`.
    private static func isOn(_ value: String?) -> Bool { value == "on" || value == "yes" || value == "true" }

    /// The path in `unix:PATH,server=on,…` where QEMU listens there.
    private static func listening(_ text: String) -> String? {
        guard text.hasPrefix("unix:") else { return nil }
        let value = OptionValue(String(text.dropFirst("unix:".count)), impliedKey: "path")
        return isOn(value["server"]) ? value["path"] : nil
    }
}
