import LinuxSystem

/// The memory of a running guest: which pages were written, and what is in them. Used by one thread at a time; calls are made
/// per scan and per slab, never per page.
public protocol GuestMemory: AnyObject {
    /// Readable once the process has ended.
    var exitNumber: Int32 { get }
    /// The number of the thread that helps to copy; nil without one.
    var helperThread: Int32? { get }
    /// As `MemoryTracker.scanPopulated`, protecting what it reports.
    func scanPopulated(from position: inout ScanPosition, into runs: inout RunBuffer) throws(SystemError) -> Bool
    /// As `MemoryTracker.protectRest`.
    func protectRest() throws(SystemError)
    /// As `MemoryTracker.scanWritten`, protecting what it reports.
    func scanWritten(
        from position: inout ScanPosition, pagesMax: Int, into runs: inout RunBuffer
    ) throws(SystemError) -> Bool
    /// Copies the pages of `runs`, from its run `first` on, into `buffer`, one after another without gaps.
    func copy(
        _ runs: borrowing RunBuffer, from first: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemError)
}

/// The memory of a process on this host.
public final class TrackedMemory: GuestMemory {
    /// The most pages of one copy, and so the most runs.
    public static let copiedPagesMax = 8192

    private var tracker: MemoryTracker

    public init(_ tracker: consuming MemoryTracker) { self.tracker = tracker }

    public var exitNumber: Int32 { tracker.exitNumber }
    public var helperThread: Int32? { tracker.helper?.threadID }

    public func scanPopulated(from position: inout ScanPosition, into runs: inout RunBuffer) throws(SystemError) -> Bool
    {
        try tracker.scanPopulated(from: &position, protecting: true, into: &runs)
    }

    public func protectRest() throws(SystemError) { try tracker.protectRest() }

    public func scanWritten(
        from position: inout ScanPosition, pagesMax: Int, into runs: inout RunBuffer
    ) throws(SystemError) -> Bool {
        try tracker.scanWritten(from: &position, protecting: true, pagesMax: pagesMax, into: &runs)
    }

    public func copy(
        _ runs: borrowing RunBuffer, from first: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemError) {
        _ = try tracker.copy(runs, from: first, into: buffer)
    }
}
