import Foundation
import QEMU
import TestBed
import Testing

/// What protection costs: told beforehand by `romulus forecast`, shown by `romulus top`.
@Suite(.serialized, .timeLimit(.minutes(4))) struct CostTests {
    private static let pages = 300

    @Test func aForecastLeavesNoTraceAndTopShowsWhatItForetold() async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.hasTestMonitor = true
            let scene = try await Scene.make(on: bed, wishes)
            let monitor = try scene.testMonitor()
            defer { monitor.close() }
            let control = GuestControl(client: bed.client, address: scene.address)
            try control.dirty(
                GuestControl.Dirtying(pages: Self.pages, periodMs: 20, workingSet: 2048, pattern: .counter))

            var plan = Verifier.Plan()
            (plan.echoConnections, plan.redisIntervalMs, plan.ledgerIntervalMs) = (4, 0, 0)
            let client = try await Verifier.start(on: bed.client, guest: scene.address, plan)
            let before = try Trace(monitor, pid: scene.guest.pid)
            let forecast = try scene.pair.forecast(scene.guest, ["--seconds", "5"])
            let after = try Trace(monitor, pid: scene.guest.pid)
            #expect(before == after)
            #expect(try control.verifyMemory().bad == 0)
            print("forecast: \(forecast.advice)")
            for epoch in forecast.epochs { print("  \(epoch)") }
            #expect(forecast.epochs.map(\.epochMs) == [10, 20, 50, 100, 200])
            #expect(forecast.epochs.allSatisfy { $0.watched > 0 && $0.pauseMs.p50 > 0.1 && $0.agentCpuRatio > 0 })
            #expect(forecast.link?.peer == "hostb" && (forecast.link?.roundTripMs ?? 0) > 0, "\(forecast)")
            #expect(forecast.deviceStateBytes > 5000 && forecast.standbyMemoryBytes >= 256 << 20)
            // A hundred records a second of each of four connections were echoed, where this machine is quick enough.
            let requests = try #require(forecast.requests)
            #expect((requests.roundTripsPerSecondMax ?? 0) > 20 && requests.framesOutPerSecond != nil, "\(requests)")
            #expect((requests.lost?.most ?? 0) >= (requests.lost?.least ?? 1), "\(requests)")
            #expect(forecast.advice.contains("round trips a second were counted"), "\(forecast.advice)")
            #expect(try await client.finish().isClean)
            // Longer epochs have more pages.
            #expect(forecast.epochs[4].dirtyPages.p50 > 3 * forecast.epochs[0].dirtyPages.p50)
            #expect(forecast.epochs[1].dirtyPages.p50 > Double(Self.pages) / 2)

            let gentle = try scene.pair.forecast(scene.guest, ["--seconds", "2", "--no-pause"])
            #expect(!gentle.pausesMeasured && gentle.deviceStateBytes == 0)
            #expect(try monitor.execute("query-status")["running"]?.bool == true)

            try await scene.pair.protect(scene.guest)
            let refused = try scene.pair.romulus(bed.a, ["forecast", Scene.vm, "--qmp", scene.guest.monitorPath])
            #expect(refused.status == 5 && refused.errors.contains("romulus top web"), "\(refused)")
            let elsewhere = try scene.pair.romulus(bed.b, ["forecast", Scene.vm, "--qmp", scene.guest.monitorPath])
            #expect(
                elsewhere.status == 5 && elsewhere.errors.contains("does not run here but at hosta"), "\(elsewhere)")

            // On a busy machine the guest works little, and epochs are long.
            let top = try await eventually("some epochs of a busy agent", within: .seconds(30)) {
                let top = try scene.pair.top(bed.a, Scene.vm)
                return (top.epochs?.epochs.count ?? 0) > 8 && (top.agentCpuRatio ?? 0) > 0 ? top : nil
            }
            let vm = try #require(top.vms.first)
            #expect(top.node == "hosta" && top.vms.count == 1 && vm.status.state == "protected")
            #expect((vm.qemuCpuRatio ?? 0) > 0)
            let rows = try #require(top.epochs?.epochs)
            for (row, next) in zip(rows, rows.dropFirst()) {
                #expect(next.measured.epoch == row.measured.epoch + 1)
            }
            for row in rows {
                let epoch = row.measured
                let parts = epoch.stopMs + epoch.scanMs + epoch.copyMs + epoch.deviceStateMs + epoch.resumeMs
                // What is between the phases is no more than the clocks' own reading, or a switch to another thread.
                #expect(parts <= epoch.pauseMs + 0.001, "\(epoch)")
                #expect(epoch.transferMs <= epoch.acknowledgeMs + 0.001, "\(epoch)")
                // Nothing ran since a checkpoint before the first.
                #expect(epoch.encodeMs > 0 && epoch.linkBytes > 0 && (epoch.runMs > 0) == (epoch.epoch > 1), "\(epoch)")
                #expect(epoch.heldFrames == 0 || epoch.heldMs > 0, "\(epoch)")
                let model = try #require(row.model)
                #expect(model.pauseMs > 0.1 && model.acknowledgeMs > 0 && model.linkBytes > 0)
            }
            let standby = try scene.pair.top(bed.b, Scene.vm)
            #expect(standby.vms.first?.status.role == "standby" && standby.epochs?.epochs.isEmpty == true)
        }
    }

    @Test func aGuestThatIsPausedOrNotThereIsRefused() async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.hasTestMonitor = true
            let scene = try await Scene.make(on: bed, wishes)
            let monitor = try scene.testMonitor()
            defer { monitor.close() }
            let path = scene.guest.monitorPath
            try monitor.execute("stop")
            let paused = try scene.pair.romulus(bed.a, ["forecast", Scene.vm, "--qmp", path])
            #expect(paused.status == 5 && paused.errors.contains("is paused"), "\(paused)")
            #expect(try monitor.execute("query-status")["running"]?.bool == false)
            try monitor.execute("cont")
            let nowhere = try scene.pair.romulus(bed.a, ["forecast", Scene.vm, "--qmp", path + ".no"])
            #expect(nowhere.status == 5 && nowhere.errors.contains(path + ".no"), "\(nowhere)")
            let unnamed = try scene.pair.romulus(bed.a, ["forecast", "other"])
            #expect(unnamed.status == 4 && unnamed.errors.contains("--qmp"), "\(unnamed)")
            let stranger = try scene.pair.romulus(bed.a, ["forecast", Scene.vm, "--qmp", path, "--standby", "hostx"])
            #expect(stranger.status == 4, "\(stranger)")
            // Nothing of that is in the way of protecting it.
            try await scene.pair.protect(scene.guest)
        }
    }

    /// What an agent could leave in a QEMU.
    private struct Trace: Equatable {
        var objects: [String]
        var descriptorSets: Int
        var jobs: Int
        var nodes: Int
        var userfaults: Int
        var policies: [Int32: Int32]
        var isRunning: Bool?

        init(_ monitor: QMPConnection, pid: Int32) throws {
            objects =
                try monitor.execute("qom-list", ["path": "/objects"]).array?.compactMap { $0["name"]?.string } ?? []
            // A set that was removed goes when QEMU next looks after its sets.
            descriptorSets = try monitor.execute("query-fdsets").array?.count ?? 0
            jobs = try monitor.execute("query-block-jobs").array?.count ?? 0
            nodes = try monitor.execute("query-named-block-nodes").array?.count ?? 0
            let descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd")
            userfaults =
                descriptors.filter { name in
                    let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/\(name)")
                    return target?.contains("userfaultfd") == true || target?.contains("romulus") == true
                }.count
            policies = [:]
            for name in try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task") {
                if let thread = Int32(name) { policies[thread] = sched_getscheduler(thread) }
            }
            // Workers of a pool come and go by themselves.
            policies = policies.filter { $0.key == pid || $0.value != SCHED_OTHER }
            isRunning = try monitor.execute("query-status")["running"]?.bool
        }
    }
}
