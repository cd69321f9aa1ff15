import Foundation
import Pair
import RomulusAPI

extension PrimaryStatus {
    /// As the API tells it.
    var diskLosses: [DiskLossReport] {
        lostDisks.map { loss in
            DiskLossReport(
                disk: loss.disk, reason: loss.reason,
                since: loss.since.map { Date(timeIntervalSince1970: TimeInterval($0)) } ?? Date(),
                isRejoining: loss.isRejoining, staleBytes: loss.staleBytes)
        }
    }
}
