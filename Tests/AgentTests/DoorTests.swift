import Agent
import Foundation
import Logging
import RomulusAPI
import Telemetry
import Testing

@Suite struct DoorTests {
    @Test(.enabled(if: geteuid() == 0, "needs root: a file of root's group"))
    func theSocketIsForRootAndItsGroupAndGoesAway() async throws {
        let path = try await withServer(group: "root") { _, socket, _ in
            var status = stat()
            #expect(stat(socket, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o660 && status.st_gid == 0)
            return socket
        }
        #expect(access(path, F_OK) != 0)
    }

    @Test func aSecondAgentIsRefusedAndADeadOnesSocketReplaced() async throws {
        try await withServer { agent, socket, _ in
            let second = APIServer(service: agent, socket: socket, logger: Logger(label: "test"))
            await #expect {
                try await second.run()
            } throws: { error in
                "\(error)".contains("another agent listens there")
            }
            // The first is unharmed.
            let health = try await AgentClient(socket: socket).health()
            #expect(health.node == "alpha")
        }
        // A socket that nobody listens on, as a killed agent leaves it.
        try await withServer { agent, first, _ in
            let path = first + ".dead"
            let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
            let bound = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            #expect(bound == 0)
            close(descriptor)
            let (ready, announce) = AsyncStream<Void>.makeStream()
            let server = APIServer(
                service: agent, socket: path, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            ) { _ in
                announce.finish()
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try? await server.run() }
                for await _ in ready {}
                let health = try await AgentClient(socket: path).health()
                #expect(health.node == "alpha")
                group.cancelAll()
            }
        }
    }

    @Test func whatIsInTheWayIsNeverRemoved() async throws {
        try await withServer { agent, socket, _ in
            let file = socket + ".file"
            try Data("mine".utf8).write(to: URL(fileURLWithPath: file))
            let server = APIServer(service: agent, socket: file, logger: Logger(label: "test"))
            await #expect {
                try await server.run()
            } throws: { error in
                "\(error)".contains("a file that is no socket is in the way")
            }
            #expect(try String(contentsOfFile: file, encoding: .utf8) == "mine")
            let grouped = APIServer(
                service: agent, socket: file + ".sock", group: "no-such-group", logger: Logger(label: "test"))
            await #expect {
                try await grouped.run()
            } throws: { error in
                "\(error)".contains("“no-such-group” of “api.group” does not exist")
            }
        }
    }

    /// systemd's side of the bargain, played by a socket: the agent says when its doors are open and when it goes.
    @Test func theServiceManagerIsTold() async throws {
        let path = "/tmp/romulus-test-notify-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        defer { unlink(path) }
        let manager = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(manager) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(manager, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(bound == 0)
        @Sendable func heard() -> String {
            var chunk = [UInt8](repeating: 0, count: 256)
            let count = recv(manager, &chunk, chunk.count, Int32(MSG_DONTWAIT))
            return String(decoding: chunk.prefix(max(count, 0)), as: UTF8.self)
        }
        try await withServer(notify: path) { _, _, _ in
            #expect(heard() == "READY=1")
            #expect(heard() == "")
        }
        #expect(heard() == "STOPPING=1")
        // Nobody listens any more: nothing is lost but the word.
        unlink(path)
        try await withServer(notify: path) { _, _, _ in }
    }

    @Test func metricsAreServedOverTCPAndNothingElseIs() async throws {
        try await withServer(metrics: HostPort(host: "127.0.0.1", port: 0)) { _, _, port in
            let port = try #require(port)
            let base = "http://127.0.0.1:\(port)"
            let (body, head) = try await curl("\(base)/metrics")
            #expect(body == "# HELP x X.\n# TYPE x gauge\nx 1\n")
            #expect(head.lowercased().contains("content-type: \(Registry.contentType)"))
            let (other, status) = try await curl("\(base)/v1/vms")
            #expect(status.hasPrefix("HTTP/1.1 404") && other.contains("bad_request"))
        }
    }

    @Test func aTakenMetricsPortIsReported() async throws {
        try await withServer(metrics: HostPort(host: "127.0.0.1", port: 0)) { agent, socket, port in
            let taken = HostPort(host: "127.0.0.1", port: try #require(port))
            let second = APIServer(
                service: agent, socket: socket + "2", metricsListen: taken,
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            await #expect {
                try await second.run()
            } throws: { error in
                "\(error)".hasPrefix("cannot listen on \(taken): ")
            }
        }
    }
}

/// A GET over TCP on loopback: body and head.
func curl(_ url: String) async throws -> (body: String, head: String) {
    let components = try #require(URLComponents(string: url))
    let port = try #require(components.port)
    let path = components.path
    return try await onOwnThread {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(connected == 0)
        let request = Array("GET \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".utf8)
        try #require(write(descriptor, request, request.count) == request.count)
        var reply: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            guard count > 0 else { break }
            reply += chunk[..<count]
        }
        let text = String(decoding: reply, as: UTF8.self)
        let parts = text.components(separatedBy: "\r\n\r\n")
        return (body: parts.dropFirst().joined(separator: "\r\n\r\n"), head: parts.first ?? "")
    }
}
