import Foundation
import TestBed
import Testing

/// Reads that are under way while memory is protected and copied, on disks that write into pinned guest memory (I35).
@Suite(.serialized, .timeLimit(.minutes(4))) struct ReadsInFlightTests {
    struct Way: CustomTestStringConvertible {
        var testDescription: String
        /// What the guest calls it.
        var device: String
        var drive: String
        var arguments: [String]
        var memory = Memory.ordinary
    }

    /// What the guest's memory is made of.
    enum Memory {
        case ordinary
        /// As libvirt's `<source type='memfd'/>` has it.
        case file
        case hugePages

        func arguments(_ mebibytes: Int) -> [String] {
            let options = self == .file ? "" : ",hugetlb=on,hugetlbsize=2M,prealloc=on"
            return self == .ordinary
                ? []
                : [
                    "-object", "memory-backend-memfd,id=ram0,size=\(mebibytes)M,share=on\(options)",
                    "-machine", "memory-backend=ram0",
                ]
        }
    }

    static let ways = [
        Way(
            testDescription: "virtio-blk, threads", device: "/dev/vdb", drive: "cache=none,aio=threads",
            arguments: ["-device", "virtio-blk-pci,drive=slow"]),
        Way(
            testDescription: "virtio-blk in an iothread, linux-aio", device: "/dev/vdb", drive: "cache=none,aio=native",
            arguments: ["-object", "iothread,id=io0", "-device", "virtio-blk-pci,drive=slow,iothread=io0"]),
        Way(
            testDescription: "virtio-scsi, io_uring", device: "/dev/sda", drive: "cache=directsync,aio=io_uring",
            arguments: ["-device", "virtio-scsi-pci,id=scsi0", "-device", "scsi-hd,bus=scsi0.0,drive=slow"]),
        Way(
            testDescription: "ide, linux-aio", device: "/dev/sda", drive: "cache=none,aio=native",
            arguments: ["-device", "ide-hd,bus=ide.0,unit=0,drive=slow"]),
        Way(
            testDescription: "virtio-blk, linux-aio, memory in a file", device: "/dev/vdb",
            drive: "cache=none,aio=native", arguments: ["-device", "virtio-blk-pci,drive=slow"], memory: .file),
    ]

    /// A page of such memory counts as written, and travels, whole.
    static let wayIntoHugePages = Way(
        testDescription: "virtio-blk, threads, memory of huge pages", device: "/dev/vdb",
        drive: "cache=none,aio=threads", arguments: ["-device", "virtio-blk-pci,drive=slow"], memory: .hugePages)

    @Test(.enabled(if: HugePages.areAvailable, "the kernel has no huge pages"))
    func whatARequestBringsIntoAHugePageIsInTheReplica() async throws {
        let room = try HugePages(mebibytes: Scene.Wishes().memoryMiB)
        defer { withExtendedLifetime(room) {} }
        let report = try await readAcrossAFailover(Self.wayIntoHugePages)
        #expect(report.hasSuffix("wrong=0 first=0"), "\(report)")
    }

    @Test(arguments: ways) func whatARequestBringsIsInTheReplica(way: Way) async throws {
        let report = try await readAcrossAFailover(way)
        #expect(report.hasSuffix("wrong=0 first=0"), "\(report)")
    }

    /// The test above can fail: an agent that takes every disk for one that leaves traces loses what such reads brought.
    @Test func anAgentThatForgetsPinsIsFoundOut() async throws {
        let report = try await readAcrossAFailover(Self.ways[0], planted: "forget-pins")
        #expect(!report.contains(" wrong=0 "), "\(report)")
    }

    /// What the guest's reader says when its host was lost under it: how much it read, and how many sectors were wrong.
    private func readAcrossAFailover(_ way: Way, planted: String? = nil) async throws -> String {
        try await Bed.with { bed in
            let image = "\(bed.a.stateDirectory)/slow.raw"
            _ = try GuestDisk.create(image, mebibytes: 16, content: .sectorNumbers)
            let slow = try await SlowDisk.start(on: bed.a, image: image, delayMilliseconds: 25)
            var wishes = Scene.Wishes()
            wishes.moreArguments =
                ["-drive", "file=\(slow.path),format=raw,if=none,id=slow,\(way.drive)"] + way.arguments
                + way.memory.arguments(wishes.memoryMiB)
            wishes.standbyDiskLines = ["      slow: {path: \(bed.b.stateDirectory)/slow.raw, format: raw}"]
            if let planted {
                wishes.pair.program = "romulusd-planted"
                wishes.pair.environment = ["ROMULUS_PLANTED_FAULT": planted]
            }
            let scene = try await Scene.make(on: bed, wishes)
            let control = GuestControl(client: bed.client, address: scene.address)
            try control.shell("disk-reader \(way.device) /tmp/read > /tmp/reader.log 2>&1 & echo $! > /tmp/reader")
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            // A huge page that is written all the time cannot be compared, nor anything in it.
            if planted == nil { try scene.pair.verify(scene.guest, share: way.memory == .hugePages ? 0.7 : 0.95) }
            try await scene.guest.killAndWait()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(60))
            try control.shell("sleep 1; kill -0 $(cat /tmp/reader) || cat /tmp/reader.log")
            return try control.shell(
                "kill $(cat /tmp/reader); while [ ! -s /tmp/read ]; do usleep 20000; done; cat /tmp/read"
            ).trimmingCharacters(in: .whitespacesAndNewlines)
        }
    }
}
