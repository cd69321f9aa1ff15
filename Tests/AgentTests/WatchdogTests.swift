import Foundation
import Model
import PKI
import TestBed
import Testing

/// Who watches the agent: the real program, systemd's side played by a socket, the device by a file that answers as one.
@Suite(.serialized, .timeLimit(.minutes(2))) struct WatchdogTests {
    /// A directory and a loopback address that nobody else uses.
    struct Scene {
        let directory: String
        let address = "127.\(Int.random(in: 1...254)).\(Int.random(in: 1...254)).\(Int.random(in: 1...254))"
        let configuration: String

        static func with(_ more: String = "", _ body: (Scene) async throws -> Void) async throws {
            let directory = try TemporaryDirectory("watchdog", under: "/dev/shm")
            defer { directory.remove() }
            try await body(Scene(directory: directory.path, more))
        }

        private init(directory: String, _ more: String) throws {
            self.directory = directory
            configuration = "\(directory)/romulusd.yaml"
            let authority = try CertificateAuthority.create(directory: directory + "/pki")
            _ = try authority.issue(node: NodeName(checking: "alpha"))
            try """
            node: alpha
            listen: \(address):7310
            tls:
              ca: \(directory)/pki/ca.crt
              certificate: \(directory)/pki/alpha.crt
              key: \(directory)/pki/alpha.key
            state_directory: \(directory)/state
            runtime_directory: \(directory)/run
            memory_directory: \(directory)/memory
            \(more)
            """.write(toFile: configuration, atomically: true, encoding: .utf8)
        }

        func start(
            _ program: String = "romulusd", _ environment: [String: String] = [:]
        ) throws -> Child {
            try Child(
                [try Programs.path(program), "--config", configuration], name: program, logs: directory,
                environment: environment)
        }
    }

    /// systemd's socket.
    final class Manager: Sendable {
        let path = "/tmp/romulus-test-watchdog-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        private let descriptor: Int32

        init() throws {
            descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
            let bound = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            try #require(bound == 0)
        }

        deinit {
            close(descriptor)
            unlink(path)
        }

        /// What came since the last call.
        func heard() -> [String] {
            var words: [String] = []
            var chunk = [UInt8](repeating: 0, count: 256)
            while true {
                let count = recv(descriptor, &chunk, chunk.count, Int32(MSG_DONTWAIT))
                guard count > 0 else { return words }
                words.append(String(decoding: chunk.prefix(count), as: UTF8.self))
            }
        }

        func pets(within limit: Duration = .seconds(30), atLeast count: Int = 1) async throws {
            var found = 0
            try await eventually("the agent pets its service manager", within: limit) {
                found += heard().count { $0 == "WATCHDOG=1" }
                return found >= count ? true : nil
            }
        }

        /// Whether nothing comes for that long, after what was under way already.
        func isSilent(for time: Duration) async throws -> Bool {
            try await Task.sleep(for: .milliseconds(1500))
            _ = heard()
            try await Task.sleep(for: time)
            return !heard().contains("WATCHDOG=1")
        }

        var environment: [String: String] { ["NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000000"] }
    }

    @Test func theServiceManagerIsPettedWhileTheAgentRunsAndNotWhileItStandsStill() async throws {
        try await Scene.with { scene in
            let manager = try Manager()
            let agent = try scene.start("romulusd", manager.environment)
            defer { agent.kill() }
            try await manager.pets(atLeast: 4)
            kill(agent.pid, SIGSTOP)
            #expect(try await manager.isSilent(for: .seconds(2)))
            kill(agent.pid, SIGCONT)
            try await manager.pets()
        }
    }

    /// A witness runs under the same unit.
    @Test func aWitnessPetsItsServiceManagerToo() async throws {
        let address = "127.77.\(Int.random(in: 1...254)).\(Int.random(in: 1...254))"
        let more = "peers: {beta: {address: \"127.0.0.1:1\"}}\nwitness: {listen: \"\(address):7320\"}"
        try await Scene.with(more) { scene in
            let manager = try Manager()
            let witness = try scene.start("romulusd", manager.environment)
            defer { witness.kill() }
            try await manager.pets(atLeast: 4)
            kill(witness.pid, SIGSTOP)
            #expect(try await manager.isSilent(for: .seconds(2)))
        }
    }

    @Test func whatIsMeantForAnotherProcessIsLeftAlone() async throws {
        try await Scene.with { scene in
            let manager = try Manager()
            let agent = try scene.start(
                "romulusd", manager.environment.merging(["WATCHDOG_PID": "1"]) { $1 })
            defer { agent.kill() }
            var words: [String] = []
            try await eventually("the agent is ready", within: .seconds(30)) {
                words += manager.heard()
                return words.contains("READY=1") ? true : nil
            }
            try await Task.sleep(for: .seconds(1))
            #expect(!(words + manager.heard()).contains("WATCHDOG=1"))
        }
    }

    @Test func anAgentWithABlockedEventLoopDoesNotVouchForItself() async throws {
        try await Scene.with { scene in
            let manager = try Manager()
            let agent = try scene.start(
                "romulusd-planted", manager.environment.merging(["ROMULUS_PLANTED_FAULT": "block-event-loop"]) { $1 })
            defer { agent.kill() }
            try await manager.pets(atLeast: 2)
            try await eventually("the agent says that it is not petted any more", within: .seconds(20)) {
                (agent.errors + agent.output).contains("is not petted: event loop") ? true : nil
            }
            #expect(try await manager.isSilent(for: .seconds(3)))
            #expect(agent.isRunning)
        }
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: mounting with FUSE"))
    func theDeviceIsPettedAndDisarmedByAnOrderlyStop() async throws {
        let file = try WatchdogFile()
        defer { file.remove() }
        try await Scene.with("watchdog: {device: \(file.path), timeout_s: 4}") { scene in
            let agent = try scene.start()
            defer { agent.kill() }
            try await eventually("three pets", within: .seconds(30)) { file.seen.pets >= 3 ? true : nil }
            #expect(file.seen.timeouts == [4] && file.seen.opened == 1)
            kill(agent.pid, SIGSTOP)
            try await Task.sleep(for: .milliseconds(500))
            let before = file.seen.pets
            try await Task.sleep(for: .seconds(3))
            #expect(file.seen.pets == before)
            kill(agent.pid, SIGCONT)
            try await eventually("pets again", within: .seconds(30)) { file.seen.pets > before ? true : nil }
            kill(agent.pid, SIGTERM)
            try await eventually("the magic close", within: .seconds(30)) { file.seen.disarmed == 1 ? true : nil }
            #expect(file.seen.abandoned == 0)
        }
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: mounting with FUSE"))
    func anAgentThatIsKilledLeavesTheDeviceArmed() async throws {
        let file = try WatchdogFile()
        defer { file.remove() }
        try await Scene.with("watchdog: {device: \(file.path), timeout_s: 4}") { scene in
            let agent = try scene.start()
            defer { agent.kill() }
            try await eventually("a pet", within: .seconds(30)) { file.seen.pets > 0 ? true : nil }
            agent.kill()
            try await eventually("the close", within: .seconds(30)) { file.seen.abandoned == 1 ? true : nil }
            #expect(file.seen.disarmed == 0)
        }
    }

    @Test func aDeviceThatIsNotThereEndsTheStart() async throws {
        try await Scene.with("watchdog: {device: /dev/no-such-watchdog}") { scene in
            let agent = try scene.start()
            defer { agent.kill() }
            try await eventually("the end of the agent", within: .seconds(30)) { agent.isRunning ? nil : true }
            #expect(agent.exit == .code(1))
            #expect(agent.errors.contains("/dev/no-such-watchdog"), "\(agent.errors)")
        }
    }
}
