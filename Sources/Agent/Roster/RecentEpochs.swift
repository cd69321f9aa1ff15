import Model
import Protocol
import RomulusAPI

/// The records of the last epochs of a VM.
package struct RecentEpochs: Sendable {
    private var ring: [EpochTimings] = []
    private var next = 0

    mutating func add(_ timings: EpochTimings) {
        if ring.count < EpochModel.epochsMax {
            ring.append(timings)
        } else {
            ring[next] = timings
            next = (next + 1) % ring.count
        }
    }

    package var last: EpochTimings? { ring.isEmpty ? nil : ring[(next + ring.count - 1) % ring.count] }

    /// Oldest first.
    package var timings: [EpochTimings] { Array(ring[next...] + ring[..<next]) }
}

extension EpochPrediction {
    init(_ model: EpochModel, _ epoch: EpochTimings) {
        let pages = Double(epoch.dirtyPages)
        self.init(
            pause: model.pause(pages) / 1e6, bound: model.bound(pages),
            acknowledge: model.acknowledge(pages) / 1e6, linkBytes: model.linkBytes(pages))
    }
}

extension Percentiles {
    /// Of the pages written by epoch; nil without epochs.
    init?(pages epochs: [EpochTimings]) {
        guard !epochs.isEmpty else { return nil }
        let spread = EpochForecast.Spread(epochs.map { Double($0.dirtyPages) })
        self.init(p50: spread.p50, p95: spread.p95)
    }
}

extension ModelReport {
    init(_ model: EpochModel) {
        self.init(
            fixed: (model.stop + model.finish + model.resume) / 1e6, save: model.save / 1e6,
            scan: model.scan.fixed / 1e6, scanPage: model.scan.slope / 1000, copy: model.copy.fixed / 1e6,
            copyPage: model.copy.slope / 1000, encode: model.encode.fixed / 1e6,
            encodePage: model.encode.slope / 1000, linkBytes: model.linkBytes.fixed,
            linkBytesPage: model.linkBytes.slope, transfer: model.transfer.fixed / 1e6,
            transferKiB: model.transfer.slope * 1.024)
    }
}
