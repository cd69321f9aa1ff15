import Model
import Storage

/// The process that serves a guest's disk from two copies: `ServedState` decides, as it is shipped. It lives as long as the guest,
/// and outlives the agent. The disk has two blocks; a step of the guest's writes one of them.
final class SimDiskServer {
    static let blocks = 2
    private static let blockSize: UInt64 = 65536

    /// A write that is not done yet, and what is waited for.
    struct UnderWay {
        var step: Int
        var here = false
        var reachedHere = false
        var there = true
    }

    var rules = ServedState(size: UInt64(blocks) * blockSize)
    /// By block: the last step that is in the copy here, in the one there, and that the guest was told to be done.
    var here: [Int]
    var there: [Int]
    var done: [Int]
    var underWay: UnderWay?
    var bytesCopied: UInt64 = 0
    /// The life of the agent that it tells of itself.
    var agentLife = -1

    /// The disk is as it was after that step.
    init(tip: Int) {
        here = [Int](repeating: tip, count: Self.blocks)
        (there, done) = (here, here)
    }

    static func block(_ step: Int) -> Int { step % blocks }
    static func range(_ block: Int) -> Range<UInt64> {
        UInt64(block) * blockSize..<UInt64(block + 1) * blockSize
    }

    /// The copy here lacks something that the guest was told to be done.
    func isBehind(_ history: History) -> Bool {
        (0..<Self.blocks).contains { !history.isOnTheWay(done[$0], to: here[$0]) }
    }

    var report: ServedReport { rules.report(bytesCopied: bytesCopied, lostAt: nil) }

    /// A write begins. True when it is to reach the copy here.
    func begin(_ step: Int) -> Bool {
        let places = rules.places(ofWrite: Self.range(Self.block(step)))
        underWay = UnderWay(step: step, here: places.here, there: places.there)
        return places.here
    }

    /// The copy here fails. True when it was not lost before.
    func lose(_ why: String) -> Bool {
        var missing: [Range<UInt64>] = []
        if let write = underWay, write.here, !write.reachedHere { missing = [Self.range(Self.block(write.step))] }
        underWay?.here = false
        return rules.lose(why, missing: missing, isFlush: false)
    }

    func reachHere() {
        guard let write = underWay else { return }
        here[Self.block(write.step)] = write.step
        underWay?.here = false
        underWay?.reachedHere = true
    }

    func reachThere(_ step: Int) {
        guard underWay?.step == step else { return }
        there[Self.block(step)] = step
        underWay?.there = false
    }

    /// The write that the guest may be told to be done now.
    func settle() -> UnderWay? {
        guard let write = underWay, !write.here, !write.there, rules.mayAnswer(reachedHere: write.reachedHere) else {
            return nil
        }
        done[Self.block(write.step)] = write.step
        underWay = nil
        return write
    }

    /// The block that is to be copied to the copy here next; nil while a write to it is under way.
    func nextStale(ignoringWrites: Bool) -> Int? {
        guard let block = rules.stale.next(from: 0) else { return nil }
        if let write = underWay, Self.block(write.step) == block, !ignoringWrites { return nil }
        return block
    }

    func copyBack(_ block: Int) {
        here[block] = there[block]
        bytesCopied += Self.blockSize
        rules.copied(block)
    }
}
