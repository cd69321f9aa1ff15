import LinuxSystem
import Memory
import Model
import Wire

/// Reads and digests pages of a running guest for one batch after the other.
struct VerificationReading: ~Copyable {
    /// A piece: what is read without looking whether the batch was taken.
    static let pagesAtOnce = 256
    /// The process's memory map is not locked for longer than this many pages take.
    private static let pagesPerCall: UInt32 = 64

    private var glance: MemoryGlance
    private let piece: Mapping
    private var digests: [UInt8] = []
    private var empty: [Int] = []
    private var positions: [Int] = []

    init(of pid: Int32, _ blocks: [TrackedBlock]) throws(SystemError) {
        let piece = try Mapping.anonymous(length: Self.pagesAtOnce * pageSize)
        glance = try MemoryGlance(of: pid, blocks)
        self.piece = piece
    }

    mutating func begin() {
        digests.removeAll(keepingCapacity: true)
        empty.removeAll(keepingCapacity: true)
    }

    mutating func add(_ run: PageRun) throws(SystemError) {
        let before = digests.count / PageDigest.size
        var done: UInt32 = 0
        while done < run.count {
            let part = TrackedRun(
                block: run.block, first: run.first + done, count: min(Self.pagesPerCall, run.count - done))
            positions.removeAll(keepingCapacity: true)
            let target = UnsafeMutableRawBufferPointer(rebasing: piece.bytes[(Int(done) * pageSize)...])
            try glance.copy(part, into: target, empty: &positions)
            for position in positions { empty.append(before + Int(done) + position) }
            done += part.count
        }
        withUnsafeTemporaryAllocation(byteCount: PageDigest.size, alignment: 16) { digest in
            for page in 0..<Int(run.count) {
                PageDigest.make(of: piece.bytes.baseAddress! + page * pageSize, into: digest.baseAddress!)
                digests.append(contentsOf: digest)
            }
        }
    }

    mutating func dropLast(_ run: PageRun) {
        digests.removeLast(Int(run.count) * PageDigest.size)
        let kept = digests.count / PageDigest.size
        while let last = empty.last, last >= kept { empty.removeLast() }
    }

    /// The batch that the standby was asked about.
    func batch(_ runs: [PageRun], _ answer: MemoryVerification.Answer) -> VerifiedBatch {
        var written = answer.written
        written.sort()
        return VerifiedBatch(
            runs: runs, ours: digests, theirs: answer.digests, empty: empty, written: written, epoch: answer.epoch)
    }
}
