import Glibc
import QEMU
import Testing

@Suite(.serialized, .timeLimit(.minutes(2))) struct QMPConnectionTests {
    private static func reason(_ path: String, timeout: Duration = .milliseconds(100)) -> QMPError.Reason? {
        do {
            _ = try QMPConnection(path: path, timeout: timeout)
            return nil
        } catch {
            return error.reason
        }
    }

    @Test func saysWhyItCannotConnect() throws {
        let directory = TestDirectory()
        #expect(Self.reason("\(directory.path)/none") == .noSuchPath)
        #expect(Self.reason(try directory.file("plain", size: 0)) == .notASocket)
        #expect(Self.reason("\(directory.path)/plain/below") == .noSuchPath)
        let gone = try FakePeer(in: directory)
        gone.stopListening()
        #expect(Self.reason(gone.path) == .refused)
        let text = QMPError(path: gone.path, reason: .refused).description
        #expect(text.contains(gone.path) && text.contains("is gone"))
    }

    @Test func refusesPathsThatFitNoAddress() throws {
        let directory = TestDirectory()
        let deep = directory.path + "/" + String(repeating: "x", count: 120)
        let short = try FakePeer(in: directory)
        try #require(rename(short.path, deep) == 0)
        #expect(Self.reason(deep) == .pathTooLong)
    }

    @Test func saysWhenSomebodyElseHoldsTheMonitor() throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-S", "-machine", "none", "-display", "none"], in: directory)
        let first = try qemu.connect()
        #expect(Self.reason(qemu.monitorPath) == .held)
        // Even when others wait already and the queue is full.
        let second = Self.reason(qemu.monitorPath)
        #expect(second == .held)
        #expect(try first.execute("query-status")["status"] == "prelaunch")
        first.close()
        let again = try qemu.connect()
        #expect(again.peer.pid == qemu.pid)
    }

    @Test func saysWhenItIsNoMonitor() throws {
        let directory = TestDirectory()
        let peer = try FakePeer(in: directory)
        for said in ["QEMU 7.2.22 monitor - type 'help'\r\n(qemu) ", "{\"a\": 1}\n", "(qemu) ", "{\"QMP\": {}}\n"] {
            peer.play { peer, connection in peer.say(said, to: connection) }
            guard case .notQMP = Self.reason(peer.path, timeout: .seconds(1)) else {
                Issue.record("“\(said)” was taken for a monitor")
                continue
            }
        }
    }

    @Test func readsGreetingEventsAndReplies() throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-S", "-machine", "none", "-display", "none"], in: directory)
        let monitor = try qemu.connect()
        #expect(monitor.peer.pid == qemu.pid)
        #expect(monitor.peer.uid == getuid())
        #expect(monitor.version.major >= 6)
        try monitor.execute("cont")
        try monitor.execute("stop")
        let events = try monitor.takeEvents()
        #expect(events.map(\.name) == ["RESUME", "STOP"])
        #expect(events[0].timestamp > 1_600_000_000_000_000)
        #expect(try monitor.takeEvents() == [])
        try monitor.execute("cont")
        #expect(try monitor.waitForEvent(timeout: .seconds(5)) { $0.name == "RESUME" }?.name == "RESUME")
        #expect(try monitor.waitForEvent(timeout: .zero) == nil)
        #expect(try monitor.monitor("info status").hasPrefix("VM status: running"))
    }

    @Test func givesQEMUsOwnWords() throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-S", "-machine", "none", "-display", "none"], in: directory)
        let monitor = try qemu.connect()
        do {
            try monitor.execute("no-such-command")
            Issue.record("it was carried out")
        } catch {
            #expect(
                error.reason
                    == .qemu(
                        command: "no-such-command", class: "CommandNotFound",
                        description: "The command no-such-command has not been found"))
            #expect(error.description.contains("QEMU said: The command no-such-command has not been found"))
        }
        #expect(monitor.isOpen)
    }

    @Test func sendsBatchesInOneGo() throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-S", "-machine", "none", "-display", "none"], in: directory)
        let monitor = try qemu.connect()
        let batch = [QMPCommand("cont"), QMPCommand("stop"), QMPCommand("query-status"), QMPCommand("cont")]
        let ids = try monitor.send(batch)
        #expect(ids.count == 4)
        // Awaited out of order: earlier replies are kept.
        #expect(try monitor.awaitValue(ids.lowerBound + 2)["status"] == "paused")
        try monitor.awaitReply(ids.lowerBound)
        try monitor.awaitReply(ids.lowerBound + 3)
        try monitor.awaitReply(ids.lowerBound + 1)

        let failing = try monitor.send([QMPCommand("stop"), QMPCommand("nonsense"), QMPCommand("stop")])
        #expect(throws: QMPError.self) { try monitor.awaitReplies(failing) }
        #expect(try monitor.execute("query-status")["status"] == "paused")
    }

    @Test func passesDescriptors() throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-S", "-machine", "none", "-display", "none"], in: directory)
        let monitor = try qemu.connect()
        let file = open(try directory.file("passed", size: 0), O_WRONLY)
        defer { close(file) }
        let set = try monitor.execute("add-fd", ["opaque": "test"], descriptors: [file])["fdset-id"]?.int64
        let sets = try monitor.execute("query-fdsets").array ?? []
        #expect(sets.compactMap { $0["fdset-id"]?.int64 } == [try #require(set)])
        #expect(throws: QMPError.self) { try monitor.execute("getfd", ["fdname": "x"]) }
        try monitor.execute("getfd", ["fdname": "x"], descriptors: [file])
        try monitor.execute("closefd", ["fdname": "x"])
    }

    @Test func noticesTheEndAndConnectsAnew() throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-S", "-machine", "none", "-display", "none"], in: directory)
        let monitor = try qemu.connect()
        try monitor.reconnect()
        #expect(try monitor.execute("query-status")["status"] == "prelaunch")
        kill(qemu.pid, SIGKILL)
        do {
            for _ in 0..<1000 { try monitor.execute("query-status") }
            Issue.record("a dead QEMU answers")
        } catch {
            #expect(error.reason == .closed)
        }
        #expect(!monitor.isOpen)
        do {
            try monitor.execute("query-status")
            Issue.record("a closed connection answers")
        } catch {
            #expect(error.reason == .closed)
        }
        qemu.awaitEnd()
        do {
            try monitor.reconnect(timeout: .milliseconds(100))
            Issue.record("a dead QEMU accepts")
        } catch {
            #expect(error.reason == .refused)
        }
    }

    @Test func noticesAnotherProcessAtTheSamePath() throws {
        let directory = TestDirectory()
        let monitor: QMPConnection
        let before: Int32
        do {
            let first = try RunningQEMU(["-S", "-machine", "none", "-display", "none"], in: directory)
            monitor = try first.connect()
            before = first.pid
        }
        let second = try RunningQEMU(["-S", "-machine", "none", "-display", "none"], in: directory)
        try second.connect().close()
        do {
            try monitor.reconnect()
            Issue.record("it was taken for the same")
        } catch {
            #expect(error.reason == .otherProcess(was: before, isNow: second.pid))
        }
    }

    @Test func timesOutAndPassesOverTheLateAnswer() throws {
        let directory = TestDirectory()
        let peer = try FakePeer(in: directory)
        peer.play { peer, connection in
            peer.say(FakePeer.greeting, to: connection)
            _ = peer.read(from: connection)
            peer.say("{\"return\": {}, \"id\": 1}\r\n", to: connection)
            _ = peer.read(from: connection)
            // The next command makes the first one's answer come.
            _ = peer.read(from: connection)
            peer.say(
                "{\"return\": {\"late\": true}, \"id\": 2}\r\n{\"return\": {\"late\": false}, \"id\": 3}\r\n",
                to: connection)
        }
        let monitor = try QMPConnection(path: peer.path)
        do {
            try monitor.execute("slow", timeout: .milliseconds(50))
            Issue.record("it was answered")
        } catch {
            #expect(error.reason == .timedOut(command: "slow"))
        }
        #expect(try monitor.execute("fast")["late"] == false)
    }

    @Test(arguments: ["not json\n", "{\"return\": \n", "{\"return\": {}, \"id\": 2} x\n", "\u{1}\n"])
    func givesUpOnNonsense(_ line: String) throws {
        let directory = TestDirectory()
        let peer = try FakePeer(in: directory)
        peer.play { peer, connection in
            peer.say(FakePeer.greeting, to: connection)
            _ = peer.read(from: connection)
            peer.say("{\"return\": {}, \"id\": 1}\r\n", to: connection)
            _ = peer.read(from: connection)
            peer.say(line, to: connection)
        }
        let monitor = try QMPConnection(path: peer.path)
        do {
            try monitor.execute("query-status", timeout: .seconds(5))
            Issue.record("nonsense was understood")
        } catch {
            guard case .malformed = error.reason else {
                Issue.record("\(error)")
                return
            }
        }
        #expect(!monitor.isOpen)
    }

    @Test func boundsItsQueues() throws {
        let directory = TestDirectory()
        let peer = try FakePeer(in: directory)
        peer.play { peer, connection in
            peer.say(FakePeer.greeting, to: connection)
            _ = peer.read(from: connection)
            peer.say("{\"return\": {}, \"id\": 1}\r\n", to: connection)
            for number in 0..<QMPConnection.eventsMax + 10 {
                peer.say(
                    #"{"event": "E\#(number)", "timestamp": {"seconds": 1, "microseconds": 2}}"# + "\n", to: connection)
            }
            peer.say(#"{"event": "LAST"}"# + "\n", to: connection)
            let chunk = String(repeating: "x", count: 1 << 20)
            for _ in 0..<18 { peer.say(chunk, to: connection) }
        }
        let monitor = try QMPConnection(path: peer.path)
        #expect(try monitor.waitForEvent(timeout: .seconds(20)) { $0.name == "LAST" } != nil)
        #expect(monitor.eventsDropped == 11)
        do {
            _ = try monitor.waitForEvent(timeout: .seconds(20)) { $0.name == "NEVER" }
            Issue.record("an endless line was kept")
        } catch {
            #expect(error.reason == .lineTooLong)
        }
    }
}
