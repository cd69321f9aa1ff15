/// A block of the tracked process's memory.
public struct TrackedBlock: Hashable, Sendable {
    /// The caller's number for it, copied into every run.
    public var index: UInt16
    /// Where it starts in the process; a multiple of the page size.
    public var address: UInt64
    /// In bytes; a multiple of the page size.
    public var length: UInt64

    public init(index: UInt16, address: UInt64, length: UInt64) {
        self.index = index
        self.address = address
        self.length = length
    }
}

/// Consecutive pages of one block.
public struct TrackedRun: Hashable, Sendable {
    public var block: UInt16
    /// Number of the first page within the block.
    public var first: UInt32
    public var count: UInt32

    public init(block: UInt16, first: UInt32, count: UInt32) {
        self.block = block
        self.first = first
        self.count = count
    }
}

/// A list of runs with fixed room, allocated once and used again for every scan.
// SAFETY: the storage belongs to this value alone, so the value may move to another thread.
public struct RunBuffer: ~Copyable, @unchecked Sendable {
    private let storage: UnsafeMutableBufferPointer<TrackedRun>
    public private(set) var count = 0
    /// Sum of the runs' page counts.
    public private(set) var pages = 0
    /// Runs from here on are joined with each other only.
    private var partStart = 0

    public init(capacity: Int) {
        storage = .allocate(capacity: capacity)
    }

    deinit { storage.deallocate() }

    public var capacity: Int { storage.count }
    public var room: Int { storage.count - count }

    /// The runs in scan order; valid until the next change.
    public var runs: UnsafeBufferPointer<TrackedRun> { UnsafeBufferPointer(rebasing: storage[..<count]) }

    public subscript(position: Int) -> TrackedRun {
        precondition(position < count)
        return storage[position]
    }

    public mutating func removeAll() {
        count = 0
        pages = 0
        partStart = 0
    }

    /// Begins a part: a run that follows is not joined with those before. Returns the part's first position.
    public mutating func beginPart() -> Int {
        partStart = count
        return count
    }

    /// Adds a run; one that continues the last of its part is joined with it. The caller makes sure that there is room.
    public mutating func append(_ run: TrackedRun) {
        pages += Int(run.count)
        if count > partStart, storage[count - 1].block == run.block,
            storage[count - 1].first + storage[count - 1].count == run.first
        {
            storage[count - 1].count += run.count
            return
        }
        precondition(count < storage.count, "the run buffer is full")
        storage.initializeElement(at: count, to: run)
        count += 1
    }
}
