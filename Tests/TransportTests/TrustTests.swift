import Foundation
import Glibc
import Model
import NIOCore
import NIOPosix
import NIOSSL
import PKI
import TestBed
import Testing
import Transport
import Wire

/// Who is let in, and what those who are not are told.
@Suite(.timeLimit(.minutes(1))) struct TrustTests {
    @Test func otherAuthority() async throws {
        try await withGroup { group in
            let host = try await Host.start(group)
            // The dialer's own check comes first.
            guard
                case .peerCertificate(.otherAuthority)? = await cause({ () throws(LinkError) in
                    try await host.dial(group, identity: World.identity("stranger"))
                })
            else {
                Issue.record("the dialer trusted another authority")
                return
            }
            #expect(await host.refused.take().cause == .refusedByPeer("certificate unknown"))
            // A dialer that checks nothing is refused by the listener.
            let peer = try await RawPeer.tls(group, port: host.listener.port, identity: World.identity("stranger"))
            guard case .peerCertificate(.otherAuthority) = await host.refused.take().cause else {
                Issue.record("the listener trusted another authority")
                return
            }
            while await peer.received.take() != nil {}
            #expect(host.links.count == 0)
            await host.listener.shutdown()
        }
    }

    @Test func wrongName() async throws {
        try await withGroup { group in
            let host = try await Host.start(group)
            let cause = await cause { () throws(LinkError) in try await host.dial(group, expected: "gamma") }
            #expect(cause == .wrongPeer(expected: "gamma", found: "beta"))
            #expect(await host.refused.take().cause == .refusedByPeer("certificate unknown"))
            #expect(host.links.count == 0)
            await host.listener.shutdown()
        }
    }

    @Test func notAllowed() async throws {
        try await withGroup { group in
            let host = try await Host.start(group, allowed: ["gamma"])
            let first = await cause { () throws(LinkError) in try await host.dial(group) }
            #expect(first == .refusedByPeer("certificate unknown"))
            #expect(await host.refused.take().cause == .notAllowed(node: "alpha"))
            #expect(host.links.count == 0)

            try host.listener.update(identity: World.beta, allowed: ["alpha"])
            let link = try await host.dial(group)
            link.close()
            try host.listener.update(identity: World.beta, allowed: [])
            let last = await cause { () throws(LinkError) in try await host.dial(group) }
            #expect(last == .refusedByPeer("certificate unknown"))
            await host.listener.shutdown()
        }
    }

    @Test func expired() async throws {
        try await withGroup { group in
            let old = World.identity("old")
            let host = try await Host.start(group, allowed: ["old"])
            let theirs = await cause { () throws(LinkError) in try await host.dial(group, identity: old) }
            #expect(theirs == .refusedByPeer("certificate unknown"))
            #expect(await host.refused.take().cause == .peerCertificate(.expired(node: "old", at: old.facts.notAfter)))
            await host.listener.shutdown()

            let second = try await Host.start(group, identity: old)
            let ours = await cause { () throws(LinkError) in try await second.dial(group, expected: "old") }
            #expect(ours == .peerCertificate(.expired(node: "old", at: old.facts.notAfter)))
            await second.listener.shutdown()
        }
    }

    @Test func noCertificate() async throws {
        try await withGroup { group in
            let host = try await Host.start(group)
            let peer = try await RawPeer.tls(group, port: host.listener.port, identity: nil)
            #expect(await host.refused.take().cause == .peerCertificate(.noCertificate))
            #expect(await peer.received.take() == nil)
            #expect("\(await peer.errors.take())".contains("CERTIFICATE_REQUIRED"))
            #expect(host.links.count == 0)
            await host.listener.shutdown()
        }
    }

    @Test func olderTLS() async throws {
        try await withGroup { group in
            let host = try await Host.start(group)
            let peer = try await RawPeer.tls(
                group, port: host.listener.port, identity: World.alpha, maximum: .tlsv12)
            #expect(await host.refused.take().cause == .tlsVersion)
            #expect(await peer.received.take() == nil)
            await host.listener.shutdown()

            var configuration = try TLSConfiguration.server(World.beta)
            configuration.maximumTLSVersion = .tlsv12
            let server = try await rawListener(group, tls: configuration)
            let port = try #require(server.localAddress?.port)
            let cause = await cause { () throws(LinkError) in try await dial(group, port) }
            #expect(cause == .tlsVersion)
            try await server.close().get()
        }
    }

    @Test(arguments: ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "SSH-2.0-x\r\n", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}"])
    func plainText(_ text: String) async throws {
        try await withGroup { group in
            let host = try await Host.start(group)
            let peer = try await RawPeer.plain(group, port: host.listener.port)
            try await peer.write(ByteBuffer(string: text))
            #expect(await host.refused.take().cause == .notTLS)
            while await peer.received.take() != nil {}
            await host.listener.shutdown()
        }
    }

    /// Random bytes in TLS's clothes, and a port scanner.
    @Test func noise() async throws {
        try await withGroup { group in
            let host = try await Host.start(group)
            for seed in 1...20 as ClosedRange<UInt64> {
                var generator = Generator(seed: seed)
                let peer = try await RawPeer.plain(group, port: host.listener.port)
                try await peer.write(ByteBuffer(bytes: [0x16, 0x03, 0x01, 0x01, 0x00] + generator.bytes(256)))
                _ = await host.refused.take()
                while await peer.received.take() != nil {}
            }
            try await RawPeer.plain(group, port: host.listener.port).die()
            let visit = await host.refused.take().cause
            guard case .lost = visit else {
                Issue.record("a scanner's visit was taken for something else: \(visit)")
                return
            }
            let link = try await host.dial(group)
            link.close()
            await host.listener.shutdown()
        }
    }

    private func dial(
        _ group: MultiThreadedEventLoopGroup, _ port: Int, timeout: Duration = .seconds(20)
    ) async throws(LinkError) -> Link {
        try await LinkDialer.connect(
            host: "127.0.0.1", port: port, identity: World.alpha, expectedPeer: "beta", timeout: timeout, group: group,
            handler: Recorder())
    }

    @Test func nobodyListens() async throws {
        try await withGroup { group in
            // Bound and not listened on: the port refuses, and no other test can be given it meanwhile.
            let reserved = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(reserved) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let port = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                    bind(reserved, generic, length) == 0 && getsockname(reserved, generic, &length) == 0
                } ? Int(UInt16(bigEndian: pointer.pointee.sin_port)) : 0
            }
            try #require(port > 0)
            let error = await #expect(throws: LinkError.self) { try await dial(group, port) }
            #expect(error?.cause == .refused)
            #expect(error?.peer == "127.0.0.1:\(port)")
        }
    }

    @Test func portInUse() async throws {
        try await withGroup { group in
            let host = try await Host.start(group)
            let error = await #expect(throws: LinkError.self) {
                try await LinkListener.start(
                    host: "127.0.0.1", port: host.listener.port, identity: World.beta, allowed: [], group: group,
                    refused: { _ in }, makeHandler: { _ in Recorder() })
            }
            guard case .cannotListen? = error?.cause else {
                Issue.record("\(String(describing: error))")
                return
            }
            await host.listener.shutdown()
        }
    }

    @Test func silentListener() async throws {
        try await withGroup { group in
            let timeout = Duration.seconds(2)
            let silent = try await rawListener(group, tls: nil)
            let port = try #require(silent.localAddress?.port)
            let cause = await cause { () throws(LinkError) in try await dial(group, port, timeout: timeout) }
            #expect(cause == .timedOut(.handshake, after: timeout))
            try await silent.close().get()
        }
    }

    /// The kernel drops what wants to connect beyond a full backlog, as a firewall would.
    @Test func droppedConnection() async throws {
        try await withGroup { group in
            let full = try await ServerBootstrap(group: group).serverChannelOption(.backlog, value: 0)
                .serverChannelOption(.autoRead, value: false).bind(host: "127.0.0.1", port: 0).get()
            let port = try #require(full.localAddress?.port)
            // The first ones fill the backlog and wait for TLS, the others do not get there.
            let causes = await withTaskGroup(of: LinkError.Cause?.self) { tasks in
                for _ in 0..<4 {
                    tasks.addTask {
                        await cause { () throws(LinkError) in try await dial(group, port, timeout: .seconds(2)) }
                    }
                }
                return await tasks.reduce(into: []) { $0.append($1) }
            }
            #expect(causes.contains(.timedOut(.connecting, after: .seconds(2))), "\(causes)")
            let allowed: [LinkError.Cause] = [
                .timedOut(.connecting, after: .seconds(2)), .timedOut(.handshake, after: .seconds(2)),
            ]
            #expect(causes.allSatisfy { $0.map(allowed.contains) == true }, "\(causes)")
            try await full.close().get()
        }
    }

    /// TLS is up, the approval never comes.
    @Test func muteListener() async throws {
        try await withGroup { group in
            let timeout = Duration.seconds(2)
            let mute = try await rawListener(group, tls: .server(World.beta))
            let port = try #require(mute.localAddress?.port)
            let cause = await cause { () throws(LinkError) in try await dial(group, port, timeout: timeout) }
            #expect(cause == .timedOut(.greeting, after: timeout))
            try await mute.close().get()
        }
    }

    @Test func wrongGreeting() async throws {
        try await withGroup { group in
            let rude = try await rawListener(group, tls: .server(World.beta), greeting: frame(.hello))
            let first = await cause { () throws(LinkError) in try await dial(group, rude.localAddress?.port ?? 0) }
            #expect(first == .noGreeting(.hello))
            try await rude.close().get()

            let newer = try await rawListener(
                group, tls: .server(World.beta), greeting: frame(.heartbeat, version: 9))
            let second = await cause { () throws(LinkError) in try await dial(group, newer.localAddress?.port ?? 0) }
            #expect(second == .version(ours: FrameHeader.version, theirs: 9))
            try await newer.close().get()
        }
    }

    @Test func givenUp() async throws {
        try await withGroup { group in
            let silent = try await rawListener(group, tls: nil)
            let port = try #require(silent.localAddress?.port)
            let task = Task {
                await cause { () throws(LinkError) in try await dial(group, port, timeout: .seconds(50)) }
            }
            task.cancel()
            #expect(await task.value == .cancelled)
            try await silent.close().get()
        }
    }

    /// Connections that never finish their handshake end at the deadline.
    @Test(arguments: [[], [0x16], [0x16, 0x03, 0x01, 0x02, 0x00, 0x01]] as [[UInt8]])
    func slowHandshake(_ beginning: [UInt8]) async throws {
        try await withGroup { group in
            var options = LinkOptions()
            options.handshakeTimeout = .milliseconds(150)
            let host = try await Host.start(group, options: options)
            let peer = try await RawPeer.plain(group, port: host.listener.port)
            peer.writeIgnoringErrors(ByteBuffer(bytes: beginning))
            #expect(await host.refused.take().cause == .timedOut(.handshake, after: options.handshakeTimeout))
            #expect(await peer.received.take() == nil)
            await host.listener.shutdown()
        }
    }

    @Test func idleConnectionsMakeRoom() async throws {
        // One loop accepts in the order of connecting.
        try await withGroup(threads: 1) { group in
            var options = LinkOptions()
            options.handshakeTimeout = .seconds(50)
            let host = try await Host.start(group, options: options)
            var idle: [RawPeer] = []
            for _ in 0..<options.unauthenticatedMax {
                idle.append(try await RawPeer.plain(group, port: host.listener.port))
            }
            let link = try await host.dial(group)
            #expect(await host.refused.take().cause == .tooManyUnauthenticated(max: options.unauthenticatedMax))
            #expect(await idle[0].received.take() == nil)
            #expect(host.refused.count == 0)
            // The approved link gave its place back.
            idle.append(try await RawPeer.plain(group, port: host.listener.port))
            idle.append(try await RawPeer.plain(group, port: host.listener.port))
            #expect(await idle[1].received.take() == nil)
            for peer in idle { try await peer.die() }
            link.close()
            await host.listener.shutdown()
        }
    }
}

