import Foundation
import TestBed
import Testing

/// A real guest, real taps, a real client: the bed does what the tests of the product take for granted.
@Suite(.serialized, .timeLimit(.minutes(3)))
struct GuestTests {
    @Test func guestServesItsClientsThroughTheTap() async throws {
        try await Bed.with { bed in
            let image = try GuestImage.build()
            let disk = try GuestDisk.create("\(bed.a.stateDirectory)/disk.raw", mebibytes: 16)
            var configuration = GuestVM.Configuration()
            configuration.disks = [disk]
            let vm = try await GuestVM.boot(on: bed.a, image: image, configuration)
            #expect(bed.a.processes.contains(vm.pid))

            var plan = Verifier.Plan()
            plan.dirtying = .init(pages: 100, workingSet: 1024)
            let verifier = try await Verifier.start(on: bed.client, guest: configuration.address, plan)
            try await verifier.waitForAnswers()
            #expect(try verifier.control.dirtied().pages > 0)
            #expect(try verifier.control.shell("echo hello").contains("hello"))
            #expect(throws: BedError.self) { try verifier.control.shell("exit 3") }

            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            #expect(report.bytesLost == 0 && report.connectionsLost == 0 && report.recordsLost == 0)
            #expect(report.echo.received > 0 && (report.redis?.acknowledged ?? 0) > 0)
            #expect((report.ledger?.acknowledged ?? 0) > 0 && report.memory?.pages == 1024)
            #expect(try verifier.control.shell("dmesg | grep -ci 'i/o error' || true") == "0\n")
        }
    }

    @Test(arguments: GuestVM.Machine.allCases, GuestVM.NIC.Model.allCases)
    func machinesBootWithEitherNIC(machine: GuestVM.Machine, nic: GuestVM.NIC.Model) async throws {
        try await Bed.with { bed in
            var configuration = GuestVM.Configuration()
            configuration.machine = machine
            configuration.nics = [.init(nic)]
            configuration.graphics = .std
            configuration.vcpus = 1
            configuration.diskBus = nic == .e1000 ? .ide : .virtio
            let disks = nic == .e1000 ? ["sda", "sdb"] : ["vda", "vdb"]
            configuration.disks = [
                try GuestDisk.create("\(bed.b.stateDirectory)/one.raw", mebibytes: 8, content: .random(seed: 3)),
                try GuestDisk.create("\(bed.b.stateDirectory)/two.qcow2", format: .qcow2, mebibytes: 4),
            ]
            let image = try GuestImage.build(kernel: nic == .e1000 ? .generic : .cloud)
            _ = try await GuestVM.boot(on: bed.b, image: image, configuration)
            let control = GuestControl(client: bed.client, address: configuration.address)
            // Linux finds AHCI disks side by side, so their names may come in either order; the sizes tell them apart.
            let sizes = try disks.map { try control.shell("cat /sys/block/\($0)/size") }
            #expect(sizes.sorted() == ["16384\n", "8192\n"])
            let first = sizes.first == "16384\n" ? disks[0] : disks[1]
            #expect(try control.shell("ls /sys/class/net") == "eth0\nlo\n")
            let digest = try Child.run(["sha256sum", "\(bed.b.stateDirectory)/one.raw"]).prefix { $0 != " " }
            #expect(try control.diskDigest("/dev/\(first)") == digest)
        }
    }

    @Test func aPauseIsMeasuredAndADeathIsALoss() async throws {
        try await Bed.with { bed in
            var configuration = GuestVM.Configuration()
            configuration.hasTestMonitor = true
            configuration.disks = [try GuestDisk.create("\(bed.a.stateDirectory)/disk.raw", mebibytes: 16)]
            let vm = try await GuestVM.boot(on: bed.a, image: try GuestImage.build(), configuration)
            #expect(FileManager.default.fileExists(atPath: vm.testMonitorPath))
            let verifier = try await Verifier.start(on: bed.client, guest: configuration.address)
            vm.process.kill(SIGSTOP)
            try await Task.sleep(for: .milliseconds(1500))
            vm.process.kill(SIGCONT)
            try await verifier.waitForAnswers()
            let silence = try #require(verifier.echo.progress?.longestSilenceMs)
            #expect(silence > 1300 && silence < 3500)
            #expect(verifier.echo.progress?.connectionsLost == 0)

            try await vm.killAndWait()
            let report = try await verifier.finish()
            #expect(!report.isClean && !report.echo.isClean, "\(report)")
            #expect(report.bytesLost > 0 && report.recordsLost > 0)
            #expect(report.redis?.isVerified == false && report.redis?.failure != nil)
            #expect(report.ledger?.isVerified == false && report.ledger?.failure != nil)
        }
    }

    @Test func aQEMUThatDoesNotStartIsQuoted() async throws {
        let bed = try Bed()
        defer { bed.tearDown() }
        var configuration = GuestVM.Configuration()
        configuration.moreArguments = ["-device", "no-such-device"]
        let vm = try GuestVM.start(on: bed.a, image: try GuestImage.build(), configuration)
        let error = await #expect(throws: BedError.self) { try await vm.waitUntilReady() }
        #expect(error?.description.contains("no-such-device") == true)
    }

    @Test func anImageIsBuiltOnce() async throws {
        let directory = try TemporaryDirectory("cache")
        defer { directory.remove() }
        let forgotten = "\(directory.path)/cloud-0000000000000000"
        try FileManager.default.createDirectory(atPath: forgotten, withIntermediateDirectories: true)
        try FileManager.default.setAttributes(
            [.modificationDate: Date(timeIntervalSinceNow: -30 * 86400)], ofItemAtPath: forgotten)
        // Two builds at once end at one image.
        let paths = try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<2 { group.addTask { try GuestImage.build(cacheDirectory: directory.path).initrdPath } }
            return try await group.reduce(into: Set()) { $0.insert($1) }
        }
        #expect(paths.count == 1)
        let date = {
            try FileManager.default.attributesOfItem(atPath: try #require(paths.first))[.modificationDate] as? Date
        }
        try FileManager.default.setAttributes(
            [.modificationDate: Date(timeIntervalSinceNow: -3 * 86400)], ofItemAtPath: try #require(paths.first))
        let before = try date()
        let began = ContinuousClock.now
        _ = try GuestImage.build(cacheDirectory: directory.path)
        #expect(ContinuousClock.now - began < .seconds(3))
        #expect(try date() == before)
        let entries = try FileManager.default.contentsOfDirectory(atPath: directory.path)
        #expect(entries.filter { $0.hasPrefix("cloud-") }.count == 1 && entries.count == 2, "\(entries)")
    }
}
