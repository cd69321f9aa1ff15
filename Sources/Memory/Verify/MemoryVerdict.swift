import Model

/// What came of comparing a replica's memory with the guest's, page by page. Of `pages`, each is counted as exactly one of `equal`,
/// `differing`, `discarded` and `hot` in the end.
public struct MemoryVerdict: Sendable, Equatable {
    /// A page of the guest.
    public struct Page: Hashable, Sendable {
        /// The RAM block, in the order of the offer.
        public var block: UInt16
        /// Number within the block.
        public var number: UInt32

        package init(block: UInt16, number: UInt32) {
            self.block = block
            self.number = number
        }
    }

    /// Pages of the blocks that are tracked.
    public package(set) var pages = 0
    public package(set) var equal = 0
    /// Pages that were found different at some epoch.
    public var differing: Int { differences.count }
    /// Those of them that were sent again and found equal then.
    public package(set) var mended = 0
    /// Pages that the guest gave back: they read as zero, and the replica has old contents.
    public package(set) var discarded = 0
    /// Pages that were written whenever they were looked at.
    public package(set) var hot = 0
    /// Pages of blocks that are not tracked.
    public package(set) var leftOut = 0
    /// In the order in which they were found.
    public package(set) var differences: [Page] = []
    /// Checkpoints at which pages were compared, the first and the last of them.
    public package(set) var epochs = 0
    public package(set) var firstEpoch = Epoch.firstCopy
    public package(set) var lastEpoch = Epoch.firstCopy
    /// How long it took, in nanoseconds.
    public package(set) var duration: UInt64 = 0

    package init() {}

    public var compared: Int { equal + differing }
}
