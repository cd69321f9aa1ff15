import Model

/// What clients saw is one history: of any two packets, one was made in a state that the other's guest had gone through
/// (I2, I3, I4 seen from outside). A new lineage is a break that the operator knows of.
struct ClientRule {
    private var deepest: [(lineage: Lineage, step: Int)] = []
    private(set) var packets = 0

    mutating func see(_ packet: Int, of lineage: Lineage?, _ history: History, _ verdict: inout Verdict) {
        packets += 1
        guard let lineage else { return }
        guard let index = deepest.lastIndex(where: { $0.lineage == lineage }) else {
            deepest.append((lineage, packet))
            return
        }
        let known = deepest[index].step
        if history.isDeeper(packet, than: known) {
            if !history.isOnTheWay(known, to: packet) {
                verdict.fail("I2", "clients saw step \(known), which is not in the history of step \(packet)")
            }
            deepest[index].step = packet
        } else if !history.isOnTheWay(packet, to: known) {
            verdict.fail("I4", "clients saw step \(packet), which is not in the history of step \(known)")
        }
    }

    /// I3: everything that clients saw is contained in the state that is resumed.
    func resume(_ tip: Int, of lineage: Lineage, _ history: History, _ verdict: inout Verdict) {
        guard let known = deepest.last(where: { $0.lineage == lineage })?.step else { return }
        if !history.isOnTheWay(known, to: tip) {
            verdict.fail("I3", "the guest goes on from step \(tip), but clients saw step \(known)")
        }
    }
}
