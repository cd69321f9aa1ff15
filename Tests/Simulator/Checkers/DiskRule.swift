import Model

/// A guest that starts from its disks finds every write there that it, or an instance before it in this lineage, was told to
/// be done, where writes do not belong to an epoch.
struct DiskRule {
    private var newest: [(lineage: Lineage, step: Int)] = []

    /// The guest was told that this write is done.
    mutating func acknowledge(_ step: Int, of lineage: Lineage?) {
        guard let lineage else { return }
        if let index = newest.lastIndex(where: { $0.lineage == lineage }) {
            newest[index].step = step
        } else {
            newest.append((lineage, step))
        }
    }

    /// The disks are as they were after that step.
    func start(_ tip: Int, of lineage: Lineage?, _ history: History, _ verdict: inout Verdict) {
        guard let known = newest.last(where: { $0.lineage == lineage })?.step else { return }
        if !history.isOnTheWay(known, to: tip) {
            verdict.fail("I38", "the guest starts from disks of step \(tip), and write \(known) was acknowledged")
        }
    }
}
