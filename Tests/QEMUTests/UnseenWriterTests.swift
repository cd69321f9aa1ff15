import QEMU
import Testing

/// Devices that this machine cannot have, as a monitor would tell of them.
@Suite struct UnseenWriterTests {
    private func refusals(
        devices: [String] = [], objects: [String] = [], nodes: [JSONValue] = [], chardevs: [JSONValue] = []
    ) throws -> [Refusal] {
        var notes: [String] = []
        return try refusals(devices: devices, objects: objects, nodes: nodes, chardevs: chardevs, &notes)
    }

    private func refusals(
        devices: [String], objects: [String], nodes: [JSONValue], chardevs: [JSONValue], _ notes: inout [String]
    ) throws -> [Refusal] {
        let list = { @Sendable (types: [String]) in
            JSONValue.array(types.enumerated().map { ["name": .string("x\($0)"), "type": .string("child<\($1)>")] })
        }
        let monitor = try FakeMonitor { command, arguments in
            switch (command, arguments["path"]?.string) {
            case ("qom-list", "/machine/peripheral"): list(devices)
            case ("qom-list", "/objects"): list(objects)
            case ("query-named-block-nodes", _): .array(nodes)
            case ("human-monitor-command", _): ""
            case ("query-chardev", _): .array(chardevs)
            case ("qom-get", let path?) where path.hasPrefix("/machine/peripheral/") && !chardevs.isEmpty: "c0"
            case ("query-target", _): ["arch": "x86_64"]
            case ("query-status", _): ["status": "running"]
            default:
                command.hasPrefix("query-") && !["query-migrate", "query-kvm", "query-name"].contains(command)
                    ? [] : [:]
            }
        }
        let (description, refusals) = GuestInspector.examine(try monitor.connect())
        notes = description?.notes ?? []
        return refusals
    }

    @Test(arguments: [
        ("tpm-tis", "TPM"), ("tpm-crb", "TPM"), ("tpm-tis-device", "TPM"), ("vhost-vdpa-device-pci", "unseen"),
        ("vfio-user-pci", "passed-through"), ("virtio-vga-gl", "3D"), ("virtio-gpu-rutabaga-pci", "3D"),
        ("virtio-gpu-gl-pci", "3D"), ("pvrdma", "unseen"), ("x-pci-proxy-dev", "unseen"),
    ]) func refusesTheDevice(_ type: String, _ word: String) throws {
        let found = try refusals(devices: ["virtio-net-pci", type]).filter { $0.code == .device }
        #expect(found.count == 1 && found.first?.subject == "x1", "\(found)")
        #expect(found.first?.message.contains("(\(type)) cannot be protected") == true)
        #expect(found.first?.message.contains(word) == true, "\(found)")
    }

    @Test(arguments: ["cryptodev-vhost-user", "x-vfio-user-server", "x-remote-object"])
    func refusesTheObject(_ type: String) throws {
        let found = try refusals(objects: ["iothread", type]).filter { $0.code == .device }
        #expect(found.map(\.subject) == ["x1"])
        #expect(found.first?.message.contains("unseen") == true, "\(found)")
    }

    @Test(arguments: ["nvme", "nvme-io_uring", "virtio-blk-vfio-pci", "virtio-blk-vhost-user", "virtio-blk-vhost-vdpa"])
    func refusesTheBlockDriver(_ driver: String) throws {
        let found = try refusals(nodes: [
            ["node-name": "cd", "drv": "raw", "file": "x"], ["node-name": "low", "drv": .string(driver), "file": "x"],
        ]).filter { $0.code == .disk }
        #expect(found.map(\.subject) == ["low"])
        #expect(found.first?.message.contains("host_device on /dev/") == true, "\(found)")
    }

    @Test func letsOrdinaryDevicesBe() throws {
        let found = try refusals(
            devices: ["virtio-vga", "virtio-gpu-pci", "virtio-net-pci", "nvme", "usb-tablet"],
            objects: ["iothread", "rng-random", "throttle-group"],
            nodes: [["node-name": "n", "drv": "raw"], ["node-name": "f", "drv": "throttle"]])
        #expect(!found.contains { [.device, .disk].contains($0.code) }, "\(found)")
    }

    /// A chardev is a line of bytes for some devices, and for others the other half of a device.
    @Test(arguments: [
        ("virtserialport", false), ("isa-serial", false), ("isa-debugcon", false), ("usb-redir", true),
        ("ccid-card-passthru", true), ("ipmi-bmc-extern", true), ("x-new-device", true),
    ]) func knowsWhichChardevsAreLines(_ type: String, _ isRefused: Bool) throws {
        let found = try refusals(devices: [type], chardevs: [["label": "c0", "filename": "unix:/x,server=on"]])
            .filter { $0.code == .device }
        #expect(found.isEmpty != isRefused, "\(found)")
    }

    @Test(arguments: ["filter-mirror", "filter-redirector", "can-host-socketcan", "colo-compare"])
    func refusesWhatTakesOutputPastTheGate(_ type: String) throws {
        #expect(try refusals(objects: ["filter-dump", type]).filter { $0.code == .device }.map(\.subject) == ["x1"])
    }

    @Test(arguments: [
        ("c0", "disconnected:tcp:10.0.0.9:99", true), ("serial0", "udp", true), ("c0", "unix:/a,server=on", false),
        ("c0", "pty:/dev/pts/1", false), ("compat_monitor0", "tcp:10.0.0.9:99", false),
    ]) func tellsOfLinesToOtherMachines(_ label: String, _ place: String, _ isTold: Bool) throws {
        var notes: [String] = []
        _ = try refusals(
            devices: ["virtserialport"], objects: [], nodes: [],
            chardevs: [["label": .string(label), "filename": .string(place)]], &notes)
        #expect(notes.count == (isTold ? 1 : 0), "\(notes)")
    }
}
