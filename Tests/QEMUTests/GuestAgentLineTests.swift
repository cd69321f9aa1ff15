import Glibc
import Hypervisor
import LinuxSystem
import Logging
import Model
import QEMU
import Testing

/// A client of a guest agent's socket, with this test or QEMU at the other end.
@Suite(.timeLimit(.minutes(2))) struct GuestAgentLineTests {
    /// Looks until there are answers, for a while.
    private func answers(_ line: QEMUAgentLine) -> [UInt64] {
        for _ in 0..<500 {
            let found = line.takeAnswers()
            if !found.isEmpty { return found }
            usleep(2000)
        }
        return []
    }

    private func receive(_ socket: Int32) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = recv(socket, &bytes, bytes.count, 0)
        return Array(bytes.prefix(max(count, 0)))
    }

    private func send(_ bytes: [UInt8], _ socket: Int32) {
        #expect(Glibc.send(socket, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count)
    }

    @Test func asksAndFindsAnswers() throws {
        let directory = TestDirectory()
        let listener = try LocalSocket.listen(at: "\(directory.path)/qga")
        let line = QEMUAgentLine("qga0", port: "agent0", path: "\(directory.path)/qga")
        #expect(!line.isOpen)
        line.open()
        let far = try LocalSocket.accept(listener)
        #expect(line.isOpen && line.takeAnswers().isEmpty)
        line.ask(77)
        let asked = receive(far.number)
        #expect(asked.first == 0xFF)
        #expect(
            String(decoding: asked.dropFirst(), as: UTF8.self)
                == "{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":77}}\n")
        send(Array("rubbish".utf8) + [0xFF] + Array("{\"return\": 7".utf8), far.number)
        #expect(line.takeAnswers().isEmpty)
        send(Array("7}\n".utf8) + [0xFF] + Array("{\"return\": 1}\n".utf8), far.number)
        #expect(answers(line) == [77, 1])
    }

    @Test func anEndIsNoticedAndALineOpenedAnew() throws {
        let directory = TestDirectory()
        let listener = try LocalSocket.listen(at: "\(directory.path)/qga")
        let line = QEMUAgentLine("qga0", port: nil, path: "\(directory.path)/qga")
        line.open()
        try LocalSocket.accept(listener).close()
        #expect(line.takeAnswers().isEmpty && !line.isOpen)
        line.open()
        let far = try LocalSocket.accept(listener)
        send([0xFF] + Array("{\"return\": 2}\n".utf8), far.number)
        #expect(answers(line) == [2])
        try far.close()
        for number in 0..<10 as Range<UInt64> { line.ask(number) }
        _ = line.takeAnswers()
        #expect(!line.isOpen)
    }

    /// What a guest writes without end keeps nobody busy, and one that reads nothing holds nobody up.
    @Test func neitherAFloodNorDeafnessBlocks() throws {
        let directory = TestDirectory()
        let listener = try LocalSocket.listen(at: "\(directory.path)/qga")
        let line = QEMUAgentLine("qga0", port: nil, path: "\(directory.path)/qga")
        line.open()
        let far = try LocalSocket.accept(listener)
        for number in 0..<20_000 as Range<UInt64> { line.ask(number) }
        #expect(line.isOpen, "there is no room any more, which is no end")
        let flood = [UInt8](repeating: 0x7B, count: 64 << 10)
        for _ in 0..<20 {
            while Glibc.send(far.number, flood, flood.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)) > 0 {}
            #expect(line.takeAnswers().isEmpty && line.isOpen)
        }
    }

    @Test(arguments: ["/nonexistent/qga", "/dev/null", "/" + String(repeating: "x", count: 200)])
    func whatIsNoSocketIsNotOpened(_ path: String) {
        let line = QEMUAgentLine("qga0", port: nil, path: path)
        line.open()
        line.ask(1)
        #expect(!line.isOpen && line.takeAnswers().isEmpty)
    }

    // MARK: - With QEMU

    private func guest(_ arguments: [String], _ directory: TestDirectory, _ body: (GuestHandle) throws -> Void) throws {
        let qemu = try RunningQEMU(["-S", "-display", "none"] + arguments, in: directory)
        try qemu.connect().close()
        let handle = try GuestHandle(
            vm: VMName(unchecked: "web"), qmpPath: qemu.monitorPath, log: Logger(label: "test"), elsewhere: { _ in [] })
        defer { handle.close() }
        try body(handle)
    }

    private func port(_ chardev: String, _ device: String = ",id=agent0") -> [String] {
        [
            "-device", "virtio-serial", "-chardev", chardev, "-device",
            "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0\(device)",
        ]
    }

    /// No guest runs, so the port is closed, and QEMU takes one client.
    @Test(arguments: [",id=agent0", ""]) func aPortIsFound(id: String) throws {
        let directory = TestDirectory()
        try guest(port("socket,path=\(directory.path)/qga,server=on,wait=off,id=qga0", id), directory) { guest in
            let line = try guest.agentLine()
            #expect(line.name == "qga0" && line.port == (id.isEmpty ? nil : "agent0"))
            line.open()
            #expect(line.isOpen)
            line.ask(1)
            #expect(line.takeAnswers().isEmpty)
            #expect(try guest.isAgentPortOpen(line) == false)
            // One that is in use is found as well.
            let second = try guest.agentLine()
            second.open()
            second.ask(2)
            #expect(second.takeAnswers().isEmpty)
            try guest.reset()
            #expect(try guest.isRunning() == false)
        }
    }

    @Test func aPortElsewhereIsNone() throws {
        let directory = TestDirectory()
        let cases: [([String], String)] = [
            ([], "its QEMU has no port “org.qemu.guest_agent.0”: see docs/RESTART.md for the options"),
            (port("null,id=qga0"), "its chardev qga0 (null) is no unix socket of QEMU's own"),
            (
                port("socket,host=127.0.0.1,port=0,server=on,wait=off,id=qga0"),
                "its chardev qga0 (disconnected:tcp:"
            ),
        ]
        for (arguments, words) in cases {
            try guest(arguments, directory) { guest in
                do {
                    _ = try guest.agentLine()
                    Issue.record("a line was found: \(arguments)")
                } catch let error as SessionError {
                    #expect(error.message.hasPrefix(words), "\(error.message)")
                }
            }
        }
    }
}
