import Foundation
import Synchronization

/// A host of the bed: a network namespace, directories of its own, and the processes started in it.
public final class BedHost: Sendable {
    public let name: String
    /// The name below `/run/netns`.
    public let namespace: String
    /// The address on the replication link, and on the guest LAN; nil where the host is not attached.
    public let replicationAddress: String?
    public let lanAddress: String?
    /// For sockets, for what must survive a restart of an agent, for guest memory (tmpfs), and for the logs.
    public let runtimeDirectory: String
    public let stateDirectory: String
    public let shmDirectory: String
    public let logDirectory: String
    private let identity: UInt64
    private let children = Mutex<[Child]>([])

    init(name: String, run: String, replicationAddress: String?, lanAddress: String?) throws(BedError) {
        self.name = name
        self.namespace = "\(run)-\(name)"
        self.replicationAddress = replicationAddress
        self.lanAddress = lanAddress
        runtimeDirectory = "/tmp/\(run)/\(name)/run"
        stateDirectory = "/tmp/\(run)/\(name)/state"
        logDirectory = "/tmp/\(run)/\(name)/log"
        shmDirectory = "/dev/shm/\(run)/\(name)"
        for path in [runtimeDirectory, stateDirectory, logDirectory, shmDirectory] {
            do {
                try FileManager.default.createDirectory(
                    atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            } catch {
                throw BedError("\(path) cannot be made: \(error)")
            }
        }
        try Child.run(["ip", "netns", "add", namespace])
        guard let identity = Leftovers.identity(ofNamespace: namespace) else {
            throw BedError("namespace \(namespace) vanished as soon as it was made.")
        }
        self.identity = identity
        // Router solicitations of every bridge and veth would be noise among the frames that tests count.
        try Child.run(
            enter(["sh", "-c", "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $f; done 2>&-; true"]))
    }

    /// The command that runs `command` in this host. nsenter becomes the command: the process id is the command's.
    public func enter(_ command: [String]) -> [String] {
        ["nsenter", "--net=/run/netns/\(namespace)", "--"] + command
    }

    /// Starts a process in this host; its output goes to files in `logDirectory`.
    public func spawn(
        _ command: [String], name: String? = nil, environment: [String: String] = [:]
    ) throws(BedError) -> Child {
        let number = children.withLock { $0.count }
        let base = name ?? URL(fileURLWithPath: command[0]).lastPathComponent
        let child = try Child(
            enter(command), name: "\(base)-\(number)", logs: logDirectory, environment: environment)
        children.withLock { $0.append(child) }
        return child
    }

    /// Runs a short command in this host to its end and returns its standard output.
    @discardableResult
    public func run(_ command: [String], limit: Duration = .seconds(120)) throws(BedError) -> String {
        try Child.run(enter(command), limit: limit)
    }

    /// Runs `ip` with a list of its commands.
    func ip(_ lines: [String]) throws(BedError) {
        let path = "\(runtimeDirectory)/ip-batch"
        guard FileManager.default.createFile(atPath: path, contents: Data(lines.joined(separator: "\n").utf8)) else {
            throw BedError("\(path) cannot be written.")
        }
        try Child.run(["ip", "-n", namespace, "-batch", path])
    }

    /// Makes a tap, on the host's bridge, for one NIC of a guest. The same name may be used on every host. `kind` are words of
    /// “ip tuntap” (`vnet_hdr`, `multi_queue`).
    public func addTap(_ tap: String, kind: String = "") throws(BedError) {
        try ip(["tuntap add dev \(tap) mode tap \(kind)", "link set \(tap) master br0 up"])
    }

    /// Whether a network device of that name exists here.
    public func hasLink(_ link: String) -> Bool {
        (try? Child.run(["ip", "-n", namespace, "link", "show", "dev", link])) != nil
    }

    /// Takes a link (`repl0` replication, `lan0` the way to the guest LAN, or a tap) down or up.
    public func setLink(_ link: String, up: Bool) throws(BedError) {
        try ip(["link set \(link) \(up ? "up" : "down")"])
    }

    /// Drops every frame that arrives on a link of this host, or takes that back; what this host sends still leaves.
    public func dropIncoming(_ link: String, _ isDropped: Bool) throws(BedError) {
        let hook = "type filter hook ingress device \"\(link)\" priority 0; policy drop;"
        let rules = isDropped ? "table netdev cut {\nchain in {\n\(hook)\n}\n}" : "delete table netdev cut"
        try run(["nft", rules])
    }

    /// Drops what this host itself, with its agent, says to these addresses and hears from them, or takes that back. Frames of
    /// guests, which its bridge passes on, are not touched.
    public func cutOff(from addresses: [String], _ isCut: Bool) throws(BedError) {
        func chain(_ name: String, _ way: String) -> String {
            "chain \(name) {\ntype filter hook \(name) priority 0; policy accept;\n"
                + "ip \(way) { \(addresses.joined(separator: ", ")) } drop\n}"
        }
        let rules = "table inet cutoff {\n\(chain("input", "saddr"))\n\(chain("output", "daddr"))\n}"
        try run(["nft", isCut ? rules : "delete table inet cutoff"])
    }

    /// Lets a link of this host send no more than this, in megabits a second; nil lifts the limit.
    public func limitRate(_ link: String, megabits: Int?) throws(BedError) {
        let rule = megabits.map { ["tbf", "rate", "\($0)mbit", "burst", "128kb", "latency", "50ms"] } ?? ["pfifo"]
        try Child.run(["tc", "-n", namespace, "qdisc", "replace", "dev", link, "root"] + rule)
    }

    /// What a link of this host has sent, in bytes, as the kernel counts it.
    public func bytesSent(_ link: String) throws(BedError) -> UInt64 {
        try LinkCounters(link, in: try run(["cat", "/proc/net/dev"])).bytesSent
    }

    /// The frames that came in by a link of this host; by a tap: those that the guest's QEMU let out.
    public func framesReceived(_ link: String) throws(BedError) -> UInt64 {
        try LinkCounters(link, in: try run(["cat", "/proc/net/dev"])).framesReceived
    }

    /// All processes of this host, also those that its processes started.
    public var processes: [pid_t] { Leftovers.processes(inNamespaces: [identity]) }

    /// Those of them that are QEMU.
    public var qemus: [pid_t] {
        processes.filter { pid in
            let name = FileManager.default.contents(atPath: "/proc/\(pid)/comm") ?? Data()
            return String(decoding: name, as: UTF8.self).hasPrefix("qemu-system")
        }
    }

    /// Kills what was started by `spawn`, also where it has not entered the namespace yet.
    func killChildren() {
        let children = children.withLock { $0 }
        for child in children { child.kill() }
        for child in children { while child.isRunning { usleep(500) } }
    }

    /// Kills every process of this host with SIGKILL and waits until all are gone. The kernel of the host lives on:
    /// it closes the connections, so the peer is told.
    public func killAll() {
        // All at one moment: an agent must not see its guest die, and say so, before it dies itself.
        for pid in processes { _ = Glibc.kill(pid, SIGSTOP) }
        killChildren()
        Leftovers.killProcesses(inNamespaces: [identity])
    }

    /// The host loses its power: its links go silent first, so that no process and no kernel says goodbye.
    public func cutPower() throws(BedError) {
        let links = [replicationAddress.map { _ in "repl0" }, lanAddress.map { _ in "lan0" }].compactMap { $0 }
        try ip(links.map { "link set \($0) down" })
        killAll()
    }

    /// The ends of the logs, for the message of a failed test.
    public func logTail(lines: Int = 20) -> String {
        children.withLock { $0 }.map { child in
            let text = (child.output + child.errors).split(separator: "\n").suffix(lines).joined(separator: "\n")
            return "== \(name)/\(child.name) (\(child.exit.map { "\($0)" } ?? "running"))\n\(text)"
        }.joined(separator: "\n")
    }
}
