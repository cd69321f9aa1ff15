import Agent
import Fencing
import Foundation
import Journal
import Logging
import Model
import NIOCore
import NIOPosix
import PKI
import RomulusAPI
import Telemetry
import TestBed
import Testing
import Transport
import Wire

/// The other hosts come and go while an agent runs.
@Suite(.timeLimit(.minutes(1))) struct HostsTests {
    private static func with(_ body: (Hosts) throws -> Void) throws {
        let directory = try TemporaryDirectory("hosts")
        defer { directory.remove() }
        let alpha = NodeName(unchecked: "alpha")
        _ = try CertificateAuthority.create(directory: directory.path).issue(node: alpha)
        var log = Logger(label: "hosts")
        log.logLevel = .critical
        let registry = Registry()
        let roster = Roster(node: "alpha", registry: registry) { _ in DesiredReport(protect: .manual) }
        let journal = EventJournal(path: "\(directory.path)/journal.sqlite") { Issue.record("\($0)") }
        defer { journal.close() }
        let hosts = Hosts(
            node: alpha, identity: try TLSIdentity.load(directory: directory.path, node: alpha),
            group: MultiThreadedEventLoopGroup.singleton,
            detection: Configuration.Detection(
                heartbeatMilliseconds: 50, silenceMilliseconds: 500, silenceFloorMilliseconds: 300),
            registry: registry, chronicle: Chronicle(log: log, journal: journal, roster: roster))
        defer { hosts.stop() }
        try body(hosts)
    }

    private static func peer(_ port: Int, fence: FenceCommand? = nil) -> Configuration.Peer {
        Configuration.Peer(address: HostPort(host: "127.0.0.1", port: port), fence: fence)
    }

    @Test func aHostComesAndGoes() throws {
        try Self.with { hosts in
            #expect(hosts.names.isEmpty && hosts["beta"] == nil)
            try hosts.add("beta", Self.peer(1))
            try hosts.start()
            try hosts.add("gamma", Self.peer(2, fence: FenceCommand(command: ["/bin/true"])))
            #expect(hosts.names == ["beta", "gamma"])
            #expect(Set(hosts.secondPaths.keys.map(\.description)) == ["beta", "gamma"])
            #expect(hosts.fences.keys.map(\.description) == ["gamma"])
            hosts.remove("gamma")
            hosts.remove("delta")
            #expect(hosts.names == ["beta"] && hosts.fences.isEmpty)
        }
    }

    @Test func aHostComesAnew() throws {
        try Self.with { hosts in
            try hosts.add("beta", Self.peer(1))
            let older = hosts["beta"]?.secondPath
            try hosts.add("beta", Self.peer(2))
            #expect(hosts["beta"]?.settings.address.port == 2)
            #expect(hosts["beta"]?.secondPath !== older)
        }
    }

    @Test func theOnlyHostIsTheUsualOne() throws {
        try Self.with { hosts in
            #expect(try hosts.usualPeer(nil) == nil)
            try hosts.add("gamma", Self.peer(1))
            #expect(try hosts.usualPeer(nil) == "gamma")
            try hosts.add("beta", Self.peer(2))
            #expect(try hosts.usualPeer(nil) == nil)
            #expect(try hosts.usualPeer("beta") == "beta")
            let error = #expect(throws: APIError.self) { try hosts.usualPeer("delta") }
            #expect(error?.code == .noSuchPeer)
            #expect(error?.message == "there is no peer “delta” in the configuration (known: beta, gamma)")
        }
    }

    @Test func aHostThatIsGoneIsNotDialled() throws {
        try Self.with { hosts in
            let error = #expect(throws: SessionError.self) {
                try hosts.connect(to: NodeName(unchecked: "beta"), NoHandler())
            }
            #expect(error == SessionError(.peerLost, "there is no peer “beta” in the configuration"))
        }
    }
}

private final class NoHandler: LinkHandler {
    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {}
    func linkClosed(_ link: Link, error: LinkError?) {}
}
