import Glibc
import LinuxSystem
import QEMU
import Testing

/// What is added to a running VM, used, and taken away without a trace.
@Suite(.serialized, .timeLimit(.minutes(2))) struct DeviceTests {
    /// All that could show a trace.
    static func inventory(_ monitor: QMPConnection) throws -> [String: JSONValue] {
        var found: [String: JSONValue] = [:]
        for command in ["query-chardev", "query-block-jobs", "query-jobs", "query-fdsets"] {
            found[command] = try monitor.execute(command)
        }
        found["objects"] = try monitor.execute("qom-list", ["path": "/objects"])
        let nodes = try monitor.execute("query-named-block-nodes", ["flat": true]).array ?? []
        found["nodes"] = .array(nodes.compactMap { $0["node-name"] })
        // Not all of query-block: the firmware sets caching modes meanwhile.
        let drives = try monitor.execute("query-block").array ?? []
        found["drives"] = .array(drives.map { [$0["device"] ?? nil, $0["inserted"]?["node-name"] ?? nil] })
        found["descriptors"] = .string(Self.descriptors(monitor.peer.pid).joined(separator: "\n"))
        return found
    }

    /// What differs from `before`, in words.
    static func traces(_ monitor: QMPConnection, _ before: [String: JSONValue]) throws -> [String] {
        let now = try inventory(monitor)
        return before.keys.sorted().filter { now[$0] != before[$0] }.map { key in
            let was = before[key]?.description ?? ""
            let now = now[key]?.description ?? ""
            return "\(key): \(was) became \(now)"
        }
    }

    /// What the process has open, except for the eventfds of virtio queues, which come and go with the firmware's work.
    private static func descriptors(_ pid: Int32) -> [String] {
        guard let directory = opendir("/proc/\(pid)/fd") else { return [] }
        defer { closedir(directory) }
        var targets: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            var buffer = [UInt8](repeating: 0, count: 4096)
            let count = buffer.withUnsafeMutableBytes {
                readlink("/proc/\(pid)/fd/\(name)", $0.bindMemory(to: CChar.self).baseAddress!, $0.count)
            }
            let target = String(decoding: buffer[..<max(0, count)], as: UTF8.self)
            if !target.contains("eventfd") { targets.append(target) }
        }
        return targets.sorted()
    }

    /// An NBD server on a raw file by qemu-nbd; ends with the object.
    final class Server {
        let path: String
        private let pid: pid_t

        init(_ file: String, in directory: TestDirectory) throws {
            path = "\(directory.path)/nbd.sock"
            let arguments = ["qemu-nbd", "-f", "raw", "-t", "-e", "4", "-k", path, file]
            var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
            words.append(nil)
            defer { for word in words { free(word) } }
            var child: pid_t = 0
            try #require(posix_spawnp(&child, "qemu-nbd", nil, nil, words, environ) == 0)
            pid = child
            let deadline = ContinuousClock.now + .seconds(10)
            while access(path, F_OK) != 0, ContinuousClock.now < deadline { usleep(2000) }
        }

        func end() {
            kill(pid, SIGKILL)
            var info = siginfo_t()
            waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT)
        }

        deinit {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
    }

    private func disk(_ directory: TestDirectory, filled: Bool = true) throws -> String {
        let path = try directory.file("disk.raw", size: 8 << 20)
        if filled {
            let descriptor = open(path, O_WRONLY)
            defer { close(descriptor) }
            let bytes = (0..<1 << 20).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            try #require(pwrite(descriptor, bytes, bytes.count, 3 << 20) == bytes.count)
        }
        return path
    }

    @Test(arguments: [true, false]) func mirrorsADiskAndLeavesNoTrace(_ byPath: Bool) throws {
        let directory = TestDirectory()
        let path = try disk(directory)
        let copy = try directory.file("copy.raw", size: 8 << 20)
        let server = try Server(copy, in: directory)
        let qemu = try RunningQEMU(
            ["-m", "64", "-display", "none", "-nic", "none", "-drive", "file=\(path),format=raw,if=virtio"],
            in: directory)
        let monitor = try qemu.connect()
        let guest = try GuestInspector.inspect(monitor)
        let drive = try #require(guest.disks.first { $0.isReplicated })
        _ = try monitor.takeEvents()
        let before = try Self.inventory(monitor)

        let job: MirrorJob
        if byPath {
            job = try MirrorJob.start(monitor, disk: drive, index: 0, target: .path(server.path))
        } else {
            let socket = try LocalSocket.connect(to: server.path)
            job = try MirrorJob.start(monitor, disk: drive, index: 0, target: .descriptor(socket.number))
        }
        try job.awaitReady(monitor, timeout: .seconds(20))
        let progress = try #require(try job.progress(monitor))
        #expect(progress.isReady && progress.length == 8 << 20 && progress.offset == progress.length)
        try job.cancel(monitor)
        do {
            let traces = try Self.traces(monitor, before)
            #expect(traces.isEmpty, "\(traces)")
        }
        #expect(try contents(of: copy) == contents(of: path))
        #expect(try job.progress(monitor) == nil)
        // Again, which needs the names to be free; and a cancel of what is gone.
        _ = try MirrorJob.start(monitor, disk: drive, index: 0, target: .path(server.path))
        try job.cancel(monitor)
        try job.cancel(monitor)
        do {
            let traces = try Self.traces(monitor, before)
            #expect(traces.isEmpty, "\(traces)")
        }
    }

    @Test func reportsAMirrorThatLosesItsServer() throws {
        let directory = TestDirectory()
        let path = try disk(directory)
        let server = try Server(try directory.file("copy.raw", size: 8 << 20), in: directory)
        let qemu = try RunningQEMU(
            ["-m", "64", "-display", "none", "-nic", "none", "-drive", "file=\(path),format=raw,if=virtio"],
            in: directory)
        let monitor = try qemu.connect()
        let drive = try #require(try GuestInspector.inspect(monitor).disks.first { $0.isReplicated })
        let before = try Self.inventory(monitor)
        let job = try MirrorJob.start(monitor, disk: drive, index: 3, target: .path(server.path))
        try job.awaitReady(monitor, timeout: .seconds(20))
        server.end()
        // A write of the guest meets the dead server.
        _ = try monitor.monitor("qemu-io virtio0 \"write -P 5 0 4096\"")
        let event = try #require(
            try monitor.waitForEvent(timeout: .seconds(20)) { event in
                if case .failed = job.news(event) { true } else { false }
            })
        guard case .failed(let reason) = job.news(event) else { return }
        #expect(!reason.isEmpty)
        #expect(try job.progress(monitor) == nil)
        try job.cancel(monitor)
        do {
            let traces = try Self.traces(monitor, before)
            #expect(traces.isEmpty, "\(traces)")
        }
    }

    @Test func refusesAServerOfAnotherSize() throws {
        let directory = TestDirectory()
        let path = try disk(directory)
        let server = try Server(try directory.file("copy.raw", size: 4 << 20), in: directory)
        let qemu = try RunningQEMU(
            ["-S", "-m", "64", "-display", "none", "-nic", "none", "-drive", "file=\(path),format=raw,if=virtio"],
            in: directory)
        let monitor = try qemu.connect()
        let drive = try #require(try GuestInspector.inspect(monitor).disks.first { $0.isReplicated })
        let before = try Self.inventory(monitor)
        #expect(throws: DeviceError.self) {
            let job = try MirrorJob.start(monitor, disk: drive, index: 0, target: .path(server.path))
            try job.awaitReady(monitor, timeout: .seconds(20))
        }
        _ = try Leftovers.remove(monitor)
        do {
            let traces = try Self.traces(monitor, before)
            #expect(traces.isEmpty, "\(traces)")
        }
        #expect(throws: DeviceError.self) {
            try MirrorJob.start(monitor, disk: drive, index: 0, target: .path("\(directory.path)/none"))
        }
        do {
            let traces = try Self.traces(monitor, before)
            #expect(traces.isEmpty, "\(traces)")
        }
    }

    /// Two sockets joined to a QEMU's netdev: what comes out of it, and what is put in.
    static let networks = [
        [
            "-netdev", "socket,id=n0,udp=127.0.0.1:PORT1,localaddr=127.0.0.1:PORT2", "-device",
            "virtio-net-pci,netdev=n0",
        ],
        ["-netdev", "socket,id=n0,udp=127.0.0.1:PORT1,localaddr=127.0.0.1:PORT2", "-device", "e1000,netdev=n0"],
        ["-net", "nic,model=rtl8139", "-net", "socket,udp=127.0.0.1:PORT1,localaddr=127.0.0.1:PORT2"],
    ]

    /// A bound UDP socket on a free port, standing for the network.
    private func network() throws -> (descriptor: Int32, port: UInt16) {
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
            }
        }
        try #require(bound)
        return (descriptor, UInt16(bigEndian: address.sin_port))
    }

    private func receive(_ descriptor: Int32, timeout: Int32) -> [UInt8]? {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, timeout) == 1 else { return nil }
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = recv(descriptor, &bytes, bytes.count, 0)
        return count > 0 ? Array(bytes[..<count]) : nil
    }

    @Test(arguments: networks) func holdsAndReleasesOutputAndLeavesNoTrace(_ options: [String]) throws {
        let directory = TestDirectory()
        let outside = try network()
        defer { close(outside.descriptor) }
        let inside = try network()
        close(inside.descriptor)
        let arguments = options.map {
            $0.replacing("PORT1", with: String(outside.port)).replacing("PORT2", with: String(inside.port))
        }
        // The firmware's network boot asks for an address again and again: that is the guest's output.
        let qemu = try RunningQEMU(
            ["-S", "-m", "64", "-display", "none", "-boot", "n"] + arguments, in: directory)
        let monitor = try qemu.connect()
        let nic = try #require(try GuestInspector.inspect(monitor).nics.first)
        let netdev = try #require(nic.netdev)
        #expect(nic.backend == "socket")
        let before = try Self.inventory(monitor)
        var filter = try OutputFilter.install(monitor, netdev: netdev, index: 0, holding: true)
        try monitor.execute("cont")

        let held = filter.heldDescriptor
        var frame = try #require(receive(held, timeout: 20000))
        let length = frame.prefix(4).reduce(0) { $0 << 8 | Int($1) }
        while frame.count < 4 + length { frame += try #require(receive(held, timeout: 1000)) }
        #expect(receive(outside.descriptor, timeout: 100) == nil)
        try #require(send(filter.release.number, frame, 4 + length, 0) == 4 + length)
        #expect(receive(outside.descriptor, timeout: 5000) == Array(frame[4..<4 + length]))
        #expect(receive(outside.descriptor, timeout: 50) == nil)

        // With the gate open, what the guest sends goes out by itself.
        _ = try filter.openGate(monitor)
        #expect(receive(outside.descriptor, timeout: 20000) != nil)
        try monitor.execute("stop")
        try filter.remove(monitor)
        do {
            let traces = try Self.traces(monitor, before)
            #expect(traces.isEmpty, "\(traces)")
        }
    }

    @Test func cleansUpAfterAnAgentThatEnded() throws {
        let directory = TestDirectory()
        let path = try disk(directory)
        let server = try Server(try directory.file("copy.raw", size: 8 << 20), in: directory)
        let qemu = try RunningQEMU(
            [
                "-m", "64", "-display", "none", "-drive", "file=\(path),format=raw,if=virtio", "-nic",
                "user,id=n0,model=e1000",
            ], in: directory)
        let monitor = try qemu.connect()
        let guest = try GuestInspector.inspect(monitor)
        let before = try Self.inventory(monitor)
        do {
            let drive = try #require(guest.disks.first { $0.isReplicated })
            _ = try MirrorJob.start(monitor, disk: drive, index: 0, target: .path(server.path))
            _ = try OutputFilter.install(monitor, netdev: "n0", index: 0, holding: true)
            _ = try DeviceStateCapture.install(monitor)
        }
        #expect(try Self.inventory(monitor) != before)
        #expect(try Leftovers.remove(monitor).count == 4)
        do {
            let traces = try Self.traces(monitor, before)
            #expect(traces.isEmpty, "\(traces)")
        }
        #expect(try Leftovers.remove(monitor) == [])
    }
}
