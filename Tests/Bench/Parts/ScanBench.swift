import Foundation
import LinuxSystem
import QEMU
import TestBed

/// What it costs to look through memory that nobody writes.
///
/// The scanning is done by a process of its own (`romulus-bench --scans-of MONITOR`): the bench is the parent of the
/// guest's QEMU, and a parent that waits for its child takes away the stops that a tracer waits for.
enum ScanBench {
    static let about =
        "one scan of memory that nobody writes: of an idle guest of 2 GiB, and of a process of 1, 4 and 16 GiB"

    static let mebibytes = 2048
    static let order = "--scans-of"

    /// Scans, with protection, of a guest that used most of its memory and stands still: milliseconds per GiB.
    static func measure(_ image: GuestImage) async throws -> Measured {
        Measured(
            figures: [Figure("scan of idle RAM, per GiB", try await scans(image), "ms", goal: 0.5)]
                + (try MemoryScanBench.measure()))
    }

    private static func scans(_ image: GuestImage) async throws -> [Double] {
        try await Bed.with { bed in
            var configuration = GuestVM.Configuration()
            configuration.memoryMiB = mebibytes
            configuration.hasTestMonitor = true
            let guest = try await GuestVM.boot(on: bed.a, image: image, configuration)
            let control = GuestControl(client: bed.client, address: guest.configuration.address)
            try control.shell(
                "mkdir -p /fill && mount -t tmpfs -o size=1600m none /fill && dd if=/dev/zero of=/fill/used bs=1M count=1400",
                limit: .seconds(120))
            let output = try Child.run([CommandLine.arguments[0], order, guest.testMonitorPath])
            return output.split(separator: "\n").compactMap { Double($0) }
        }
    }

    /// Prints the milliseconds per GiB of each scan, one a line.
    static func scan(_ monitorPath: String) throws {
        let monitor = try QMPConnection(path: monitorPath)
        defer { monitor.close() }
        let description = try GuestInspector.inspect(monitor)
        var tracker = try MemoryTracker(attachingTo: description.process.pid)
        for (index, block) in description.blocks.enumerated() where block.tracked {
            guard let address = block.hostAddress else { continue }
            try tracker.track(TrackedBlock(index: UInt16(index), address: address, length: block.length))
        }
        try tracker.protectAll()
        // It runs on for a while under protection, as a protected guest does: what it writes splits huge pages.
        sleep(3)
        try monitor.execute("stop")
        var runs = RunBuffer(capacity: 65_536)
        for round in 0...20 {
            runs.removeAll()
            var position = ScanPosition()
            let began = MonotonicClock.now()
            while try !tracker.scanWritten(from: &position, protecting: true, into: &runs) { runs.removeAll() }
            let took = Double(MonotonicClock.now() - began) / 1e6
            // The first one takes what was written while the guest ran.
            if round > 0 { print(took / (Double(mebibytes) / 1024)) }
        }
        try tracker.close()
        try monitor.execute("cont")
    }
}
