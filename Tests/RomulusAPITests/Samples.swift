import Foundation
import Model
import RomulusAPI

enum Samples {
    static let since = Date(timeIntervalSince1970: 1_767_268_800.25)  // 2026-01-01T12:00:00.250Z

    static func name(_ text: String) -> VMName { VMName(text)! }

    static func timings() -> EpochTimings {
        var timings = EpochTimings()
        timings.epoch = Epoch(41)
        timings.pause = 2_500_000
        timings.stop = 500_000
        timings.scan = 100_000
        timings.copy = 300_000
        timings.deviceState = 1_000_000
        timings.resume = 250_000
        timings.encode = 400_000
        timings.acknowledge = 20_000_000
        timings.dirtyPages = 300
        timings.memoryBytes = 40_000
        timings.diskBytes = 4096
        timings.deviceStateBytes = 61_000
        timings.linkBytes = 110_000
        timings.heldFrames = 3
        timings.heldBytes = 1500
        return timings
    }

    static func protected(_ vm: String = "web") -> VMStatus {
        VMStatus(
            name: name(vm), role: .primary, state: .protected, since: since, level: .system, peer: "beta", term: 3,
            epoch: 41, epochMilliseconds: 20, qmp: "/run/vm/web.qmp", pid: 4711,
            lastEpoch: EpochReport(timings()), pause: Percentiles(p50: 2.5, p95: 4.25),
            outputLatency: Percentiles(p50: 22.5, p95: 31), epochsPerSecond: 40.04, linkBytesPerSecond: 123_456.5)
    }

    static func syncing() -> VMStatus {
        VMStatus(
            name: name("db"), role: .primary, state: .syncing, since: since, level: .system, peer: "beta", term: 1,
            epochMilliseconds: 20,
            sync: SyncProgress(memoryDone: 64 << 20, memoryTotal: 256 << 20, diskDone: 64 << 20, diskTotal: 256 << 20),
            linkBytesPerSecond: 12 * 1024 * 1024, lastError: "the link to beta was lost: timeout")
    }
}
