import Glibc
import Hypervisor
import QEMU
import Testing

/// Command lines of many origins through inspection and derivation, and where QEMU can start them here, through its
/// standby's start too.
@Suite(.serialized, .timeLimit(.minutes(5))) struct CorpusTests {
    @Test func isLargeAndNamesNothingTwice() {
        #expect(Shape.all.count >= 40)
        #expect(Set(Shape.all.map(\.name)).count == Shape.all.count)
    }

    /// What inspection and derivation say of lines that cannot be started here.
    @Test(arguments: Shape.all.filter { !$0.starts }) func tellsWithoutStarting(_ shape: Shape) throws {
        let fake = FakeGuest(arguments: shape.arguments(["dir": "/run"]))
        let (_, refusals) = GuestInspector.examine(try fake.monitor().connect())
        var problems = refusals.filter { [.device, .disk, .nic].contains($0.code) }.map(\.message)
        do {
            let command = try StandbyCommand.derive(fake.description, StandbyOptions(runDirectory: "/run/vm"))
            checkEnding(command)
        } catch {
            problems += error.problems
        }
        judge(shape, problems)
    }

    @Test(arguments: Shape.all.filter(\.starts)) func runsThroughQEMU(_ shape: Shape) throws {
        let directory = TestDirectory()
        let places = try Places(in: directory)
        let qemu = try RunningQEMU(
            ["-S", "-display", "none"] + shape.arguments(places.names), in: directory, name: "primary")
        let (description, refusals) = GuestInspector.examine(try qemu.connect())
        guard let guest = description, refusals.isEmpty else { return judge(shape, refusals.map(\.message)) }
        var options = StandbyOptions(runDirectory: "\(directory.path)/standby")
        try #require(mkdir(options.runDirectory, 0o700) == 0)
        for (index, disk) in guest.disks.enumerated() where disk.isReplicated {
            let path = try directory.file("standby/disk\(index)", size: Int(disk.virtualSize))
            options.disks[disk.name] = StandbyDisk(path: path, format: "raw")
        }
        for nic in guest.nics {
            if let interface = nic.interface { options.taps[interface] = "s" + interface }
        }
        let command: StandbyCommand
        do {
            command = try StandbyCommand.derive(guest, options)
        } catch {
            return judge(shape, error.problems)
        }
        checkEnding(command)
        judge(shape, [])
        for disk in options.disks.values { #expect(command.shellText.contains(disk.path), "\(command.shellText)") }
        for file in command.memoryFiles {
            let handle = open(file.path, O_RDWR | O_CREAT, 0o600)
            try #require(ftruncate(handle, off_t(file.length)) == 0)
            close(handle)
        }
        let standby = try StandbyProcess(
            arguments: command.arguments, monitorPath: command.monitorPath, logPath: "\(directory.path)/log")
        defer { standby.kill() }
        try standby.verify(against: guest)
        for nic in guest.nics where nic.netdev != nil { _ = try standby.nic(like: nic) }
    }

    private func judge(_ shape: Shape, _ problems: [String]) {
        switch shape.outcome {
        case .fine: #expect(problems.isEmpty, "\(shape.name)")
        case .refused(let words): #expect(problems.contains { $0.contains(words) }, "\(shape.name): \(problems)")
        }
    }

    /// Nothing of the primary's own process is left.
    private func checkEnding(_ command: StandbyCommand) {
        let names = command.options.map(\.name)
        for name in ["-S", "-daemonize", "-pidfile", "-readconfig", "-mon", "-vnc", "-spice", "-D", "-snapshot"] {
            #expect(!names.contains(name), "\(name): \(command.shellText)")
        }
        #expect(names.filter { $0 == "-qmp" }.count == 1 && names.suffix(1) == ["-incoming"])
        #expect(!command.shellText.contains("vhost=on"))
    }
}

/// Files and interfaces that the lines name.
private struct Places {
    let names: [String: String]

    init(in directory: TestDirectory) throws {
        var names = [
            "dir": directory.path, "tap": "cp\(getpid())", "raw": try directory.file("disk.raw", size: 8 << 20),
            "cd": try directory.file("cd.iso", size: 1 << 20),
            "floppy": try directory.file("floppy.img", size: 1_474_560),
            "flash": try directory.file("code.fd", size: 2 << 20),
            "vars": try directory.file("vars.fd", size: 128 << 10),
            "cfg": "\(directory.path)/machine.cfg", "qcow2": try directory.file("disk.qcow2", size: 1 << 20),
        ]
        names["key"] = try directory.file("master-key.aes", size: 32)
        try Self.write(Self.qcow2Header, to: names["qcow2"] ?? "")
        let text = """
            [device "port1"]
              driver = "pcie-root-port"
              bus = "pcie.0"
              addr = "1c.0"
              chassis = "1"
            """
        try Self.write(Array(text.utf8), to: names["cfg"] ?? "")
        self.names = names
    }

    private static func write(_ bytes: [UInt8], to path: String) throws {
        let file = open(path, O_RDWR | O_CREAT, 0o600)
        defer { close(file) }
        try #require(pwrite(file, bytes, bytes.count, 0) == bytes.count)
    }

    /// An empty image of 8 MiB with clusters of 64 KiB (docs/interop/qcow2.txt): header, refcount table and block, and the L1
    /// table in one cluster each.
    private static let qcow2Header: [UInt8] = {
        var bytes = [UInt8](repeating: 0, count: 4 << 16)
        func put(_ value: UInt64, _ size: Int, at offset: Int) {
            for index in 0..<size {
                bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * (size - 1 - index)))
            }
        }
        put(0x5146_49fb, 4, at: 0)
        put(2, 4, at: 4)
        put(16, 4, at: 20)
        put(8 << 20, 8, at: 24)
        put(1, 4, at: 36)
        put(3 << 16, 8, at: 40)
        put(1 << 16, 8, at: 48)
        put(1, 4, at: 56)
        put(2 << 16, 8, at: 1 << 16)
        for cluster in 0..<4 { put(1, 2, at: 2 << 16 + cluster * 2) }
        return bytes
    }()
}

