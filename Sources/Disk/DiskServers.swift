import Model
import Storage

/// The processes that serve a guest's disks, to be spoken to from any thread that may block.
package struct DiskServers: Sendable {
    private let serving: [UInt16: DiskServing]

    init(_ serving: [UInt16: DiskServing]) { self.serving = serving }

    package init() { serving = [:] }

    /// The standby knows of that loss.
    package func note(_ loss: UInt64, of disk: UInt16) { try? serving[disk]?.order(.noted(loss)) }

    /// The register names this host alone: nothing waits for the standby, and a copy that is lost fails as a disk does.
    package func goAlone() { for serving in serving.values { try? serving.order(.alone) } }

    /// What the disks lack that are lost here is copied to them. Why it cannot begin, of each of which that is so.
    package func rejoin() -> [String] {
        serving.values.filter { $0.report.lost != nil }.compactMap { serving in
            do throws(SessionError) {
                try serving.order(.rejoin)
                return nil
            } catch {
                return error.message
            }
        }
    }
}
