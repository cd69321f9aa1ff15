import Foundation
import Hypervisor
import QEMU
import TestBed
import Testing

/// Which block graphs may write into guest memory unseen, as a real QEMU shows them, and that a drain is one.
@Suite(.serialized, .timeLimit(.minutes(2))) struct PinningDisksTests {
    private static let idle = ["-machine", "pc,accel=tcg", "-S", "-nodefaults", "-display", "none"]

    struct Graph: CustomTestStringConvertible {
        var testDescription: String
        var arguments: [String]
        var mayPin: Bool
    }

    static let graphs = [
        Graph(testDescription: "no disk", arguments: [], mayPin: false),
        Graph(testDescription: "page cache", arguments: ["-drive", "file=DISK,format=raw,if=virtio"], mayPin: false),
        Graph(
            testDescription: "page cache, io_uring",
            arguments: ["-drive", "file=DISK,format=raw,if=virtio,cache=writethrough,aio=io_uring"], mayPin: false),
        Graph(
            testDescription: "cache=none", arguments: ["-drive", "file=DISK,format=raw,if=virtio,cache=none"],
            mayPin: true),
        Graph(
            testDescription: "directsync on one of two", mayPin: true,
            ["-drive", "file=DISK,format=raw,if=virtio", "-drive", "file=DISK2,format=raw,if=ide,cache=directsync"]),
        Graph(
            testDescription: "a CD image", mayPin: true,
            ["-drive", "file=DISK,format=raw,media=cdrom,readonly=on,cache=none"]),
        Graph(
            testDescription: "below a throttle filter", mayPin: true,
            [
                "-object", "throttle-group,id=tg", "-blockdev",
                "throttle,node-name=top,throttle-group=tg,file.driver=raw,file.file.driver=file,"
                    + "file.file.filename=DISK,file.file.cache.direct=on",
                "-device", "virtio-blk-pci,drive=top",
            ]),
        Graph(testDescription: "null-co", mayPin: false, ["-drive", "file=null-co://,format=raw,if=virtio"]),
    ]

    @Test(arguments: graphs) func whatAGraphMayDo(graph: Graph) throws {
        let directory = TestDirectory()
        let disk = try directory.file("disk", size: 1 << 20)
        let second = try directory.file("second", size: 1 << 20)
        let arguments = graph.arguments.map {
            $0.replacingOccurrences(of: "DISK2", with: second).replacingOccurrences(of: "DISK", with: disk)
        }
        let qemu = try RunningQEMU(Self.idle + arguments, in: directory)
        #expect(try PinningDisks.exist(qemu.connect()) == graph.mayPin)
    }

    /// A read from storage that takes 400 ms is under way, and the drain comes back after it.
    @Test func aDrainWaitsForWhatIsUnderWay() async throws {
        try await Bed.with { bed in
            let image = "\(bed.a.stateDirectory)/slow.raw"
            _ = try GuestDisk.create(image, mebibytes: 1)
            let slow = try await SlowDisk.start(on: bed.a, image: image, delayMilliseconds: 400)
            let drive = ["-drive", "file=\(slow.path),format=raw,if=none,id=slow,cache=none"]
            let qemu = try RunningQEMU(Self.idle + drive, in: TestDirectory())
            let monitor = try qemu.connect()
            let clock = ContinuousClock()
            var began = clock.now
            try monitor.awaitReply(try monitor.send(PinningDisks.drain))
            #expect(began.duration(to: clock.now) < .milliseconds(300), "nothing was under way")
            began = clock.now
            _ = try monitor.monitor("qemu-io slow \"aio_read 0 64k\"")
            try monitor.awaitReply(try monitor.send(PinningDisks.drain))
            #expect(began.duration(to: clock.now) >= .milliseconds(400))
        }
    }
}

extension PinningDisksTests.Graph {
    fileprivate init(testDescription: String, mayPin: Bool, _ arguments: [String]) {
        self.init(testDescription: testDescription, arguments: arguments, mayPin: mayPin)
    }
}
