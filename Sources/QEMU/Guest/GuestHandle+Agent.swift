import Hypervisor
import Model

/// The agent that runs in the guest, and what its silence leads to.
extension GuestHandle {
    private static let portName = "org.qemu.guest_agent.0"
    private static let way = "see docs/RESTART.md for the options"

    package func agentLine() throws(SessionError) -> any GuestAgentLine {
        for device in description.devices where device.type == "virtserialport" {
            guard property("name", of: device)?.string == Self.portName,
                let chardev = property("chardev", of: device)?.string
            else { continue }
            let place = try chardevs().first { $0["label"]?.string == chardev }?["filename"]?.string ?? ""
            guard let path = Self.socketPath(place) else {
                throw SessionError(
                    .refused,
                    "its chardev \(chardev) (\(place)) is no unix socket of QEMU's own that a path leads to: \(Self.way)"
                )
            }
            let words = device.path.split(separator: "/")
            let port = words.dropLast().last == "peripheral" ? words.last.map(String.init) : nil
            let isWhole = path.hasPrefix("/")
            return QEMUAgentLine(
                chardev, port: port, path: isWhole ? path : "\(description.workingDirectory)/\(path)")
        }
        throw SessionError(.refused, "its QEMU has no port “\(Self.portName)”: \(Self.way)")
    }

    /// Nil for a device without it.
    private func property(_ name: String, of device: GuestDevice) -> JSONValue? {
        try? monitor.execute("qom-get", ["path": .string(device.path), "property": .string(name)])
    }

    /// The path of a socket at which QEMU listens, as it describes it: `unix:PATH,server=on`, with `disconnected:` before it while
    /// it has no client (chardev/char-socket.c). Of a socket that it was given as a descriptor the path shows with a client only.
    static func socketPath(_ place: String) -> String? {
        let prefix = "disconnected:"
        let socket = place.hasPrefix(prefix) ? place.dropFirst(prefix.count) : place[...]
        guard socket.hasPrefix("unix:"), socket.hasSuffix(",server=on") else { return nil }
        let path = socket.dropFirst("unix:".count).dropLast(",server=on".count)
        return path.isEmpty || path.contains(",abstract=on") ? nil : String(path)
    }

    package func isAgentPortOpen(_ line: any GuestAgentLine) throws(SessionError) -> Bool {
        try chardevs().first { $0["label"]?.string == line.name }?["frontend-open"]?.bool ?? false
    }

    private func chardevs() throws(SessionError) -> [JSONValue] {
        try process.execute("query-chardev", to: "tell its character devices").array ?? []
    }

    package func reset() throws(SessionError) { _ = try process.execute("system_reset", to: "reset the guest") }
}
