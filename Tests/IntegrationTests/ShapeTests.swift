import Foundation
import TestBed
import Testing

/// Cards and disks written as others write them, through protection and failover, on either QEMU. Three of each in the ordinary
/// run, all with `make shapes`.
@Suite(.serialized, .timeLimit(.minutes(3))) struct ShapeTests {
    struct Shape: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var machine = GuestVM.Machine.pc
        var standbyFormat = GuestDisk.Format.raw
        /// Whether the usual card is added to what `wiring` has.
        var hasCard = true
        /// Debian has what it needs of a newer QEMU in a package of its own, which the bed does not unpack.
        var isForSpice = false
        var wiring: @Sendable (String) -> [String]
    }

    private static let mac = "mac=52:54:00:00:01:0a"
    private static let card = [
        "-netdev", "tap,id=net0,ifname=tap0,script=no,downscript=no", "-device", "virtio-net-pci,netdev=net0,\(mac)",
    ]
    private static let disk = ["-device", "virtio-blk-pci,drive=disk0"]
    private static let group = ["-object", #"{"qom-type":"throttle-group","id":"g","limits":{"iops-total":2000}}"#]

    @Sendable private static func usual(_ image: String) -> [String] {
        ["-drive", "file=\(image),format=raw,if=none,id=disk0"] + disk
    }

    static let always = [
        Shape(testDescription: "a throttle over the image in one node, to qcow2", standbyFormat: .qcow2) { image in
            group + disk + [
                "-blockdev",
                #"{"driver":"throttle","node-name":"disk0","throttle-group":"g","file":{"driver":"raw","file":{"driver":"file","filename":"\#(image)"}}}"#,
            ]
        },
        Shape(testDescription: "a card without any id", hasCard: false) { image in
            usual(image) + ["-nic", "tap,ifname=tap0,script=no,downscript=no,model=virtio-net-pci,\(mac)"]
        },
        Shape(testDescription: "a qxl card", isForSpice: true) { usual($0) + ["-device", "qxl-vga,id=video0"] },
    ]

    static let more = [
        Shape(testDescription: "copy-on-read", machine: .q35) { image in
            disk + [
                "-blockdev",
                "driver=copy-on-read,node-name=disk0,file.driver=raw,file.file.driver=file,file.file.filename=\(image)",
            ]
        },
        Shape(testDescription: "preallocate below the format") { image in
            disk + [
                "-blockdev", "driver=file,node-name=f,filename=\(image)", "-blockdev",
                "driver=preallocate,node-name=p,file=f", "-blockdev", "driver=raw,node-name=disk0,file=p",
            ]
        },
        Shape(testDescription: "throttled by the drive") { image in
            ["-drive", "file=\(image),format=raw,if=none,id=disk0,throttling.iops-total=2000,throttling.group=x"] + disk
        },
        Shape(testDescription: "a drive in JSON, no format at all") { image in
            [
                "-drive",
                #"file=json:{"driver":"raw",,"file":{"driver":"file",,"filename":"\#(image)"}},if=none,id=disk0"#,
            ] + disk
        },
        Shape(testDescription: "a node without a format") { image in
            disk + ["-blockdev", "driver=file,node-name=disk0,filename=\(image)"]
        },
        Shape(testDescription: "-net nic and -net tap on a hub", hasCard: false) { image in
            usual(image) + ["-net", "nic,model=virtio-net-pci,macaddr=52:54:00:00:01:0a"] + [
                "-net", "tap,ifname=tap0,script=no,downscript=no",
            ]
        },
        Shape(testDescription: "two qxl cards", machine: .q35, isForSpice: true) { image in
            usual(image) + ["-device", "qxl-vga", "-device", "qxl,id=second"]
        },
        Shape(testDescription: "options in a file") { image in
            let path = image + ".cfg"
            let text = """
                [object "rng"]
                  qom-type = "rng-random"
                  filename = "/dev/urandom"
                [device "late"]
                  driver = "virtio-rng-pci"
                  rng = "rng"
                """
            try? text.write(toFile: path, atomically: true, encoding: .utf8)
            return usual(image) + ["-readconfig", path]
        },
        Shape(testDescription: "root ports and an iothread, as KubeVirt has them", machine: .q35, hasCard: false) {
            image in
            [
                "-object", #"{"qom-type":"iothread","id":"io1"}"#, "-device",
                #"{"driver":"pcie-root-port","port":16,"chassis":1,"id":"pci.1","bus":"pcie.0","multifunction":true,"addr":"0x2"}"#,
                "-device",
                #"{"driver":"pcie-root-port","port":17,"chassis":2,"id":"pci.2","bus":"pcie.0","addr":"0x2.0x1"}"#,
                "-blockdev",
                #"{"driver":"file","filename":"\#(image)","node-name":"libvirt-1-storage","cache":{"direct":true,"no-flush":false}}"#,
                "-blockdev",
                #"{"node-name":"disk0","driver":"raw","file":"libvirt-1-storage","cache":{"direct":true,"no-flush":false}}"#,
                "-device",
                #"{"driver":"virtio-blk-pci-non-transitional","bus":"pci.2","addr":"0x0","drive":"disk0","id":"ua-root","iothread":"io1"}"#,
                "-netdev", #"{"type":"tap","ifname":"tap0","script":"no","downscript":"no","id":"hostua-default"}"#,
                "-device",
                #"{"driver":"virtio-net-pci-non-transitional","netdev":"hostua-default","id":"ua-default","mac":"52:54:00:00:01:0a","bus":"pci.1","addr":"0x0"}"#,
            ]
        },
    ]

    static let chosen: [(Shape, QEMUProgram)] = {
        let isAll = ProcessInfo.processInfo.environment["ROMULUS_SHAPES"] == "all"
        let newer = (always + (isAll ? more : more.suffix(1))).filter { !$0.isForSpice }
        return (isAll ? always + more : always).map { ($0, .installed) } + newer.map { ($0, .newer) }
    }()

    @Test(arguments: chosen) func isProtectedAndGoesOn(_ shape: Shape, on qemu: QEMUProgram)
        async throws
    {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.qemu = qemu
            wishes.machine = shape.machine
            wishes.standbyFormat = shape.standbyFormat
            wishes.wiring = { image in (shape.hasCard ? Self.card : []) + shape.wiring(image) }
            let scene = try await Scene.make(on: bed, wishes)
            let (pair, vm) = (scene.pair, Scene.vm)
            let check = try pair.romulus(bed.a, ["check", vm, "--qmp", scene.guest.monitorPath, "--standby", "hostb"])
            #expect(check.status == 0 && check.output.hasPrefix("web can be protected by hostb\n"), "\(check)")
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 100))
            try await pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            try await scene.guest.killAndWait()
            try await pair.wait(bed.b, vm, for: "running", within: .seconds(60))
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// QEMU would make it, and nobody would join it to a network.
    @Test func aTapThatIsMissingAtTheStandbyStandsInTheWay() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed)
            try bed.b.run(["ip", "link", "delete", "tap0"])
            let named = ["--qmp", scene.guest.monitorPath, "--standby", "hostb"]
            let check = try scene.pair.romulus(bed.a, ["check", Scene.vm] + named)
            #expect(check.status == 5 && check.output.contains("- hostb: tap tap0 is not there"), "\(check)")
            let protect = try scene.pair.romulus(bed.a, ["protect", Scene.vm, "--wait", "--timeout", "30"] + named)
            #expect(protect.status != 0 && protect.errors.contains("ip tuntap add dev tap0 mode tap"), "\(protect)")
            try bed.b.addTap("tap0")
            #expect(try scene.pair.romulus(bed.a, ["check", Scene.vm] + named).status == 0)
        }
    }

    /// Everything that stands in the way, of both hosts, in one answer, and nothing made for it.
    @Test func checkTellsEverythingAtOnce() async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.standbyLines = ["      vdz: /nowhere", "    taps: {net9: tap9}"]
            wishes.moreArguments = [
                "-object", "filter-mirror,id=spy,netdev=net0,outdev=c,queue=all", "-chardev", "null,id=c",
            ]
            let scene = try await Scene.make(on: bed, wishes)
            unlink(scene.standbyDisk)
            let check = try scene.pair.romulus(
                bed.a, ["check", Scene.vm, "--qmp", scene.guest.monitorPath, "--standby", "hostb"])
            #expect(check.status == 5)
            for words in [
                "web cannot be protected by hostb\n", "- hosta: object spy (filter-mirror)",
                "- hostb: “vdz” in the VM's",
                "- hostb: “net9” in the VM's", "- hostb: the image of drive disk0 is not there", scene.standbyDisk,
            ] { #expect(check.output.contains(words), "\(check.output)") }
            // Who did not ask before is told as much.
            let protect = try scene.pair.romulus(
                bed.a,
                [
                    "protect", Scene.vm, "--qmp", scene.guest.monitorPath, "--standby", "hostb", "--wait", "--timeout",
                    "30",
                ])
            #expect(protect.status != 0)
            for words in [
                "object spy (filter-mirror)", "at hostb: “vdz” in the VM's",
                "at hostb: the image of drive disk0 is not there",
            ] { #expect(protect.errors.contains(words), "\(protect)") }
            #expect(!FileManager.default.fileExists(atPath: scene.standbyDisk))
            #expect(try scene.pair.list(bed.b).isEmpty && scene.guest.process.isRunning)
        }
    }
}