/// TLS can resume an earlier session without showing certificates again; a link must not.
@Suite(
    .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl"), "needs /usr/bin/openssl"),
    .timeLimit(.minutes(1)))
struct ResumptionTests {
    @Test func refused() async throws {
        try await withGroup { group in
            var template = Array("/tmp/romulus-resume-\(getpid())-XXXXXX".utf8CString)
            try #require(mkdtemp(&template) != nil)
            let directory = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let authority = try CertificateAuthority.create(directory: directory)
            let (alpha, beta) = (try NodeName(checking: "alpha"), try NodeName(checking: "beta"))
            _ = try authority.issue(node: alpha)
            _ = try authority.issue(node: beta)
            let recorder = Recorder()
            let host = try await Host.start(
                group, identity: try TLSIdentity.load(directory: directory, node: beta), handler: recorder)

            let arguments = [
                "s_client", "-connect", "127.0.0.1:\(host.listener.port)", "-tls1_3", "-CAfile", directory + "/ca.crt",
                "-cert", directory + "/alpha.crt", "-key", directory + "/alpha.key",
            ]
            // The first connection is approved, hears the greeting and leaves with a ticket.
            let first = try openssl(arguments + ["-sess_out", directory + "/ticket"])
            _ = await host.links.take()
            #expect(first.contains("Verify return code: 0 (ok)"), "\(first)")
            #expect(first.contains("RMLS"), "\(first)")
            _ = await recorder.closed.take()
            #expect(FileManager.default.fileExists(atPath: directory + "/ticket"))
            // The second one resumes it, and is not.
            let second = try openssl(arguments + ["-sess_in", directory + "/ticket"])
            #expect(second.contains("Reused, TLSv1.3"), "\(second)")
            #expect(!second.contains("RMLS"), "\(second)")
            guard case .tls = await host.refused.take().cause else {
                Issue.record("a resumed session was approved")
                return
            }
            #expect(host.links.count == 0)
            await host.listener.shutdown()
        }
    }

    /// Runs until the server's first bytes or the end of the connection.
    private func openssl(_ arguments: [String]) throws -> String {
        let logs = try TemporaryDirectory("openssl")
        defer { logs.remove() }
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        defer { close(ends[1]) }
        let child = try Child(["openssl"] + arguments, name: "openssl", logs: logs.path, input: ends[0])
        close(ends[0])
        var hasInput = true
        while child.isRunning {
            if hasInput, child.output.contains("RMLS") {
                // It leaves at the end of its input.
                try #require(write(ends[1], "Q\n", 2) == 2)
                hasInput = false
            }
            usleep(500)
        }
        return child.output + child.errors
    }
}
