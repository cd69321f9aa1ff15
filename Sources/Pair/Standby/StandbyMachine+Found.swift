import Model
import Protocol
import Standby

extension StandbyMachine {
    /// For a replica that an earlier run of the agent left.
    ///
    /// - Parameter recovered: epochs that are whole and applied once more, in order.
    init(found replica: Replica, _ custody: Custody, recovered: [Epoch]) {
        self.init(
            node: custody.node, rule: custody.rule, record: custody.record, fences: Set(custody.fences.keys),
            bootsFromDisk: custody.bootsFromDisk, seed: .random(in: 1 ... .max), found: replica.image,
            level: replica.offer.session.level, staged: recovered.last ?? replica.appliedEpoch,
            applied: recovered.first.map { Epoch($0.number - 1) } ?? replica.appliedEpoch,
            isLoaded: replica.isLoaded)
    }
}
