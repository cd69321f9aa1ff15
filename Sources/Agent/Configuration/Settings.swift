import Journal
import Logging
import Model
import Protocol
import Transport

/// Every key of `romulusd.yaml`, in the order of the sample file.
enum Settings {
    static let hostNameForm = "the name of a host: 1-63 letters, digits, dots, dashes or underscores"
    private static let addressForm = "HOST:PORT, such as 10.0.0.1:7310 or [fd00::1]:7310"
    private static let pemForm = "the absolute path of a PEM file"

    static let node = Setting.value(
        "node", hostNameForm, hostName,
        "the name of this host: the one in its certificate and in the other hosts' “peers”", example: "alpha",
        place: .set)
    static let listen = Setting.value(
        "listen", addressForm, HostPort.init, default: address("0.0.0.0", 7310),
        "where the link from the other hosts is awaited: TLS 1.3 only, and both sides show a certificate")
    static let heartbeatListen = Setting.value(
        "heartbeat_listen", addressForm, HostPort.init,
        "where the heartbeats of the second path are awaited, where “listen” names one address only; see docs/DETECTION.md",
        absent: "none", example: "192.168.0.1:7310")

    enum TLS {
        static let ca = Setting.path(
            "ca", as: pemForm, "the authority's certificate", example: "/etc/romulus/pki/ca.crt", place: .set)
        static let certificate = Setting.path(
            "certificate", as: pemForm, "this host's certificate", example: "/etc/romulus/pki/alpha.crt", place: .set)
        static let key = Setting.path(
            "key", as: pemForm, "its key, which nobody else may read", example: "/etc/romulus/pki/alpha.key",
            place: .set)
        static let entry = SettingEntry.section(
            "tls", "written by “romulus pki init” and “romulus pki issue NODE”", place: .set,
            [ca.entry, certificate.entry, key.entry])
    }

    enum Peer {
        static let address = Setting.value(
            "address", addressForm, HostPort.init, "where it listens", example: "10.0.0.2:7310", place: .set)
        static let heartbeatAddress = Setting.value(
            "heartbeat_address", addressForm, HostPort.init,
            "its address in another network, such as the management network, for heartbeats: tells a dead link from a dead host",
            absent: "none", example: "192.168.0.2:7310")
        static let connections = Setting.integer(
            "connections", 1...LinkDialer.connectionsMax, default: 1,
            "connections that one VM's replication to it is spread over; one is enough on a short link, see docs/LINK.md"
        )
        static let fenceForm = "a list: the absolute path of a program, and its arguments"
        static let fenceCommand = Setting.text(
            "command", fenceForm, "ends with exit code 0 when the host is off for certain, and only then",
            example: "[/usr/local/sbin/fence-beta, --off]")
        static let fenceTimeout = Setting.integer(
            "timeout_ms", 100...600_000, default: 20_000, "after that it is killed and says nothing")
        static let fenceDelay = Setting.integer(
            "delay_ms", 0...600_000, "how long is waited before it is started",
            absent: "0 as a VM's primary, 3000 as its standby", example: "0")
        static let fence = SettingEntry.section(
            "fence",
            "what makes sure that it is off; both hosts need one, and a fenced host is one whose power was cut, see"
                + " docs/FENCING.md",
            [fenceCommand.entry, fenceTimeout.entry, fenceDelay.entry])
        static let entry = SettingEntry.section(
            "peers", "the other hosts, by the names in their certificates", place: .set, name: "beta",
            [address.entry, heartbeatAddress.entry, connections.entry, fence])
    }

    enum Arbiter {
        static let address = Setting.value(
            "address", "HOST:PORT, such as 10.0.0.3:7320 or [fd00::3]:7320", HostPort.init, "where the witness listens",
            example: "10.0.0.3:7320")
        static let node = Setting.value(
            "node", "the name in the witness's certificate", hostName, "its name", example: "gamma")
        static let endpointsForm = "a list of URLs such as https://10.0.0.3:2379"
        static let endpoints = Setting.value(
            "endpoints", endpointsForm,
            { text in
                let place = ["https://", "http://"].first { text.hasPrefix($0) }.map { text.dropFirst($0.count) }
                return place.flatMap { HostPort(String($0)) } == nil ? nil : text
            }, "the members of the cluster, all with https or all with http", place: .told)
        static let cluster = Setting.value(
            "cluster", "a name for this group of hosts: 1-63 letters, digits, dots, dashes or underscores",
            { hostName($0) == nil ? nil : $0 },
            "tells the registers of several groups apart", place: .told)
        static let ca = Setting.path(
            "ca", as: pemForm, "the authority's certificate", absent: "required with https", place: .told)
        static let certificate = Setting.path(
            "certificate", as: pemForm, "this host's certificate", absent: "required with https", place: .told)
        static let key = Setting.path("key", as: pemForm, "its key", absent: "required with https", place: .told)
        static let entry = SettingEntry.section(
            "arbiter",
            "who decides which host may run a VM when the two do not hear each other; see docs/ARBITERS.md. Without an"
                + " arbiter the operator does. Either a witness, a machine of its own whose romulusd.yaml is like"
                + " romulusd-witness.yaml; or an etcd cluster, of which at least one member is on neither host. Instead of"
                + " “witness” there is “etcd” then, with “endpoints”, a list such as [\"https://10.0.0.3:2379\","
                + " \"https://10.0.0.4:2379\"], and “cluster”, a name for this group of hosts; with https also “ca”,"
                + " “certificate” and “key”, paths of PEM files",
            [
                .section("witness", "", [address.entry, node.entry]),
                .section(
                    "etcd", "", place: .told,
                    [endpoints.entry, cluster.entry, ca.entry, certificate.entry, key.entry]),
            ])
    }

