import Hypervisor
import QEMU
import Testing

@Suite struct StandbyCommandTests {
    static func guest(_ arguments: [String]) -> GuestDescription {
        GuestDescription.example(arguments: ["/usr/bin/qemu-system-x86_64"] + arguments)
    }

    private func lines(
        _ arguments: [String], disks: [GuestDisk] = [], devices: [GuestDevice] = [],
        _ configure: (inout StandbyOptions) -> Void
    ) throws -> [String] {
        var guest = Self.guest(arguments)
        guest.disks = disks
        guest.devices = devices
        var options = StandbyOptions(runDirectory: "/run/vm")
        configure(&options)
        return try StandbyCommand.derive(guest, options).options.map(\.description)
    }

    private func lines(_ arguments: [String]) throws -> [String] { try lines(arguments) { _ in } }

    /// What every command line ends with here.
    static let ending = [
        "-object qom-type=memory-backend-file,id=pc.ram,size=134217728,mem-path=/run/vm/pc.ram.memory,share=on,"
            + "x-use-canonical-path-for-ramblock-id=off",
        "-display none", "-monitor none", "-qmp unix:/run/vm/qmp.sock,server=on,wait=off", "-incoming defer",
    ]

    struct Rule: Sendable, CustomTestStringConvertible {
        var given: [String]
        /// Lines that must be there, in this order.
        var expected: [String]
        /// Beginnings that must not be there.
        var absent: [String] = []
        var testDescription: String { given.joined(separator: " ") }
    }

    static let rules = [
        Rule(given: ["-m", "128"], expected: ["-m 128", "-machine type=pc-i440fx-7.2,memory-backend=pc.ram"]),
        Rule(
            given: ["-machine", "pc,accel=tcg,smm=off"],
            expected: ["-machine pc-i440fx-7.2,accel=tcg,smm=off", "-machine memory-backend=pc.ram"]),
        Rule(given: ["--M", "pc"], expected: ["-machine pc-i440fx-7.2"], absent: ["-M", "--M"]),
        Rule(
            given: ["-m", "128", "-mem-path", "/dev/hugepages", "-mem-prealloc", "-smp", "2"],
            expected: ["-m 128", "-smp 2"], absent: ["-mem"]),
        Rule(
            given: [
                "-daemonize", "-pidfile", "/run/x", "-S", "-snapshot", "-loadvm", "x", "-incoming", "defer", "-qmp",
                "tcp:0:1", "-monitor", "stdio", "-vnc", ":1", "-D", "/log", "-gdb", "tcp::1", "-s", "-boot", "c",
            ], expected: ["-boot c"],
            absent: ["-daemonize", "-pidfile", "-S", "-snapshot", "-loadvm", "-vnc", "-D", "-gdb", "-s ", "tcp:0:1"]),
        Rule(
            given: [
                "-chardev", "socket,id=mon0,fd=30,server=on,wait=off", "-mon", "chardev=mon0,id=monitor,mode=control",
            ], expected: [], absent: ["-chardev", "-mon chardev"]),
        Rule(
            given: ["-chardev", "pty,id=c0", "-device", "isa-serial,chardev=c0"],
            expected: ["-chardev pty,id=c0", "-device isa-serial,chardev=c0"]),
        Rule(
            given: ["-chardev", "socket,id=c1,path=/var/x,,y,server=on,wait=off"],
            expected: ["-chardev backend=socket,id=c1,path=/run/vm/c1.sock,server=on,wait=off"]),
        Rule(
            given: ["-chardev", "socket,id=c2,host=h,port=1"], expected: ["-chardev backend=null,id=c2"]),
        Rule(
            given: ["-chardev", "file,id=c3,path=/var/log/x"],
            expected: ["-chardev backend=file,id=c3,path=/run/vm/c3.log"]),
        Rule(given: ["-serial", "mon:stdio"], expected: ["-serial file:/run/vm/serial1.log"]),
        Rule(
            given: ["-serial", "none", "-serial", "file:/tmp/a", "-parallel", "none"],
            expected: ["-serial none", "-serial file:/run/vm/serial2.log", "-parallel none"]),
        Rule(
            given: ["-serial", "unix:/tmp/a,server=on,wait=off"],
            expected: ["-serial unix:/run/vm/serial1.sock,server=on,wait=off"]),
        Rule(
            given: ["-nographic"], expected: ["-machine graphics=off", "-serial file:/run/vm/serial1.log"],
            absent: ["-nographic"]),
        Rule(given: ["-kernel", "vmlinuz", "-append", "a b"], expected: ["-kernel /home/op/vmlinuz", "-append a b"]),
        Rule(given: ["-bios", "bios-256k.bin"], expected: ["-bios bios-256k.bin"]),
        Rule(
            given: ["-fw_cfg", "name=opt/x,file=data/x", "-smbios", "type=1,uuid=1"],
            expected: ["-fw_cfg name=opt/x,file=/home/op/data/x", "-smbios type=1,uuid=1"]),
        Rule(given: ["-audiodev", "pa,id=a0,server=/x"], expected: ["-audiodev none,id=a0"]),
        Rule(
            given: ["-netdev", "tap,id=n0,ifname=tap7,script=no,vhost=off", "-device", "e1000,netdev=n0"],
            expected: ["-netdev tap,id=n0,ifname=tap7,script=no", "-device e1000,netdev=n0"]),
        Rule(given: ["-nic", "user,model=e1000"], expected: ["-nic user,model=e1000"]),
        Rule(
            given: [
                "-object", "secret,id=masterKey0,format=raw,file=/var/lib/libvirt/x", "-object", "rng-random,id=r",
            ],
            expected: ["-object rng-random,id=r"], absent: ["-object secret"]),
        Rule(given: ["-accel", "tcg,thread=multi"], expected: ["-accel tcg,thread=multi"]),
        Rule(given: ["-device", "e1000,id=gone"], expected: [], absent: ["-device"]),
        Rule(given: ["-device", "x,id=,,y", "-x-unknown", "file=/a,,b"], expected: ["-x-unknown file=/a,,b"]),
    ]