/// A guest as its command line promises it, without a QEMU.
private struct FakeGuest: Sendable {
    var devices: [GuestDevice] = []
    var objects: [String] = []
    var nodes: [JSONValue] = []
    var network = ""
    var description: GuestDescription

    init(arguments: [String]) {
        description = .example(arguments: ["/usr/bin/qemu-system-x86_64"] + arguments)
        description.machineType = "pc-q35-7.2"
        var storages: [String: String] = [:]
        for (option, value) in zip(arguments, arguments.dropFirst()) {
            let fields = Self.fields(value)
            switch option {
            case "-device":
                let id = fields["id"] ?? "device[\(devices.count)]"
                let place = fields["id"] == nil ? "peripheral-anon" : "peripheral"
                devices.append(GuestDevice(path: "/machine/\(place)/\(id)", type: fields["driver"] ?? ""))
                guard let drive = fields["drive"] else { continue }
                description.disks.append(
                    GuestDisk(
                        name: drive, device: "", qdev: "/machine/\(place)/\(id)", node: drive, format: "raw",
                        file: "/d/\(drive)",
                        isBlockDevice: false, virtualSize: 1 << 20, readOnly: false, removable: false,
                        storage: storages[drive] ?? "file"))
            case "-object": objects.append(fields["qom-type"] ?? "")
            case "-blockdev":
                let (name, driver) = (fields["node-name"] ?? "", fields["driver"] ?? "")
                nodes.append(["node-name": .string(name), "drv": .string(driver)])
                storages[name] = fields["file"].flatMap { storages[$0] } ?? driver
            case "-netdev":
                network += "nic\(fields["id"] ?? ""): index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:00:00:01\n"
                network += " \\ \(fields["id"] ?? ""): index=0,type=\(fields["type"] ?? "")\n"
            default: break
            }
        }
        description.devices = devices.sorted { $0.path < $1.path }
    }

    private static func fields(_ text: String) -> [String: String] {
        if let object = (try? JSONValue(parsing: text))?.object { return object.compactMapValues(\.string) }
        var fields: [String: String] = [:]
        for (index, word) in text.split(separator: ",").enumerated() {
            let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
            if parts.count == 2 { fields[parts[0]] = parts[1] }
            if parts.count == 1, index == 0 { for key in ["driver", "type", "qom-type"] { fields[key] = parts[0] } }
        }
        return fields
    }

    func monitor() throws -> FakeMonitor {
        try FakeMonitor { [self] command, arguments in
            let list = { (found: [(String, String)]) in
                JSONValue.array(found.map { ["name": .string($0.0), "type": .string("child<\($0.1)>")] })
            }
            switch (command, arguments["path"]?.string) {
            case ("qom-list", let path?) where path.hasPrefix("/machine/"):
                return list(
                    devices.filter { $0.path.hasPrefix(path + "/") }.map {
                        (String($0.path.dropFirst(path.count + 1)), $0.type)
                    })
            case ("qom-list", "/objects"): return list(objects.enumerated().map { ("o\($0)", $1) })
            case ("query-named-block-nodes", _): return .array(nodes)
            case ("human-monitor-command", _):
                return arguments["command-line"] == "info network" ? .string(network) : ""
            case ("query-target", _): return ["arch": "x86_64"]
            case ("query-status", _): return ["status": "running"]
            case ("query-migrate", _), ("query-kvm", _), ("query-name", _), ("x-debug-query-block-graph", _): return [:]
            default: return command.hasPrefix("query-") ? [] : [:]
            }
        }
    }
}
