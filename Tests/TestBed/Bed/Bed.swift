import Foundation
import Synchronization

/// Two hosts, a replication link, a guest LAN, a client and a third machine:
///
///     a  repl0 10.77.0.1 ------------------ 10.77.0.2 repl0  b
///     a  br0(tapN, lan0) --- lan: br-g --- br0(tapN, lan0)   b
///                             |  |
///      client  lan0 10.78.0.1/16  witness lan0 10.78.0.4/16
///
/// Hosts have 10.78.0.2 and 10.78.0.3 on `br0`; guests take 10.78.1.x. All of it lives in namespaces of this run, so
/// the same plan serves any number of beds at once. A guard process removes everything when this process ends, in
/// whatever way it ends; `tearDown` uses the same guard.
public final class Bed: Sendable {
    public let run: String
    public let a: BedHost
    public let b: BedHost
    public let client: BedHost
    /// A machine that runs no guests.
    public let witness: BedHost
    /// The switch of the guest LAN: the place to look at frames of both hosts.
    public let lan: BedHost
    public var hosts: [BedHost] { [a, b] }
    private let keeper: Guard

    private static let counter = Atomic<Int>(0)

    public init() throws(BedError) {
        Leftovers.sweep()
        let run = Leftovers.runName(Self.counter.add(1, ordering: .relaxed).newValue)
        self.run = run
        keeper = try Guard(run: run)
        do throws(BedError) {
            (lan, a, b, client, witness) = try Self.lock { () throws(BedError) in
                (
                    try BedHost(name: "lan", run: run, replicationAddress: nil, lanAddress: nil),
                    try BedHost(name: "a", run: run, replicationAddress: "10.77.0.1", lanAddress: "10.78.0.2"),
                    try BedHost(name: "b", run: run, replicationAddress: "10.77.0.2", lanAddress: "10.78.0.3"),
                    try BedHost(name: "client", run: run, replicationAddress: nil, lanAddress: "10.78.0.1"),
                    try BedHost(name: "witness", run: run, replicationAddress: nil, lanAddress: "10.78.0.4")
                )
            }
            try connect()
        } catch {
            keeper.release()
            throw error
        }
    }

    /// Makes a bed, runs `body` and removes the bed, also when `body` fails; then the error carries the hosts' logs.
    public static func with<Result: Sendable>(
        _ body: (Bed) async throws -> Result
    ) async throws -> Result {
        let bed = try Bed()
        defer { bed.tearDown() }
        do {
            return try await body(bed)
        } catch {
            throw BedError(
                "\(error)\n\((bed.hosts + [bed.client, bed.witness]).map { $0.logTail() }.joined(separator: "\n"))")
        }
    }

    private func connect() throws(BedError) {
        let bridge = "type bridge forward_delay 0 mcast_snooping 0"
        try lan.ip(
            ["link set lo up", "link add br-g \(bridge)", "link set br-g up"]
                + [a, b, client, witness].flatMap { host in
                    [
                        "link add port-\(host.name) type veth peer name lan0 netns \(host.namespace)",
                        "link set port-\(host.name) master br-g up",
                    ]
                })
        try a.ip(["link add repl0 type veth peer name repl0 netns \(b.namespace)"])
        for host in hosts {
            try host.ip([
                "link set lo up", "link add br0 \(bridge)", "link set lan0 master br0 up", "link set br0 up",
                "address add \(host.lanAddress ?? "")/16 dev br0", "link set repl0 up",
                "address add \(host.replicationAddress ?? "")/24 dev repl0",
            ])
        }
        for host in [client, witness] {
            try host.ip([
                "link set lo up", "link set lan0 up", "address add \(host.lanAddress ?? "")/16 dev lan0",
            ])
        }
    }

    /// Kills every process of the bed and removes its namespaces and directories. Can be called more than once.
    public func tearDown() {
        for host in [a, b, client, witness, lan] { host.killChildren() }
        keeper.release()
    }

    deinit { tearDown() }

    /// `ip netns add` makes `/run/netns` a mount point on first use; two at once would each do it.
    private static func lock<Result>(_ body: () throws(BedError) -> Result) throws(BedError) -> Result {
        let lock = try FileLock("/tmp/rmls-netns.lock")
        defer { lock.release() }
        return try body()
    }
}

/// A process that waits for the end of this one, by end of file on a socket, and then removes what the run left. It is
/// the only way that a run is removed: a test that passes, fails, is interrupted or is killed all end here.
final class Guard: Sendable {
    private let process: Child
    private let end: Mutex<Int32?>

    init(run: String) throws(BedError) {
        var ends: [Int32] = [0, 0]
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw BedError("no pair of sockets: \(String(cString: strerror(errno))).")
        }
        defer { close(ends[0]) }
        end = Mutex(ends[1])
        do throws(BedError) {
            let logs = "/tmp/\(run)"
            guard mkdir(logs, 0o700) == 0 else {
                throw BedError("\(logs) cannot be made: \(String(cString: strerror(errno))).")
            }
            process = try Child(
                [Programs.path("romulus-bed-client"), "guard", run], name: "guard", logs: logs, input: ends[0])
        } catch {
            close(ends[1])
            throw error
        }
    }

    func release() {
        guard let end = end.withLock({ $0.take() }) else { return }
        close(end)
        while process.isRunning { usleep(1000) }
    }
}

/// An advisory lock between processes, freed by the kernel when its holder dies.
struct FileLock {
    private let descriptor: Int32

    init(_ path: String) throws(BedError) {
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw BedError("\(path): \(String(cString: strerror(errno))).") }
        while flock(descriptor, LOCK_EX) != 0 {
            guard errno == EINTR else { throw BedError("\(path): \(String(cString: strerror(errno))).") }
        }
    }

    func release() { close(descriptor) }
}