    @Test(arguments: rules) func rewrites(_ rule: Rule) throws {
        let lines = try lines(rule.given)
        var rest = lines[...]
        for line in rule.expected {
            let found = rest.firstIndex(of: line)
            #expect(found != nil, "\(line) is missing in \(lines)")
            if let found { rest = rest[(found + 1)...] }
        }
        for line in rule.absent { #expect(!lines.contains { $0.hasPrefix(line) }, "\(line) is left in \(lines)") }
        for line in Self.ending { #expect(lines.contains(line), "\(line) is missing in \(lines)") }
    }

    static let disk = GuestDisk(
        name: "virtio0", device: "virtio0", qdev: nil, node: "#block1", format: "raw", file: "a,b.img",
        isBlockDevice: false, virtualSize: 1 << 20, readOnly: false, removable: false)

    /// The agent writes where QEMU reads, also where a disk's image is found by the map of files.
    @Test(arguments: ["a,b.img", "/images/a,b.img"]) func aDiskInTheMapOfFilesIsOneImage(key: String) throws {
        var guest = Self.guest(["-drive", "file=a,,b.img,format=raw,if=virtio"])
        guest.workingDirectory = "/images"
        guest.disks = [Self.disk]
        var options = StandbyOptions(runDirectory: "/run/vm")
        options.files[key] = "/srv/web.img"
        #expect(options.image(of: Self.disk, in: guest).path == "/srv/web.img")
        let command = try StandbyCommand.derive(guest, options)
        #expect(command.options.map(\.description).contains { $0.contains("file=/srv/web.img,") })
    }

    @Test(arguments: [
        (
            ["-drive", "file=a,,b.img,format=raw,if=virtio,snapshot=on"],
            "-drive file=/srv/c,,d.qcow2,format=qcow2,if=virtio,file.drop-cache=off"
        ),
        (["-drive", "a,,b.img"], "-drive /srv/c,,d.qcow2,format=qcow2,file.drop-cache=off"),
        (["-hda", "a,b.img"], "-drive file=/srv/c,,d.qcow2,index=0,media=disk,format=qcow2,file.drop-cache=off"),
        (["a,b.img"], "-drive file=/srv/c,,d.qcow2,index=0,media=disk,format=qcow2,file.drop-cache=off"),
        (["-pflash", "a,b.img"], "-drive file=/srv/c,,d.qcow2,if=pflash,format=qcow2,file.drop-cache=off"),
        (
            ["-drive", "driver=raw,file.filename=a,,b.img,file.driver=file,id=virtio0"],
            "-drive file.filename=/srv/c,,d.qcow2,file.driver=file,id=virtio0,format=qcow2,file.drop-cache=off"
        ),
    ]) func movesDrives(_ given: [String], _ expected: String) throws {
        let found = try lines(given, disks: [Self.disk]) {
            $0.disks["virtio0"] = StandbyDisk(path: "/srv/c,d.qcow2", format: "qcow2")
        }
        #expect(found.contains(expected), "\(found)")
    }

    @Test func movesBlockNodesAndDropsBackingChains() throws {
        var disk = Self.disk
        disk.device = ""
        disk.node = "top"
        disk.name = "top"
        let found = try lines(
            [
                "-blockdev", #"{"driver":"file","filename":"/img/base","node-name":"base-file"}"#,
                "-blockdev", #"{"driver":"qcow2","file":"base-file","node-name":"base"}"#,
                "-blockdev", #"{"driver":"file","filename":"/img/over","node-name":"top-file","discard":"unmap"}"#,
                "-blockdev", "driver=qcow2,file=top-file,backing=base,node-name=top,lazy-refcounts=on",
                "-device", "virtio-blk-pci,drive=top",
            ], disks: [disk]
        ) {
            $0.disks["top"] = StandbyDisk(path: "/dev/vg/lv", format: "raw", isBlockDevice: true)
        }
        #expect(
            found.contains(
                #"-blockdev {"discard":"unmap","driver":"host_device","drop-cache":false,"filename":"/dev/vg/lv","#
                    + #""node-name":"top-file"}"#))
        #expect(found.contains("-blockdev driver=raw,file=top-file,node-name=top"))
        #expect(!found.contains { $0.contains("base") })
    }

    struct NodeCase: Sendable, CustomTestStringConvertible {
        var given: [String]
        var target = StandbyDisk(path: "/srv/d", format: "qcow2")
        var expected: [String]
        var testDescription: String { given.joined(separator: " ") }
    }

    static let filterCases = [
        NodeCase(
            given: [
                "-blockdev",
                #"{"driver":"throttle","node-name":"top","throttle-group":"g","file":{"driver":"qcow2","file":{"driver":"file","filename":"/a"}}}"#,
            ],
            expected: [
                #"-blockdev {"driver":"throttle","file":{"driver":"qcow2","file":{"driver":"file","drop-cache":false,"filename":"/srv/d"}},"node-name":"top","throttle-group":"g"}"#
            ]),
        NodeCase(
            given: [
                "-blockdev",
                "driver=copy-on-read,node-name=top,bottom=x,file.driver=raw,file.offset=512,file.size=1024"
                    + ",file.file.driver=file,file.file.filename=/a",
            ],
            expected: [
                "-blockdev driver=copy-on-read,node-name=top,file.driver=qcow2,file.file.driver=file"
                    + ",file.file.filename=/srv/d,file.file.drop-cache=off"
            ]),
        NodeCase(
            given: [
                "-blockdev", "driver=file,filename=/a,node-name=low", "-blockdev",
                #"{"driver":"preallocate","file":"low","node-name":"mid"}"#, "-blockdev",
                "driver=qcow2,file=mid,node-name=top",
            ], target: StandbyDisk(path: "/dev/x", format: "raw", isBlockDevice: true),
            expected: [
                "-blockdev driver=host_device,filename=/dev/x,node-name=low,drop-cache=off",
                #"-blockdev {"driver":"preallocate","file":"low","node-name":"mid"}"#,
                "-blockdev driver=raw,file=mid,node-name=top",
            ]),
        NodeCase(
            given: [
                "-blockdev",
                #"{"driver":"throttle","node-name":"upper","throttle-group":"g","file":{"driver":"raw","node-name":"top","file":{"driver":"rbd","pool":"p","image":"i","node-name":"r"}}}"#,
            ],
            expected: [
                #"-blockdev {"driver":"throttle","file":{"driver":"qcow2","file":{"driver":"file","drop-cache":false,"filename":"/srv/d","node-name":"r"},"node-name":"top"},"node-name":"upper","throttle-group":"g"}"#
            ]),
    ]

    @Test(arguments: filterCases) func looksThroughFilters(_ example: NodeCase) throws {
        var disk = Self.disk
        (disk.name, disk.device, disk.node, disk.file) = ("top", "", "top", "/a")
        disk.storage = example.given.contains { $0.contains("rbd") } ? "rbd" : "file"
        let found = try lines(example.given, disks: [disk]) { $0.disks["top"] = example.target }
        for line in example.expected { #expect(found.contains(line), "\(found)") }
    }

    @Test(arguments: [
        (
            "driver=throttle,throttle-group=g,file.driver=qcow2,file.file.filename=/a,if=virtio",
            "driver=throttle,throttle-group=g,file.driver=raw,file.file.filename=/srv/d,if=virtio,file.file.driver=file"
                + ",file.file.drop-cache=off"
        ),
        (
            "file=/a,format=qcow2,if=virtio,throttling.iops-total=9,throttling.group=g",
            "file=/srv/d,format=raw,if=virtio,throttling.iops-total=9,throttling.group=g,file.drop-cache=off"
        ),
        (
            #"file=json:{"driver":"throttle",,"file":{"driver":"qcow2",,"file":{"driver":"file",,"filename":"/a"}}},if=virtio"#,
            #"file=json:{"driver":"throttle",,"file":{"driver":"raw",,"file":{"driver":"file",,"drop-cache":false,,"filename":"/srv/d"}}},if=virtio"#
        ),
    ]) func looksThroughFiltersOfDrives(_ given: String, _ expected: String) throws {
        var disk = Self.disk
        disk.file = "/a"
        let found = try lines(["-drive", given], disks: [disk]) {
            $0.disks["virtio0"] = StandbyDisk(path: "/srv/d", format: "raw")
        }
        #expect(found.contains("-drive " + expected), "\(found)")
    }

    private func problems(
        _ arguments: [String], disks: [GuestDisk] = [], _ configure: (inout StandbyOptions) -> Void = { _ in }
    ) -> [String] {
        do {
            _ = try lines(arguments, disks: disks, configure)
            return []
        } catch {
            return (error as? StandbyCommandError)?.problems ?? ["\(error)"]
        }
    }

    @Test func refusesToOpenAnotherImageThanTheReplica() throws {
        // A snapshot put an overlay above the image that the command line names.
        var disk = Self.disk
        (disk.name, disk.device, disk.node, disk.file) = ("over", "", "over", "/v/over.qcow2")
        disk.format = "qcow2"
        let given = [
            "-blockdev", "driver=qcow2,node-name=first,file.driver=file,file.filename=/v/first.qcow2", "-device",
            "virtio-blk-pci,drive=first",
        ]
        #expect(problems(given, disks: [disk]).map { $0.contains("over.qcow2) is not where") } == [true])
        // With an id it is known which device it is, and the node keeps the name that the device wants.
        disk.qdev = "/machine/peripheral/d0/virtio-backend"
        let known = given.dropLast() + ["virtio-blk-pci,drive=first,id=d0"]
        let lines = try lines(
            Array(known), disks: [disk],
            devices: [
                GuestDevice(path: "/machine/peripheral/d0", type: "virtio-blk-pci")
            ]
        ) { _ in }
        #expect(
            lines.contains(
                "-blockdev driver=qcow2,node-name=first,file.driver=file,file.filename=/v/over.qcow2,file.drop-cache=off"
            ))
    }

    @Test func refusesWhatTheStandbysImageCannotBe() {
        var disk = Self.disk
        (disk.name, disk.device, disk.node, disk.file, disk.storage) = ("top", "", "top", "rbd:p/i", "rbd")
        let rbd = ["-blockdev", #"{"driver":"raw","node-name":"top","file":{"driver":"rbd","pool":"p","image":"i"}}"#]
        #expect(problems(rbd, disks: [disk]).first?.contains("lies on rbd") == true)
        disk.storage = "file"
        let compress = [
            "-blockdev", "driver=compress,node-name=top,file.driver=qcow2,file.file.driver=file,file.file.filename=/a",
        ]
        let raw = StandbyDisk(path: "/srv/d", format: "raw")
        #expect(problems(compress, disks: [disk]) { $0.disks["top"] = raw }.first?.contains("compressed") == true)
        let bare = ["-blockdev", "driver=file,node-name=top,filename=/a"]
        let qcow2 = StandbyDisk(path: "/srv/d", format: "qcow2")
        #expect(problems(bare, disks: [disk]) { $0.disks["top"] = qcow2 }.first?.contains("without a format") == true)
    }

    @Test func tellsEveryEntryThatMatchesNothing() {
        let given = ["-drive", "file=a,,b.img,format=raw,if=virtio", "-netdev", "tap,id=n0,ifname=t0"]
        let found = problems(given, disks: [Self.disk]) {
            $0.disks = [
                "virtio0": StandbyDisk(path: "/a", format: "raw"), "vdz": StandbyDisk(path: "/b", format: "raw"),
            ]
            $0.taps = ["n0": "t1", "n1": "t2"]
            $0.files = ["/no/such.iso": "/b.iso"]
        }
        #expect(found.count == 3, "\(found)")
        for (word, text) in zip(["“vdz”", "“n1”", "“/no/such.iso”"], found) { #expect(text.contains(word)) }
        #expect(found.first?.contains("virtio0") == true)
    }

    @Test(arguments: [
        ("/machine/peripheral/virtio-disk2/virtio-backend", ["virtio-disk2", "vdc"]),
        ("/machine/peripheral/sata0-0-1", ["sata0-0-1", "sdb"]), ("ide0-1-0", ["ide0-1-0", "hdc"]),
        ("/machine/peripheral/scsi1-0-0-0", ["scsi1-0-0-0", "sdh"]),
        ("/machine/peripheral/virtio-disk26/virtio-backend", ["virtio-disk26", "vdaa"]),
        ("/machine/peripheral-anon/device[3]/virtio-backend", []),
    ]) func knowsADiskByEveryNameThatItHas(_ qdev: String, _ names: [String]) {
        var disk = Self.disk
        disk.qdev = qdev
        disk.nodes = ["libvirt-1-format", "libvirt-1-storage"]
        #expect(disk.keys.contains("virtio0") && disk.keys.contains("libvirt-1-storage"))
        for name in names { #expect(disk.keys.contains(name), "\(disk.keys)") }
        #expect(names.isEmpty ? !disk.keys.contains { $0.contains("device[") } : true)
    }

    @Test func namesTheTapOfAPassedDescriptor() throws {
        let given = ["-netdev", #"{"type":"tap","fd":"33","vhost":false,"id":"hostnet0"}"#]
        #expect(throws: StandbyCommandError.self) { try lines(given) }
        let found = try lines(given) { $0.taps["hostnet0"] = "tap9" }
        #expect(
            found.contains(
                #"-netdev {"downscript":"no","id":"hostnet0","ifname":"tap9","script":"no","type":"tap"}"#))
        let several = try lines(["-netdev", "tap,id=n0,fds=33:34:35:36,vhostfds=37:38:39:40"]) {
            $0.taps["n0"] = "tap9"
        }
        #expect(several.contains("-netdev tap,id=n0,queues=4,script=no,downscript=no,ifname=tap9"))
        let renamed = try lines(["-nic", "tap,ifname=a0,model=e1000"]) { $0.taps["a0"] = "b0" }
        #expect(renamed.contains("-nic tap,ifname=b0,model=e1000"))
    }

    @Test func putsGivenBackendsIntoFiles() throws {
        let block = GuestRAMBlock(
            name: "/objects/ram0", length: 1 << 30, maximum: 1 << 30, hostAddress: 1 << 40, regionAddress: 0,
            tracked: true, backend: "ram0")
        var guest = Self.guest([
            "-machine", "q35,memory-backend=ram0", "-object",
            #"{"qom-type":"memory-backend-memfd","id":"ram0","size":1073741824,"hugetlb":true,"prealloc":true,"host-nodes":[0],"policy":"bind"}"#,
        ])
        guest.blocks = [block]
        guest.machineType = "pc-q35-7.2"
        var options = StandbyOptions(runDirectory: "/run/vm")
        options.memoryDirectory = "/dev/shm/vm"
        let command = try StandbyCommand.derive(guest, options)
        let found = command.options.map(\.description)
        #expect(
            found.contains(
                #"-object {"id":"ram0","mem-path":"/dev/shm/vm/ram0.memory","qom-type":"memory-backend-file","#
                    + #""share":true,"size":1073741824,"x-use-canonical-path-for-ramblock-id":true}"#), "\(found)")
        #expect(found.contains("-machine pc-q35-7.2"))
        #expect(found.contains("-machine memory-backend=ram0"))
        #expect(
            command.memoryFiles
                == [.init(block: "/objects/ram0", path: "/dev/shm/vm/ram0.memory", length: 1 << 30)])
    }

    @Test func obeysOverrides() throws {
        let given = ["-device", "usb-tablet,id=tab", "-device", "e1000,id=e", "-usb", "-boot", "c"]
        let devices = [GuestDevice(path: "/machine/peripheral/e", type: "e1000")]
        let found = try lines(given, devices: devices) {
            $0.overrides.remove = ["-usb"]
            $0.overrides.replace = [.init(match: "-device e1000", with: "-device e1000,id=e,mac=52:54:00:00:00:09")]
            $0.overrides.add = ["-cpu qemu64,+aes", "-no-shutdown"]
        }
        #expect(found.contains("-device e1000,id=e,mac=52:54:00:00:00:09"))
        #expect(!found.contains("-device e1000,id=e") && !found.contains("-usb"))
        #expect(found.suffix(2) == ["-cpu qemu64,+aes", "-no-shutdown"])
        #expect(throws: StandbyCommandError.self) { try lines(given) { $0.overrides.remove = ["-bo"] } }
        #expect(throws: StandbyCommandError.self) {
            try lines(given) { $0.overrides.replace = [.init(match: "-x", with: "-y")] }
        }
    }

    @Test func wantsHotPluggedDevicesNamed() throws {
        let plugged = [GuestDevice(path: "/machine/peripheral/late", type: "virtio-rng-pci")]
        do {
            _ = try lines([], devices: plugged) { _ in }
            Issue.record("the device was forgotten")
        } catch let error as StandbyCommandError {
            #expect(error.description.contains("late (virtio-rng-pci)"))
        }
        let found = try lines([], devices: plugged) {
            $0.overrides.add = ["-device virtio-rng-pci,id=late"]
        }
        #expect(found.last == "-device virtio-rng-pci,id=late")
    }

    @Test func choosesAcceleratorDisplayAndSandbox() throws {
        let found = try lines(["-accel", "tcg", "-machine", "pc,accel=tcg", "-display", "gtk"]) {
            $0.accelerator = "kvm"
            $0.display = ["-vnc :7"]
            $0.sandbox = "on"
        }
        #expect(found.filter { $0.contains("accel") } == ["-accel kvm"])
        #expect(found.contains("-vnc :7") && found.contains("-sandbox on"))
        #expect(!found.contains { $0.hasPrefix("-display") })
        let kept = try lines(["-sandbox", "on,spawn=deny"]) { $0.sandbox = "on" }
        #expect(kept.filter { $0.hasPrefix("-sandbox") } == ["-sandbox on,spawn=deny"])
    }

    @Test func printsForAShell() throws {
        let command = try StandbyCommand.derive(
            Self.guest(["-append", "console=ttyS0 it's"]), StandbyOptions(runDirectory: "/run/vm"))
        #expect(
            command.shellText.hasPrefix("/usr/bin/qemu-system-x86_64 \\\n    -append 'console=ttyS0 it'\\''s' \\\n"))
        #expect(command.arguments.first == "/usr/bin/qemu-system-x86_64")
        #expect(command.arguments.contains("console=ttyS0 it's"))
    }

    @Test func listsFilesThatMustBeThere() throws {
        let command = try StandbyCommand.derive(
            Self.guest(["-kernel", "/nowhere/vmlinuz", "-initrd", "/dev/null"]), StandbyOptions(runDirectory: "/run/vm")
        )
        #expect(command.missingFiles().count == 1)
        #expect(command.missingFiles().first?.contains("/nowhere/vmlinuz (-kernel)") == true)
    }
}

extension GuestDescription {
    /// A small PC in `/home/op`, whose board memory is QEMU's own.
    static func example(arguments: [String]) -> GuestDescription {
        GuestDescription(
            process: ProcessIdentity(pid: 1, uid: 0, gid: 0),
            qemu: QEMUVersion(major: 7, minor: 2, micro: 0, package: ""), executable: arguments[0],
            arguments: arguments, workingDirectory: "/home/op", guestName: "", machineType: "pc-i440fx-7.2",
            accelerator: .tcg, vcpus: [GuestCPU(index: 0, thread: 1)],
            memorySize: MemorySize(base: 128 << 20, plugged: 0),
            blocks: [
                GuestRAMBlock(
                    name: "pc.ram", length: 128 << 20, maximum: 128 << 20, hostAddress: 1 << 40, regionAddress: 0,
                    tracked: true, backend: "pc.ram")
            ], disks: [], nics: [], devices: [])
    }
}
