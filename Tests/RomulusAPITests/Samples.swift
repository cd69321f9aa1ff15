import Foundation
import Literals
import Model
import RomulusAPI

enum Samples {
    static let since = Date(timeIntervalSince1970: 1_767_268_800.25)  // 2026-01-01T12:00:00.250Z

    static func name(_ text: String) -> VMName { VMName(text)! }

    static func timings() -> EpochTimings {
        var timings = EpochTimings()
        timings.epoch = Epoch(41)
        timings.run = 22_500_000
        timings.pause = 2_500_000
        timings.stop = 500_000
        timings.scan = 100_000
        timings.copy = 300_000
        timings.deviceState = 1_000_000
        timings.resume = 250_000
        timings.encode = 400_000
        timings.transfer = 1_500_000
        timings.acknowledge = 20_000_000
        timings.release = 50_000
        timings.held = 21_000_000
        timings.dirtyPages = 300
        timings.memoryBytes = 40_000
        timings.diskBytes = 4096
        timings.deviceStateBytes = 61_000
        timings.deviceStateSentBytes = 250
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

    static let prediction = EpochPrediction(pause: 2.25, bound: .deviceState, acknowledge: 4, linkBytes: 100_000)

    static let model = ModelReport(
        fixed: 0.5, save: 1, scan: 0.1, scanPage: 0.1, copy: 0.05, copyPage: 1, encode: 0.1, encodePage: 0.5,
        linkBytes: 700, linkBytesPage: 120, transfer: 0.2, transferKiB: 1)

    /// `count` epochs, the oldest 41.
    static func epochs(_ count: Int, of vm: String = "web") -> EpochList {
        let rows = (0..<count).map { index in
            var timings = timings()
            timings.epoch = Epoch(UInt64(41 + index))
            return EpochRow(measured: EpochReport(timings), model: prediction)
        }
        return EpochList(vm: name(vm), epochs: rows, model: model)
    }

    static func forecast() -> Forecast {
        let epochs = [10, 20].map { length in
            ForecastEpoch(
                epochMilliseconds: length, watched: 90, dirtyPages: Percentiles(p50: 300, p95: 420),
                pause: Percentiles(p50: 1.5, p95: 2.25), bound: .pages, answer: 2.5, busyAnswer: 6,
                fixedAnswer: 7.25, fixedAnswerMax: 12, slowdown: 0.125, linkBytesPerEpoch: 2048,
                linkBytesPerSecond: 1536 * 1024, agentShare: 0.03)
        }
        return Forecast(
            vm: name("web"), level: .system, seconds: 10.25, hasPauses: true,
            link: ForecastLink(peer: "beta", roundTrip: 0.25), epochs: epochs, deviceStateBytes: 61_000,
            diskBytesPerSecond: 2048, agentMemoryBytes: 40 << 20, agentMemoryBytesMax: 400 << 20,
            standbyMemoryBytes: 256 << 20, model: model,
            requests: ForecastRequests(
                framesOutPerSecond: 410.4, framesInPerSecond: 400, uncounted: nil, roundTripsPerSecondMax: 400,
                clients: 1, roundTrips: 7, answer: ForecastSpan(least: 2.5, most: 6),
                transaction: ForecastSpan(least: 17.5, most: 42), lost: ForecastSpan(least: 0.5, most: 0.7)),
            advice: "--epoch-ms 20 suits: so it does.", advisedEpochMilliseconds: 20)
    }

    static func verification(differing: Int = 12) -> Verification {
        Verification(
            vm: name("web"), peer: "beta", isOver: true, pages: 65_632, compared: 65_588, equal: 65_588 - differing,
            differing: differing, mended: differing / 2, discarded: 4, hot: 40, leftOut: 98, epochs: 58,
            firstEpoch: 122, lastEpoch: 278, seconds: 1.38,
            differences: (0..<differing).map { Verification.Difference(block: "pc.ram", page: UInt32(7 + $0)) })
    }

    static func syncing() -> VMStatus {
        VMStatus(
            name: name("db"), role: .primary, state: .syncing, since: since, level: .system, peer: "beta", term: 1,
            epochMilliseconds: 20,
            sync: SyncProgress(memoryDone: 64 << 20, memoryTotal: 256 << 20, diskDone: 64 << 20, diskTotal: 256 << 20),
            linkBytesPerSecond: 12 * 1024 * 1024, lastError: "the link to beta was lost: timeout")
    }

    /// A failover from detection to the first output, 61.25 ms and 0.5 ms after each other, and 75 s to a new standby.
    static func explanation(sameBoot: Bool = true) -> Explanation {
        let steps: [(EventKind, Double, String)] = [
            (.detected, 0, "alpha was silent for 500 ms"), (.promoted, 61.25, "web runs here from checkpoint 812"),
            (.error, 61.5, "bad\nnews"), (.firstOutput, 61.75, "2 frames left"),
            (.reProtected, 75_061.75, "gamma has its first checkpoint"),
        ]
        let events = steps.enumerated().map { index, step in
            Event(
                id: UInt64(index + 10), time: since.addingTimeInterval(step.1 / 1000),
                bootID: sameBoot ? "b" : "b\(index)", bootNanoseconds: Int64(step.1 * 1e6), vm: name("web"),
                epoch: index == 1 ? 812 : nil, term: 4, kind: step.0, message: step.2,
                cause: [nil, 10, 11, 11, 13][index])
        }
        return Explanation(vm: name("web"), node: "beta", events: events)
    }
}
