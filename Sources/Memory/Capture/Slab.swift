import Hypervisor
import LinuxSystem
import Model
import Synchronization

/// A piece of a captured epoch: page contents, copied out of the guest in run order, and the runs they belong to.
///
/// A fixed number of slabs circulates between capture and shipping; when all are under way, capture waits, which is how
/// a slow link lengthens epochs. A guest that stands still is given spare ones instead, which end after use. A slab is owned
/// by one thread at a time.
package final class Slab: @unchecked Sendable {
    // SAFETY: handed from thread to thread through BlockingQueue, never shared.
    package static let pagesMax = TrackedMemory.copiedPagesMax
    package static let bytesMax = pagesMax * pageSize
    /// How many circulate.
    package static let count = 6
    /// So many pages are made present at once, so that an ordinary pause waits for none.
    private static let pagesPresent = 1024

    /// How many spare slabs there are at once, of all guests: 1 GiB.
    package static let sparesMax = 32
    private static let spares = Atomic<Int>(0)

    private let memory: Mapping
    /// It does not circulate.
    let isSpare: Bool
    package var runs = RunBuffer(capacity: Slab.pagesMax)

    package convenience init() throws(SystemError) { try self.init(isSpare: false) }

    private init(isSpare: Bool) throws(SystemError) {
        self.isSpare = isSpare
        memory = try Mapping.anonymous(length: Self.bytesMax)
        memory.adviseHugePages()
        for page in 0..<Self.pagesPresent { memory.bytes[page * pageSize] = 0 }
    }

    /// Nil when there are too many already, or no memory for it.
    package static func makeSpare() -> Slab? {
        guard spares.add(1, ordering: .relaxed).newValue <= sparesMax, let slab = try? Slab(isSpare: true) else {
            spares.subtract(1, ordering: .relaxed)
            return nil
        }
        return slab
    }

    deinit { if isSpare { Self.spares.subtract(1, ordering: .relaxed) } }

    package var pages: UnsafeMutableRawBufferPointer { memory.bytes }

    package func reset() { runs.removeAll() }

    /// How many of its pages are not all zeroes.
    package var pagesWithContents: Int {
        (0..<runs.pages).count { !PageDigest.isZero(UnsafeRawPointer(pages.baseAddress! + $0 * pageSize)) }
    }

    /// For the test bed only: forgets the last page, as if it had not been written.
    package func dropOnePage() {
        guard runs.pages > 1 else { return }
        let kept = (0..<runs.count).map { runs[$0] }
        runs.removeAll()
        for (index, run) in kept.enumerated() {
            var run = run
            if index == kept.count - 1 { run.count -= 1 }
            if run.count > 0 { runs.append(run) }
        }
    }
}
