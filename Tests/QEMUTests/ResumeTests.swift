import Glibc
import Hypervisor
import LinuxSystem
import QEMU
import Testing

@Suite(.serialized, .timeLimit(.minutes(2))) struct ResumeTests {
    struct Shape: Sendable, CustomTestStringConvertible {
        var name: String
        var arguments: [String]
        var testDescription: String { name }
    }

    static let shapes = [
        Shape(name: "pc, 256 MiB, no video", arguments: ["-m", "256", "-vga", "none", "-nodefaults"]),
        Shape(
            name: "pc, 2 vCPUs, video, virtio-net, virtio-blk",
            arguments: [
                "-m", "128", "-smp", "2", "-vga", "std", "-nic", "user,model=virtio-net-pci", "-drive",
                "file=DISK,format=raw,if=virtio",
            ]),
        Shape(
            name: "q35, 4 vCPUs, video, e1000, AHCI disk",
            arguments: [
                "-M", "q35", "-m", "128M", "-smp", "4", "-vga", "std", "-netdev", "user,id=n0", "-device",
                "e1000,netdev=n0,id=eth0", "-drive", "file=DISK,format=raw,if=none,id=d0", "-device",
                "ide-hd,drive=d0,id=disk0",
            ]),
        Shape(
            name: "q35, 8 vCPUs, memory backend as JSON, two NICs, -blockdev",
            arguments: [
                "-machine", "type=q35,memory-backend=ram0", "-m", "256", "-smp", "8", "-nodefaults", "-vga", "none",
                "-object", #"{"qom-type":"memory-backend-ram","id":"ram0","size":268435456}"#,
                "-blockdev", #"{"driver":"file","filename":"DISK","node-name":"storage"}"#,
                "-blockdev", #"{"driver":"raw","file":"storage","node-name":"format"}"#,
                "-device", #"{"driver":"virtio-blk-pci","drive":"format","id":"vd0"}"#,
                "-netdev", "user,id=n0", "-netdev", "user,id=n1", "-device", "virtio-net-pci,netdev=n0,id=e0",
                "-device", "e1000,netdev=n1,id=e1,mac=52:54:00:aa:bb:cc",
            ]),
        Shape(name: "pc, 5 GiB, split around 4 GiB", arguments: ["-m", "5G", "-vga", "std", "-net", "none"]),
        Shape(
            name: "pc, two NUMA nodes",
            arguments: [
                "-m", "256", "-smp", "2", "-vga", "none", "-object", "memory-backend-ram,id=a,size=128M", "-object",
                "memory-backend-ram,id=b,size=128M", "-numa", "node,memdev=a,cpus=0", "-numa",
                "node,memdev=b,cpus=1",
            ]),
        Shape(
            name: "pc, memory slots with a module",
            arguments: [
                "-m", "128,slots=2,maxmem=1G", "-vga", "none", "-nodefaults", "-object",
                "memory-backend-ram,id=m1,size=128M",
                "-device", "pc-dimm,memdev=m1,id=dimm1",
            ]),
    ]

    /// A stopped primary and a standby that waits for its state.
    private struct Pair {
        let directory: TestDirectory
        let primary: RunningQEMU
        let monitor: QMPConnection
        let guest: GuestDescription
        let command: StandbyCommand
        let standby: StandbyProcess
        let state: [UInt8]

        func compose(_ stream: inout ResumeStream) throws(ResumeStreamError) {
            let inFiles = Set(command.memoryFiles.map(\.block))
            for (index, block) in guest.blocks.enumerated() where block.tracked && !inFiles.contains(block.name) {
                guard let bytes = try? primary.memory(at: block.hostAddress!, count: Int(block.length)) else {
                    continue
                }
                try bytes.span.withUnsafeBytes { contents throws(ResumeStreamError) in
                    try stream.pages(block: index, first: 0, contents: contents)
                }
            }
            try state.span.withUnsafeBytes { bytes throws(ResumeStreamError) in try stream.finish(deviceState: bytes) }
        }
    }

    private func pair(_ shape: Shape, adding extra: [String] = []) throws -> Pair {
        let directory = TestDirectory()
        let disk = try directory.file("disk.raw", size: 4 << 20)
        let arguments = shape.arguments.map { $0.replacing("DISK", with: disk) } + ["-display", "none"]
        let primary = try RunningQEMU(arguments, in: directory)
        let monitor = try primary.connect()
        // The firmware is at work: let it get somewhere, so that memory, video and devices hold something.
        _ = try monitor.waitForEvent(timeout: .milliseconds(700))
        try monitor.execute("stop")
        let guest = try GuestInspector.inspect(monitor)

        var options = StandbyOptions(runDirectory: "\(directory.path)/standby")
        mkdir(options.runDirectory, 0o700)
        let other = try directory.file("other.raw", size: 4 << 20)
        for drive in guest.disks where drive.isReplicated {
            options.disks[drive.name] = StandbyDisk(path: other, format: "raw")
        }
        options.overrides.add = extra
        let command = try StandbyCommand.derive(guest, options)
        #expect(command.missingFiles() == [])
        for file in command.memoryFiles { try copy(primary, guest, file) }
        let standby = try StandbyProcess(
            arguments: command.arguments, monitorPath: command.monitorPath, logPath: "\(options.runDirectory)/qemu.log")
        do {
            try standby.verify(against: guest)
            let state = try saveState(monitor, "\(directory.path)/a.state")
            return Pair(
                directory: directory, primary: primary, monitor: monitor, guest: guest, command: command,
                standby: standby, state: state)
        } catch {
            standby.kill()
            throw error
        }
    }

    @Test(arguments: shapes) func continuesWhereTheOtherStopped(_ shape: Shape) throws {
        let pair = try pair(shape)
        defer { pair.standby.kill() }
        let blocks = try pair.standby.resumeBlocks(pair.guest)
        let video = blocks.filter { $0.name.hasSuffix("/vga.vram") }
        for block in video { #expect(block.isBlank) }
        let timings = try pair.standby.resume(
            machineType: pair.guest.machineType, blocks: blocks, pair.compose)
        let monitor = pair.standby.monitor
        #expect(try monitor.execute("query-status")["status"] == "running")
        #expect(timings.prepare > 0 && timings.stream > 0 && timings.load > 0)
        // It really executes: the vCPUs' state changes while it runs.
        try monitor.execute("stop")
        let after = try saveState(monitor, "\(pair.directory.path)/b.state")
        let layouts = try [pair.state, after].map { state in
            try state.span.withUnsafeBytes { bytes throws(DeviceStateError) in try DeviceState.layout(of: bytes) }
        }
        #expect(layouts[0].difference(to: layouts[1]) == nil)
        // Others can migrate it, with all of its memory.
        try pair.standby.forgetSharing()
        let capabilities = try monitor.execute("query-migrate-capabilities").array ?? []
        #expect(capabilities.first { $0["capability"] == "x-ignore-shared" }?["state"] == false)
    }

    /// What is loaded and not decided yet: nothing of it may be seen, and an agent that comes back finds it.
    @Test func waitsLoadedAndSilentlyForWhoeverLetsItRun() throws {
        let network = try Datagrams()
        let pair = try pair(
            Shape(
                name: "pc, virtio-net on a datagram socket",
                arguments: [
                    "-m", "128", "-vga", "none", "-nodefaults", "-device", "virtio-net-pci,netdev=n0", "-netdev",
                    "socket,id=n0,udp=127.0.0.1:\(network.port),localaddr=127.0.0.1:0",
                ]))
        defer { pair.standby.kill() }
        network.drain()
        _ = try pair.standby.load(
            machineType: pair.guest.machineType, blocks: try pair.standby.resumeBlocks(pair.guest), pair.compose)
        #expect(!network.receives(within: 500))
        pair.standby.monitor.close()

        let found = try StandbyProcess(
            adopting: pair.standby.pid, monitorPath: pair.command.monitorPath, logPath: "/dev/null")
        #expect(found.isLoaded && !pair.standby.isLoaded)
        #expect(!network.receives(within: 200))
        try found.run()
        #expect(try found.monitor.execute("query-status")["status"] == "running")
        #expect(network.receives(within: 5000), "QEMU tells the network where the guest is now")
        do throws(StandbyError) {
            _ = try found.load(machineType: pair.guest.machineType, blocks: [], pair.compose)
            Issue.record("a state was loaded over the running guest")
        } catch {
            #expect(error.reason == .spent)
        }
    }

    /// A network of its own: what QEMU sends to it arrives here.
    private final class Datagrams {
        let port: UInt16
        private let number: Int32

        init() throws {
            number = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            let number = number
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            var size = socklen_t(MemoryLayout<sockaddr_in>.size)
            let isBound = withUnsafeMutableBytes(of: &address) { bytes in
                let pointer = bytes.assumingMemoryBound(to: sockaddr.self).baseAddress
                return bind(number, pointer, size) == 0 && getsockname(number, pointer, &size) == 0
            }
            port = UInt16(bigEndian: address.sin_port)
            try #require(isBound)
        }

        deinit { close(number) }

        func receives(within milliseconds: Int32) -> Bool {
            var entry = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
            return poll(&entry, 1, milliseconds) > 0
        }

        func drain() {
            var byte: UInt8 = 0
            while receives(within: 100) { _ = recv(number, &byte, 1, 0) }
        }
    }

    @Test(arguments: [shapes[1], shapes[2], shapes[5]])
    func loadsExactlyWhatWasSaved(_ shape: Shape) throws {
        let pair = try pair(shape, adding: ["-S"])
        defer { pair.standby.kill() }
        let monitor = pair.standby.monitor
        let blocks = try pair.standby.resumeBlocks(pair.guest)
        let sockets = try DescriptorPair.sockets()
        try monitor.execute("getfd", ["fdname": "resume"], descriptors: [sockets.second.number])
        try monitor.execute("migrate-incoming", ["uri": "fd:resume"])
        var stream = ResumeStream(descriptor: sockets.first.number, blocks: blocks)
        try stream.begin(machineType: pair.guest.machineType)
        try pair.compose(&stream)
        let deadline = ContinuousClock.now + .seconds(20)
        while try monitor.execute("query-status")["status"] == "inmigrate", ContinuousClock.now < deadline {}
        #expect(try monitor.execute("query-status")["status"] == "paused")

        let after = try saveState(monitor, "\(pair.directory.path)/b.state")
        let sections = try [pair.state, after].map { state in
            try state.span.withUnsafeBytes { bytes throws(DeviceStateError) in try DeviceState.sections(of: bytes) }
        }
        try #require(sections[0].count == sections[1].count)
        var different: [String] = []
        for (before, now) in zip(sections[0], sections[1])
        where pair.state[before.contents] != after[now.contents] {
            different.append(before.name)
        }
        // The clock chip counts on with the host's time, and IDE does not restore the sector of a retry that is not due.
        #expect(different.filter { $0 != "mc146818rtc" && !$0.hasSuffix("/ide") } == [])

        let twin = try GuestInspector.inspect(monitor)
        for (block, copy) in zip(pair.guest.blocks, twin.blocks) where block.tracked {
            let before = try pair.primary.memory(at: block.hostAddress!, count: Int(block.length))
            let now = try memory(of: pair.standby.pid, at: copy.hostAddress!, count: Int(copy.length))
            // A loop over arrays of this size takes a debug build seconds.
            #expect(memcmp(before, now, before.count) == 0, "\(block.name)")
        }
    }

    private func copy(_ primary: RunningQEMU, _ guest: GuestDescription, _ file: StandbyCommand.MemoryFile) throws {
        let block = try #require(guest.blocks.first { $0.name == file.block })
        let source = open("/proc/\(primary.pid)/mem", O_RDONLY | O_CLOEXEC)
        let target = open(file.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        defer {
            close(source)
            close(target)
        }
        try #require(ftruncate(target, off_t(file.length)) == 0)
        // Only what was touched: the rest of a large guest is zeros on both sides.
        let pagemap = open("/proc/\(primary.pid)/pagemap", O_RDONLY | O_CLOEXEC)
        defer { close(pagemap) }
        let start = try #require(block.hostAddress)
        var entries = [UInt64](repeating: 0, count: 65536)
        var page = [UInt8](repeating: 0, count: 4096)
        for first in stride(from: 0, to: Int(block.length / 4096), by: entries.count) {
            let count = min(entries.count, Int(block.length / 4096) - first)
            let offset = off_t((start / 4096 + UInt64(first)) * 8)
            try #require(pread(pagemap, &entries, count * 8, offset) == count * 8)
            for index in 0..<count where entries[index] >> 62 != 0 {
                let at = off_t((first + index) * 4096)
                try #require(pread(source, &page, 4096, off_t(start) + at) == 4096)
                try #require(pwrite(target, page, 4096, at) == 4096)
            }
        }
    }

    private func saveState(_ monitor: QMPConnection, _ path: String) throws -> [UInt8] {
        try monitor.execute("xen-save-devices-state", ["filename": .string(path), "live": false])
        return try contents(of: path)
    }
}
