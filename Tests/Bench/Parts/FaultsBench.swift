import Foundation
import TestBed

/// What a guest at level `component` feels when its host loses a disk or the network, and what a disk that rejoins costs.
enum FaultsBench {
    static let about = "at level component: a disk that fails or hangs and then rejoins, and an uplink that is lost"

    static let rounds = 3
    /// `defaults.disk_bound_ms`.
    private static let boundMs = 200
    private static let pingMs: UInt32 = 5

    private struct Samples {
        /// The longest time that a write of the guest's took.
        var quiet: [Double] = []
        var failing: [Double] = []
        var hanging: [Double] = []
        /// What was copied of what differed.
        var copied: [Double] = []
        var differed: [Double] = []
        /// For how long nobody heard the guest.
        var silent: [Double] = []
    }

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            var wishes = Rig.Wishes()
            (wishes.hasArbiter, wishes.breaks, wishes.driveOptions) = (true, true, ["cache=none"])
            wishes.defaults = ["disk_bound_ms: \(boundMs)", "disk_rejoin_seconds: 0"]
            let rig = try await Rig(bed, image, wishes)
            try await rig.protect(["--level", "component"])
            var samples = Samples()
            for round in 1...rounds {
                samples.quiet.append(try await longestWrite(rig) { try await Task.sleep(for: .seconds(1)) })
                samples.failing.append(try await fault(.eio, rig, &samples))
                samples.hanging.append(try await fault(.hang, rig, &samples))
                samples.silent.append(try await silenceWithoutUplink(rig))
                let words = [samples.quiet, samples.failing, samples.hanging, samples.silent].map { values in
                    Table.number(values.last ?? .nan)
                }
                Bench.say(
                    "  round \(round), ms: longest write \(words[0]), while the disk fails \(words[1]), while it hangs"
                        + " \(words[2]); not heard without its uplink \(words[3])")
            }
            return Measured(figures: [
                Figure("longest write, no fault", samples.quiet, "ms"),
                Figure("longest write while the disk fails", samples.failing, "ms", goal: 20),
                Figure(
                    "longest write while the disk hangs, bound \(boundMs) ms", samples.hanging, "ms",
                    goal: Double(boundMs + 50)),
                Figure(
                    "bytes copied to a disk that rejoins", samples.copied, "B", over: samples.differed,
                    "bytes that differ",
                    goal: 1.1),
                Figure("not heard after the uplink's carrier fell", samples.silent, "ms", goal: 100),
            ])
        }
    }

    /// In milliseconds, of writes every 2 ms, each of which the client hears of.
    private static func longestWrite(_ rig: Rig, _ body: () async throws -> Void) async throws -> Double {
        let address = rig.guest.configuration.address
        let ledger = try Workload<LedgerReport>(
            on: rig.bed.client,
            ["ledger", "address=\(address)", "disk=/dev/vda", "slots=2048", "random=1", "interval_ms=2"])
        try await ledger.waitUntilRunning()
        try await Task.sleep(for: .milliseconds(500))
        try await body()
        try await Task.sleep(for: .milliseconds(500))
        let report = try await ledger.finish()
        guard report.isClean else { throw BedError("the guest's disk lost something: \(report)") }
        return report.longestSilenceMs
    }

    private static func fault(_ fault: SlowDisk.Fault, _ rig: Rig, _ samples: inout Samples) async throws -> Double {
        guard let storage = rig.storage else { throw BedError("this disk does not break") }
        func loss() throws -> [Pair.DiskLoss]? { try rig.pair.status(rig.bed.a, Rig.vm)?.diskLoss }
        let longest = try await longestWrite(rig) {
            try storage.be(fault)
            try await eventually("the disk is lost", within: .seconds(20)) { try loss() == nil ? nil : true }
        }
        try storage.be(nil)
        // What hung is done by then.
        try await Task.sleep(for: .milliseconds(500))
        samples.differed.append(Double(try differing(rig)))
        try await eventually("the disk rejoins", within: .seconds(60)) {
            if try loss() == nil { return true }
            _ = try rig.pair.romulus(rig.bed.a, ["rejoin", Rig.vm])
            return nil
        }
        let events = try rig.pair.romulus(rig.bed.a, ["events", Rig.vm, "--kind", "disk_rejoined"]).output
        guard let last = events.matches(of: /([0-9]+) bytes differed/).last, let bytes = Double(last.1) else {
            throw BedError("nobody tells what was copied: \(events)")
        }
        samples.copied.append(bytes)
        return longest
    }

    /// In how many bytes the two hosts' images differ, in blocks of 4 KiB.
    private static func differing(_ rig: Rig) throws -> Int {
        let images = try rig.bed.hosts.prefix(2).map { host in
            try Data(contentsOf: URL(fileURLWithPath: "\(host.stateDirectory)/bench.raw"), options: .alwaysMapped)
        }
        let size = min(images[0].count, images[1].count)
        return stride(from: 0, to: size, by: 4096).reduce(0) { sum, at in
            sum + (images[0][at..<at + 4096] == images[1][at..<at + 4096] ? 0 : 4096)
        }
    }

    /// From the carrier's fall until the guest's frames come through the other host, in milliseconds.
    private static func silenceWithoutUplink(_ rig: Rig) async throws -> Double {
        let pinger = try Pinger(from: rig.bed.client, to: rig.guest.configuration.address, everyMs: pingMs)
        func wait(untilCarried isCarried: Bool) async throws {
            try await eventually(isCarried ? "its frames are carried" : "they are no more", within: .seconds(30)) {
                try rig.pair.romulus(rig.bed.a, ["status", Rig.vm]).output.contains("carried") == isCarried ? true : nil
            }
        }
        try await Task.sleep(for: .milliseconds(300))
        try rig.bed.lan.setLink("port-a", up: false)
        try await wait(untilCarried: true)
        try await Task.sleep(for: .milliseconds(500))
        let gap = Double(pinger.longestGap)
        _ = pinger.end()
        try rig.bed.lan.setLink("port-a", up: true)
        try await wait(untilCarried: false)
        return gap
    }
}
