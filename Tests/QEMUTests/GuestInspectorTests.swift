import Glibc
import Hypervisor
import QEMU
import Testing

@Suite(.serialized, .timeLimit(.minutes(2))) struct GuestInspectorTests {
    private func inspect(_ arguments: [String], in directory: TestDirectory) throws -> GuestDescription {
        let qemu = try RunningQEMU(["-S", "-display", "none"] + arguments, in: directory)
        return try GuestInspector.inspect(try qemu.connect())
    }

    private func refusals(_ arguments: [String], in directory: TestDirectory = TestDirectory()) throws -> [Refusal] {
        let qemu = try RunningQEMU(["-S", "-display", "none"] + arguments, in: directory)
        let monitor = try qemu.connect()
        do {
            _ = try GuestInspector.inspect(monitor)
            return []
        } catch {
            return error.refusals
        }
    }

    @Test func describesAGuest() throws {
        let directory = TestDirectory()
        let raw = try directory.file("raw.img", size: 8 << 20)
        let iso = try directory.file("cd.iso", size: 1 << 20)
        let arguments = [
            "-name", "guest=alpha", "-m", "5G", "-smp", "3", "-vga", "std", "-drive",
            "file=\(raw),format=raw,if=virtio",
            "-cdrom", iso, "-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,id=eth0,mac=52:54:00:AB:cd:01",
            "-device", "e1000,id=lonely",
        ]
        let qemu = try RunningQEMU(["-S", "-display", "none"] + arguments, in: directory)
        let guest = try GuestInspector.inspect(try qemu.connect())
        #expect(guest.process.pid == qemu.pid)
        #expect(guest.process.uid == getuid())
        #expect(guest.arguments.first == "qemu-system-x86_64")
        #expect(guest.arguments.contains("guest=alpha"))
        #expect(guest.executable.hasSuffix("/qemu-system-x86_64"))
        #expect(guest.guestName == "alpha")
        #expect(guest.machineType.hasPrefix("pc-i440fx-"))
        #expect(guest.accelerator == .tcg)
        #expect(guest.vcpus.map(\.index) == [0, 1, 2])
        #expect(guest.memorySize == MemorySize(base: 5 << 30, plugged: 0))
        #expect(guest.devices.map(\.path).contains("/machine/peripheral/eth0"))

        let ram = try #require(guest.blocks.first)
        #expect(ram.name == "pc.ram" && ram.length == 5 << 30 && ram.tracked && ram.backend == "pc.ram")
        #expect(ram.regionAddress == 0 && ram.hostAddress != nil)
        // The firmware has not run: video memory is nowhere in the guest's address space and found by its shape.
        let video = try #require(guest.blocks.first { $0.name.hasSuffix("/vga.vram") })
        #expect(video.tracked && video.hostAddress != nil && video.length == 16 << 20 && video.backend == nil)
        let bios = try #require(guest.blocks.first { $0.name == "pc.bios" })
        #expect(bios.tracked && bios.hostAddress != nil)
        for block in guest.blocks where block.name.hasPrefix("/rom@") || block.name.hasSuffix("/vga.rom") {
            #expect(!block.tracked)
        }
        let address = try #require(bios.hostAddress)
        // A PC's firmware ends with the reset vector's jump, 16 bytes before the end of its image.
        #expect(try qemu.memory(at: address + bios.length - 16, count: 1) == [0xea])

        let disk = try #require(guest.disks.first { $0.isReplicated })
        #expect(disk.name == "virtio0" && disk.format == "raw" && disk.file == raw && disk.virtualSize == 8 << 20)
        #expect(!disk.isBlockDevice && !disk.readOnly)
        let cd = try #require(guest.disks.first { $0.file == iso })
        #expect(cd.readOnly && cd.removable && !cd.isReplicated)
        #expect(guest.disks.filter(\.isReplicated).count == 1)

        #expect(guest.nics.map(\.name) == ["eth0", "lonely"])
        #expect(guest.nics[0].mac == "52:54:00:ab:cd:01" && guest.nics[0].model == "virtio-net-pci")
        #expect(guest.nics[0].netdev == "n0" && guest.nics[0].backend == "user")
        #expect(guest.nics[1].netdev == nil)
    }

    @Test func findsVideoMemoryAlsoOnceTheFirmwareMappedIt() throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-m", "64", "-display", "none", "-nic", "none"], in: directory)
        let monitor = try qemu.connect()
        let early = try GuestInspector.inspect(monitor).blocks.first { $0.name.hasSuffix("/vga.vram") }
        let deadline = ContinuousClock.now + .seconds(20)
        while try !monitor.monitor("info mtree -f").contains("): vga.vram"), ContinuousClock.now < deadline {}
        #expect(try monitor.monitor("info mtree -f").contains("): vga.vram"))
        let late = try GuestInspector.inspect(monitor).blocks.first { $0.name.hasSuffix("/vga.vram") }
        #expect(early == late)
        #expect(early?.hostAddress != nil)
    }

    @Test func describesBlockdevsAndFlash() throws {
        let directory = TestDirectory()
        let first = try directory.file("first.raw", size: 8 << 20)
        let flash = try directory.file("flash.raw", size: 2 << 20)
        let guest = try inspect(
            [
                "-M", "q35", "-m", "128", "-nodefaults", "-blockdev", "driver=file,filename=\(first),node-name=storage",
                "-blockdev", "driver=raw,file=storage,node-name=format", "-device", "virtio-scsi-pci", "-device",
                "scsi-hd,drive=format,id=sd0", "-drive", "if=pflash,format=raw,file=\(flash),id=fw",
            ], in: directory)
        #expect(guest.machineType.hasPrefix("pc-q35-"))
        let disk = try #require(guest.disks.first { $0.name == "format" })
        #expect(disk.device == "" && disk.node == "format" && disk.file == first && disk.isReplicated)
        #expect(guest.disks.contains { $0.name == "fw" && $0.isReplicated })
        let block = try #require(guest.blocks.first { $0.name == "system.flash0" })
        #expect(block.tracked && block.hostAddress != nil && block.length == 2 << 20)
    }

    @Test func describesNumaNodesAndModules() throws {
        let guest = try inspect(
            [
                "-m", "256,slots=2,maxmem=1G", "-nodefaults", "-object", "memory-backend-ram,id=a,size=128M", "-object",
                "memory-backend-ram,id=b,size=128M", "-numa", "node,memdev=a", "-numa", "node,memdev=b", "-object",
                "memory-backend-ram,id=m,size=64M,x-use-canonical-path-for-ramblock-id=on", "-device",
                "pc-dimm,memdev=m,id=d0", "-object", "memory-backend-ram,id=unused,size=1M",
            ], in: TestDirectory())
        let found = guest.blocks.filter { $0.backend != nil }
        #expect(found.map(\.name) == ["a", "b", "/objects/m"])
        #expect(found.map(\.backend) == ["a", "b", "m"])
        #expect(found.map(\.regionAddress) == [0, 128 << 20, 0])
        #expect(found.allSatisfy { $0.tracked && $0.hostAddress != nil })
        #expect(guest.memorySize == MemorySize(base: 256 << 20, plugged: 64 << 20))
    }

    struct Hopeless: Sendable, CustomTestStringConvertible {
        var arguments: [String]
        var code: Refusal.Code
        var words: [String]
        var testDescription: String { arguments.joined(separator: " ") }
    }

    static let hopeless = [
        Hopeless(
            arguments: [
                "-fsdev", "local,id=fs,path=/tmp,security_model=none", "-device",
                "virtio-9p-pci,fsdev=fs,mount_tag=x,id=share",
            ], code: .device, words: ["share", "virtio-9p", "host directory"]),
        Hopeless(
            arguments: [
                "-object", "memory-backend-ram,id=sh,size=1M,share=on", "-device", "ivshmem-plain,memdev=sh,master=on",
            ], code: .device, words: ["ivshmem", "shares memory"]),
        Hopeless(
            arguments: ["-device", "ivshmem-plain,memdev=sh", "-object", "memory-backend-ram,id=sh,size=1M,share=on"],
            code: .migration, words: ["QEMU said: Migration is disabled", "ivshmem"]),
        Hopeless(
            arguments: [
                "-net", "nic,model=e1000", "-net", "user", "-net", "nic,model=rtl8139",
            ], code: .nic, words: ["hub", "-nic"]),
        Hopeless(
            arguments: ["-drive", "if=virtio,file.driver=null-co,file.read-zeroes=on,file.size=0,format=raw"],
            code: .disk, words: ["no size"]),
        Hopeless(
            arguments: ["-drive", "driver=blkdebug,image.driver=null-co,if=virtio"], code: .disk,
            words: ["blkdebug", "raw or qcow2"]),
    ]

    @Test(arguments: hopeless) func refusesWithTheReason(_ guest: Hopeless) throws {
        let refusals = try refusals(["-m", "64", "-nodefaults"] + guest.arguments)
        let match = refusals.first { refusal in
            refusal.code == guest.code && guest.words.allSatisfy { refusal.message.contains($0) }
        }
        #expect(match != nil, "\(refusals)")
    }

    @Test func givesAllReasonsAtOnce() throws {
        let all = try refusals([
            "-m", "64", "-nodefaults", "-fsdev", "local,id=fs,path=/tmp,security_model=none", "-device",
            "virtio-9p-pci,fsdev=fs,mount_tag=x", "-drive", "driver=blkdebug,image.driver=null-co,if=virtio",
        ])
        #expect(Set(all.map(\.code)).isSuperset(of: [.device, .disk]))
        #expect(RefusalError(all).description.contains("; "))
    }

    /// QEMU's filters see one of them; the tap sees all.
    @Test(arguments: [",id=eth0", ""]) func outputOfSeveralQueuesIsHeldAtTheTap(_ id: String) throws {
        // Made and removed here; the name is unique to this process.
        let tap = "rq\(getpid())"
        let guest = try inspect(
            [
                "-m", "64", "-nodefaults", "-netdev", "tap,id=n0,ifname=\(tap),script=no,downscript=no,queues=2",
                "-device",
                "virtio-net-pci,netdev=n0,mq=on\(id)", "-netdev", "user,id=n1", "-device", "virtio-net-pci,netdev=n1",
            ], in: TestDirectory())
        #expect(guest.nics.map(\.holding) == [.tap, nil])
        #expect(guest.nics.first?.interface == tap)
    }

    static let group = ["-object", #"{"qom-type":"throttle-group","id":"tg","limits":{}}"#]

    @Test(arguments: [
        group + [
            "-blockdev",
            #"{"driver":"throttle","node-name":"top","throttle-group":"tg","file":{"driver":"qcow2","file":{"driver":"file","filename":"IMAGE"}}}"#,
        ],
        [
            "-blockdev",
            "driver=copy-on-read,node-name=top,file.driver=qcow2,file.file.driver=file,file.file.filename=IMAGE",
        ],
        [
            "-blockdev",
            #"{"driver":"compress","node-name":"top","file":{"driver":"qcow2","file":{"driver":"preallocate","file":{"driver":"file","filename":"IMAGE"}}}}"#,
        ],
    ]) func describesTheImageBelowFilters(_ nodes: [String]) throws {
        let directory = TestDirectory()
        let image = try qcow2("disk.qcow2", in: directory)
        let arguments =
            nodes.map { $0.replacing("IMAGE", with: image) } + ["-device", "virtio-blk-pci,drive=top,id=d0"]
        let disk = try #require(try inspect(["-m", "64", "-nodefaults"] + arguments, in: directory).disks.first)
        #expect(disk.format == "qcow2" && disk.file == image && disk.node == "top" && disk.storage == "file")
        #expect(disk.virtualSize == 8 << 20 && disk.isReplicated && disk.keys.contains("d0"))
    }

    @Test func describesADiskWithoutAFormat() throws {
        let directory = TestDirectory()
        let image = try directory.file("a.img", size: 1 << 20)
        let disk = try #require(
            try inspect(
                [
                    "-m", "64", "-nodefaults", "-blockdev", "driver=file,filename=\(image),node-name=plain", "-device",
                    "virtio-blk-pci,drive=plain",
                ], in: directory
            ).disks.first)
        #expect(disk.format == "raw" && disk.file == image)
    }

    private func qcow2(_ name: String, in directory: TestDirectory) throws -> String {
        let path = "\(directory.path)/\(name)"
        try run(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"])
        return path
    }

    private func run(_ words: [String]) throws {
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
        defer { for word in arguments { free(word) } }
        arguments.append(nil)
        var child: pid_t = 0
        try #require(posix_spawnp(&child, words[0], nil, nil, arguments, environ) == 0)
        var status: Int32 = 0
        try #require(waitpid(child, &status, 0) == child && status == 0)
    }

    @Test(arguments: [["-vga", "qxl"], ["-vga", "qxl", "-device", "qxl,id=second"]])
    func findsTheMemoryOfQXLCards(_ cards: [String]) throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-m", "64", "-display", "none", "-nic", "none"] + cards, in: directory)
        let monitor = try qemu.connect()
        let deadline = ContinuousClock.now + .seconds(30)
        // Until the firmware has placed the cards' memory.
        while try !monitor.monitor("info mtree -f").contains("): qxl.vrom"), ContinuousClock.now < deadline {
            usleep(20_000)
        }
        usleep(500_000)
        let guest = try GuestInspector.inspect(monitor)
        let blocks = guest.blocks.filter { $0.name.contains("qxl") || $0.name.hasSuffix("vga.vram") }
        #expect(blocks.filter { $0.name.hasSuffix("/qxl.vrom") }.count == cards.filter { $0.contains("qxl") }.count)
        for block in blocks {
            #expect(block.tracked == !block.name.hasSuffix(".rom"), "\(block)")
            #expect(!block.tracked || block.hostAddress != nil, "\(block)")
        }
        #expect(Set(blocks.compactMap(\.hostAddress)).count == blocks.compactMap(\.hostAddress).count)
        let rom = try #require(blocks.first { $0.name.hasSuffix("/qxl.vrom") }?.hostAddress)
        // hw/display/qxl.c writes its magic, "QXRO", at the beginning of what the guest's driver reads.
        #expect(try qemu.memory(at: rom, count: 4) == Array("QXRO".utf8))
    }

    @Test func readsOptionsInAFile() throws {
        let directory = TestDirectory()
        let path = "\(directory.path)/vm.cfg"
        let text = """
            # A machine as two products write it.
            [machine]
              type = "q35"
            [memory]
            size = "96"
            [device "late"]
            driver = "virtio-rng-pci"
            bus = "pcie.0"
            addr = "5.0"

            [smp-opts]
            cpus = "2"
            """
        let file = open(path, O_WRONLY | O_CREAT, 0o600)
        try #require(write(file, text, text.utf8.count) == text.utf8.count)
        close(file)
        let guest = try inspect(["-nodefaults", "-readconfig", path, "-uuid", Self.uuid], in: directory)
        #expect(guest.machineType.hasPrefix("pc-q35-"))
        let words = guest.arguments.dropFirst().prefix { !$0.hasPrefix("-qmp") }
        #expect(
            Array(words.suffix(10)) == [
                "-machine", "type=q35", "-m", "size=96", "-device", "id=late,driver=virtio-rng-pci,bus=pcie.0,addr=5.0",
                "-smp", "cpus=2", "-uuid", Self.uuid,
            ], "\(words)")
        let command = try StandbyCommand.derive(guest, StandbyOptions(runDirectory: directory.path))
        #expect(!command.options.contains { $0.name == "-readconfig" })
        unlink(path)
        #expect(
            try refusals(["-nodefaults"], afterRemoving: path, text).first?.message.contains("cannot be read any more")
                == true)
    }

    private static let uuid = "7e3bd9a0-5d11-4c7a-9a35-0c64bfb2a111"

    private func refusals(_ arguments: [String], afterRemoving path: String, _ text: String) throws -> [Refusal] {
        let directory = TestDirectory()
        let file = open(path, O_WRONLY | O_CREAT, 0o600)
        try #require(write(file, text, text.utf8.count) == text.utf8.count)
        close(file)
        let qemu = try RunningQEMU(["-S", "-display", "none"] + arguments + ["-readconfig", path], in: directory)
        let monitor = try qemu.connect()
        unlink(path)
        do {
            _ = try GuestInspector.inspect(monitor)
            return []
        } catch {
            return error.refusals
        }
    }

    @Test func tellsTheInterfaceOfAPassedTap() throws {
        let directory = TestDirectory()
        let name = "rf\(getpid())"
        let tap = open("/dev/net/tun", O_RDWR)
        try #require(tap >= 0)
        defer { close(tap) }
        var request = [UInt8](repeating: 0, count: 40)
        request.replaceSubrange(0..<name.utf8.count, with: Array(name.utf8))
        // IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, by TUNSETIFF.
        request[16] = 0x02
        request[17] = 0x50
        try #require(ioctl(tap, 0x4004_54ca, &request) == 0)
        let guest = try inspect(
            ["-m", "64", "-nodefaults", "-nic", "tap,fd=\(tap),model=virtio-net-pci"], in: directory)
        #expect(guest.nics.first?.interface == name && guest.nics.first?.netdev?.hasPrefix("#net") == true)
        let command = try StandbyCommand.derive(guest, StandbyOptions(runDirectory: directory.path))
        let expected = "-nic tap,model=virtio-net-pci,script=no,downscript=no,ifname=\(name)"
        #expect(command.options.map(\.description).contains(expected), "\(command.shellText)")
    }

    @Test func refusesAMachineWithoutMemory() throws {
        let directory = TestDirectory()
        let qemu = try RunningQEMU(["-S", "-machine", "none", "-display", "none"], in: directory)
        let monitor = try qemu.connect()
        // A machine without memory is refused for that, and says so.
        do {
            _ = try GuestInspector.inspect(monitor)
            Issue.record("an empty machine was accepted")
        } catch {
            #expect(error.refusals.contains { $0.code == .memory || $0.code == .monitor })
        }
    }

    /// Ways out that are no network, as QEMU itself lists them: lines of bytes are allowed, told where they lead to another
    /// machine, and refused where the other half of a device is behind them.
    @Test func waysOutThatAreNoNetworkAreSortedByKind() throws {
        let directory = TestDirectory()
        let lines = [
            "-chardev", "file,id=debug,path=\(directory.path)/debug", "-device",
            "isa-debugcon,chardev=debug,iobase=0x402",
            "-device", "virtio-serial-pci,id=vs", "-chardev",
            "socket,id=agent,path=\(directory.path)/agent,server=on,wait=off", "-device",
            "virtserialport,bus=vs.0,chardev=agent,id=port0,name=org.qemu.guest_agent.0",
        ]
        let told = [
            "-chardev", "socket,id=far,host=127.0.0.1,port=0,server=on,wait=off", "-device",
            "virtserialport,bus=vs.0,chardev=far,id=port1,name=far",
        ]
        let guest = try inspect(lines + told, in: directory)
        let notes = (guest.notes ?? []).filter { $0.contains("another machine") }
        #expect(notes.count == 1 && notes[0].hasPrefix("chardev far ("), "\(notes)")

        let halves = [
            "-device", "qemu-xhci", "-chardev", "socket,id=usb,path=\(directory.path)/usb,server=on,wait=off",
            "-device",
            "usb-redir,chardev=usb,id=redir0", "-chardev",
            "socket,id=bmc,path=\(directory.path)/bmc,server=on,wait=off", "-device",
            "ipmi-bmc-extern,id=bmc0,chardev=bmc",
            "-device", "usb-ccid,id=reader", "-chardev",
            "socket,id=card,path=\(directory.path)/card,server=on,wait=off", "-device",
            "ccid-card-passthru,chardev=card,id=card0",
        ]
        let refused = try refusals(lines + halves)
        #expect(Set(refused.map(\.subject)) == ["redir0", "bmc0", "card0"], "\(refused)")
        #expect(refused.allSatisfy { $0.code == .device }, "\(refused)")
        #expect(refused.contains { $0.subject == "bmc0" && $0.message.contains("one half of a conversation") })
    }
}