    enum Witness {
        static let listen = Setting.value(
            "listen", "HOST:PORT, such as 0.0.0.0:7320", HostPort.init, default: address("0.0.0.0", 7320),
            "where the hosts in “peers” are awaited")
        static let rightsForm = "a list of hosts from “peers”"
        static let entry = SettingEntry.section(
            "witness", "makes this machine a witness, which runs no VM; see romulusd-witness.yaml", place: .told,
            [
                listen.entry,
                .names(
                    "vms", rightsForm, "which hosts may own a VM and ask about it; all may where it is not listed",
                    place: .told, ["web: [alpha, beta]"]),
            ])
    }

    enum API {
        static let socket = Setting.value(
            "socket", "an absolute path of at most 107 bytes", socketPath, "what “romulus” talks to",
            absent: "romulusd.sock in “runtime_directory”", example: "/run/romulus/romulusd.sock")
        static let group = Setting.text(
            "group", "the name of a group", "may use it, as root may", absent: "none", example: "romulus")
        static let entry = SettingEntry.section("api", "the socket of the API", [socket.entry, group.entry])
    }

    enum Metrics {
        static let listen = Setting.value(
            "listen", addressForm, HostPort.init, "where they are served over TCP", absent: "none",
            example: "127.0.0.1:9731", place: .set)
        static let entry = SettingEntry.section(
            "metrics",
            "Prometheus metrics over TCP. They are always served on the API socket; without this key nowhere else",
            place: .set, [listen.entry])
    }

    enum Watchdog {
        static let device = Setting.path(
            "device", as: "the absolute path of a watchdog device, such as /dev/watchdog", "the device that resets it",
            example: "/dev/watchdog")
        static let timeout = Setting.integer(
            "timeout_s", 4...300, default: 10, "how long nothing may be heard, in seconds")
        static let entry = SettingEntry.section(
            "watchdog", "resets this host when its agent does not answer for itself any more; default: none",
            [device.entry, timeout.entry])
    }

    static let stateDirectory = Setting.path(
        "state_directory", default: "/var/lib/romulus", "terms, the journal and what else must survive a restart")
    static let runtimeDirectory = Setting.path(
        "runtime_directory", default: "/run/romulus", "sockets and logs of standby QEMUs")
    static let memoryDirectory = Setting.path(
        "memory_directory", default: "/dev/shm/romulus", "replicas' memory: a tmpfs with room for the guests' RAM")
    static let logLevel = Setting.choice(
        "log_level", Logger.Level.allCases.map { ($0.rawValue, $0) }, default: "info", "how much is logged")

    static let file: [SettingEntry] = [
        node.entry, listen.entry, heartbeatListen.entry, TLS.entry, Peer.entry, Arbiter.entry, Witness.entry, API.entry,
        Metrics.entry, Watchdog.entry, stateDirectory.entry, runtimeDirectory.entry, memoryDirectory.entry,
        logLevel.entry, Defaults.entry, Detection.entry, Journal.entry, QEMU.entry, Libvirt.entry, VM.entry,
    ]

    private static func address(_ host: String, _ port: Int) -> (value: HostPort, text: String) {
        let address = HostPort(host: host, port: port)
        return (address, "\(address)")
    }

    // MARK: - Forms that several share

    static func hostName(_ text: String) -> NodeName? {
        // A label of a certificate's name ends at 63.
        text.utf8.count <= 63 ? NodeName(text) : nil
    }

    static func socketPath(_ text: String) -> String? {
        // sun_path holds 108 bytes with the closing zero, unix(7).
        text.utf8.count <= 107 ? ConfigurationReader.absolutePath(text) : nil
    }
}
