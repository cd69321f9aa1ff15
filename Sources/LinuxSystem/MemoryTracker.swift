import CLinux
import Glibc

/// Where a scan goes on: one that filled its buffer is continued from here.
public struct ScanPosition: Hashable, Sendable {
    /// Position in the tracker's list of blocks.
    package var block = 0
    /// Bytes into that block.
    package var offset: UInt64 = 0

    public init() {}
}

/// Follows which pages of another process are written, and copies them.
///
/// The kernel keeps the record: pages are write-protected asynchronously (userfaultfd WP_ASYNC), a write to a protected
/// page lifts its protection without stopping the writer, whether a CPU or the kernel writes, and PAGEMAP_SCAN reports
/// and protects again in one walk. What a scan reports may be more than what was written (a page that was only read for
/// the first time). It is less in two cases, which are the caller's: what is written by way of a pin (`O_DIRECT` reads,
/// devices) counts when the page is pinned, not when the data comes; and a hole that is punched in a memory file is reported
/// once the page is written again, though it reads as zero at once (both seen with Linux 6.18).
///
/// Owned by one thread at a time; scan and copy allocate nothing.
// SAFETY: the region buffer belongs to this value alone, so the value may move to another thread.
public struct MemoryTracker: ~Copyable, @unchecked Sendable {
    private let attachment: GuestAttachment
    private var reader: MemoryReader
    private let regions: UnsafeMutablePointer<page_region>
    private var entries: [Entry] = []
    /// Copies half of a large part; nil leaves all to the caller's thread.
    public var helper: ReadingHelper?
    /// Start address by block index; 0 for an index that is not tracked.
    public private(set) var addresses: [UInt64] = []

    private struct Entry {
        var block: TrackedBlock
        /// In private anonymous memory a page without an entry in the page table was never touched; elsewhere it may
        /// well have contents.
        var sparse: Bool
        /// How many pages are protected as one: more than 1 in hugetlbfs.
        var pagesAtOnce: Int
    }

    /// Of hugetlbfs, in bytes: what a scan reports goes whole into the caller's buffer.
    private static let hugePageMax: UInt64 = 2 << 20

    /// Regions taken from the kernel in one call.
    private static let regionsMax = 4096
    private static let helpedPagesMin = 512
    private static let unregisterStep: UInt64 = 16 << 20
    /// With less room than this in the caller's buffer a scan pauses.
    private static let roomMin = 2

    /// Attaches to a process; see `GuestAttachment`.
    public init(attachingTo pid: pid_t, faults: FaultInjections = []) throws(AttachError) {
        self.init(try GuestAttachment(to: pid, faults: faults))
    }

    public init(_ attachment: consuming GuestAttachment) {
        reader = MemoryReader(pid: attachment.pid)
        regions = .allocate(capacity: Self.regionsMax)
        regions.initialize(repeating: page_region(), count: Self.regionsMax)
        self.attachment = attachment
    }

    // Closing the descriptors, which follows, takes the protections off.
    deinit { regions.deallocate() }

    public var pid: pid_t { attachment.pid }
    /// How long the process stood still for the attaching, in nanoseconds.
    public var stoppedFor: UInt64 { attachment.stoppedFor }
    public var hasExited: Bool { attachment.process.hasExited() }
    /// For a `Poller`: readable once the process has ended.
    public var exitNumber: Int32 { attachment.process.number }
    public var blocks: [TrackedBlock] { entries.map(\.block) }
    /// Whether the block's memory is mapped here too, and copied without a call.
    public func copiesDirectly(_ index: UInt16) -> Bool {
        Int(index) < reader.views.count && reader.views[Int(index)] != nil
    }
    /// A reader of the same process, for another thread.
    public func makeReader() -> MemoryReader { MemoryReader(pid: pid) }

    /// Takes a block into the tracking, after the others. All its pages count as written until they are protected.
    public mutating func track(_ block: TrackedBlock) throws(SystemError) {
        let page = UInt64(trackedPageSize)
        let end = block.address.addingReportingOverflow(block.length)
        let taken = entries.contains {
            $0.block.index == block.index
                || $0.block.address < end.partialValue && block.address < $0.block.address + $0.block.length
        }
        // Page numbers are 32 bits wide.
        guard block.address != 0, block.length > 0, block.address % page == 0, block.length % page == 0, !end.overflow,
            block.length / page <= UInt64(UInt32.max), !taken
        else {
            throw failure(
                EINVAL, "track", block,
                "a block is page-aligned, not empty, and overlaps no other; look up the VM's memory again")
        }
        let mappings = try ProcessFiles.mappings(of: pid).filter {
            $0.start < end.partialValue && block.address < $0.end
        }
        var isHuge: Int32 = 0
        let result = rml_userfault_register(attachment.userfault.number, block.address, block.length, &isHuge)
        switch result {
        case 0...: break
        case -EBUSY:
            throw failure(
                EBUSY, "track", block,
                "another userfaultfd watches it (a background snapshot, a postcopy migration or another agent): end that first"
            )
        case -ENOMEM, -EINVAL, -EFAULT:
            throw failure(-result, "track", block, "it is not mapped there any more: look up the VM's memory again")
        default:
            throw failure(-result, "track", block)
        }
        let pageBytes = isHuge == 1 ? try ProcessFiles.pageBytes(of: pid, at: block.address) : page
        guard pageBytes <= Self.hugePageMax else {
            try unregister(block)
            throw failure(
                EINVAL, "track", block,
                "its huge pages of \(pageBytes >> 20) MiB are larger than what is copied at once: use huge pages of 2 MiB"
            )
        }
        entries.append(
            Entry(
                block: block, sparse: mappings.allSatisfy { $0.isPrivateAnonymous }, pagesAtOnce: Int(pageBytes / page))
        )
        let needed = Int(block.index) + 1
        if addresses.count < needed {
            addresses.append(contentsOf: repeatElement(0, count: needed - addresses.count))
        }
        addresses[Int(block.index)] = block.address
        reader.views.append(contentsOf: repeatElement(nil, count: max(0, needed - reader.views.count)))
        reader.views[Int(block.index)] = SharedView.make(of: block, pid: pid, mappings)
    }

    /// Takes a block out of the tracking, for memory that is being unplugged. One that is gone already is no error.
    public mutating func untrack(index: UInt16) throws(SystemError) {
        guard let position = entries.firstIndex(where: { $0.block.index == index }) else { return }
        let block = entries.remove(at: position).block
        addresses[Int(index)] = 0
        reader.views[Int(index)] = nil
        try unregister(block)
    }

    /// Protects every page: from now on, what is written is reported. The first time this takes about 12 ms per GiB, and
    /// the process runs meanwhile.
    public mutating func protectAll() throws(SystemError) {
        for entry in entries {
            try protect(entry.block) { (start, end, reached) in
                rml_protect_all(attachment.pagemap.number, start, end, &reached)
            }
        }
        try checkAlive()
    }

    /// Protects what a `scanPopulated` that protected did not report. A page that was touched for the first time since
    /// that scan is not protected here, so that the next scan reports it as written.
    public mutating func protectRest() throws(SystemError) {
        for entry in entries {
            try protect(entry.block) { (start, end, reached) in
                entry.sparse
                    ? rml_protect_empty(
                        attachment.pagemap.number, start, end, regions, UInt64(Self.regionsMax), &reached)
                    : rml_protect_all(attachment.pagemap.number, start, end, &reached)
            }
        }
        try checkAlive()
    }

    private func protect(
        _ block: TrackedBlock, _ step: (_ start: UInt64, _ end: UInt64, _ reached: inout UInt64) -> Int
    ) throws(SystemError) {
        let end = block.address + block.length
        var start = block.address
        while start < end {
            var reached = start
            let result = step(start, end, &reached)
            if result < 0 { throw failure(Int32(-result), "protect", block) }
            start = max(reached, start + UInt64(trackedPageSize))
        }
    }

    /// Adds the pages written since they were last protected to `runs`, and with `protecting` protects them again in the
    /// same walk. Goes from `position` to the end of all blocks, or until `runs` is full or holds `pagesMax` pages (at least
    /// 512, or a huge page may never have room); returns true when the end was reached, else `position` is where to go on.
    public mutating func scanWritten(
        from position: inout ScanPosition, protecting: Bool, pagesMax: Int = .max, into runs: inout RunBuffer
    ) throws(SystemError) -> Bool {
        let pagemap = attachment.pagemap.number
        return try scan(from: &position, pagesMax: pagesMax, into: &runs, operation: "scan") {
            (_, start, end, regions, room, pages, reached) in
            rml_scan_written(pagemap, start, end, protecting ? 1 : 0, regions, room, pages, &reached)
        }
    }

    /// Adds the pages that were ever touched to `runs`; the others of private anonymous memory read as zero and need not
    /// be copied. Memory of files counts as touched throughout. Bounds and result as for `scanWritten`.
    ///
    /// With `protecting` what is reported of anonymous memory is protected in the same walk. `protectRest` then protects
    /// the others: a page is either reported here, or by the next `scanWritten` once it was touched.
    public mutating func scanPopulated(
        from position: inout ScanPosition, protecting: Bool = false, pagesMax: Int = .max, into runs: inout RunBuffer
    ) throws(SystemError) -> Bool {
        let pagemap = attachment.pagemap.number
        return try scan(from: &position, pagesMax: pagesMax, into: &runs, operation: "look up the used pages of") {
            (sparse, start, end, regions, room, pages, reached) in
            if sparse {
                return rml_scan_populated(pagemap, start, end, protecting ? 1 : 0, regions, room, pages, &reached)
            }
            let limit = pages == 0 ? end : min(end, start + pages * UInt64(trackedPageSize))
            regions[0] = page_region(start: start, end: limit, categories: 0)
            reached = limit
            return 1
        }
    }

    /// Copies the pages of `runs`, from its run `first` on, into `buffer`, one after another without gaps; returns the
    /// number of bytes.
    public mutating func copy(
        _ runs: borrowing RunBuffer, from first: Int = 0, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemError) -> Int {
        let part = UnsafeBufferPointer(rebasing: runs.runs[first...])
        let pages = part.reduce(0) { $0 + Int($1.count) }
        if let helper, pages >= Self.helpedPagesMin {
            try copy(part, pages: pages, with: helper, into: buffer)
        } else {
            _ = try reader.copy(part, addresses: addresses, into: buffer)
        }
        // The memory was read by process number: it was the right process if that one still exists.
        if attachment.process.hasExited() { throw gone() }
        return pages * trackedPageSize
    }

    /// The first half here, the second by the helper.
    private mutating func copy(
        _ part: UnsafeBufferPointer<TrackedRun>, pages: Int, with helper: ReadingHelper,
        into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemError) {
        var whole = 0
        var mine = 0
        while mine + Int(part[whole].count) <= pages / 2 {
            mine += Int(part[whole].count)
            whole += 1
        }
        // The run across the middle is shared.
        let shared = pages / 2 - mine
        helper.begin(
            UnsafeBufferPointer(rebasing: part[whole...]), skipping: UInt32(shared), addresses: addresses,
            views: reader.views,
            into: UnsafeMutableRawBufferPointer(rebasing: buffer[(pages / 2 * trackedPageSize)...]))
        var failure: SystemError?
        do throws(SystemError) {
            _ = try reader.copy(UnsafeBufferPointer(rebasing: part[..<whole]), addresses: addresses, into: buffer)
            let run = part[whole]
            try reader.copy(
                address: addresses[Int(run.block)] + UInt64(run.first) * UInt64(trackedPageSize),
                into: UnsafeMutableRawBufferPointer(
                    rebasing: buffer[mine * trackedPageSize..<(mine + shared) * trackedPageSize]))
        } catch {
            failure = error
        }
        try helper.finish()
        if let failure { throw failure }
    }

    /// Ends the tracking: the process is left without any protection of ours. Also what `deinit` comes to, but with the
    /// errors.
    public consuming func close() throws(SystemError) {
        for entry in entries { try unregister(entry.block) }
    }

    @inline(__always)
    private mutating func scan(
        from position: inout ScanPosition, pagesMax: Int, into runs: inout RunBuffer, operation: String,
        _ step: (
            _ sparse: Bool, _ start: UInt64, _ end: UInt64, _ regions: UnsafeMutablePointer<page_region>,
            _ room: UInt64, _ pages: UInt64, _ reached: inout UInt64
        ) -> Int
    ) throws(SystemError) -> Bool {
        while position.block < entries.count {
            let entry = entries[position.block]
            let block = entry.block
            let end = block.address + block.length
            var start = block.address + position.offset
            while start < end {
                let room = min(Self.regionsMax, runs.room)
                // Of a huge page that has no room whole, the kernel neither reports nor protects anything, and goes on with
                // the next one (fs/proc/task_mmu.c, `pagemap_scan_hugetlb_entry`; seen with Linux 6.18).
                let pages = (pagesMax - runs.pages) / entry.pagesAtOnce * entry.pagesAtOnce
                if room < Self.roomMin || pages <= 0 { return false }
                var reached = start
                let found = step(
                    entry.sparse, start, end, regions, UInt64(room), pagesMax == .max ? 0 : UInt64(pages), &reached)
                if found < 0 { throw failure(Int32(-found), operation, block) }
                for region in UnsafeBufferPointer(start: regions, count: found) {
                    runs.append(
                        TrackedRun(
                            block: block.index, first: UInt32((region.start - block.address) / UInt64(trackedPageSize)),
                            count: UInt32((region.end - region.start) / UInt64(trackedPageSize))))
                }
                start = reached
                position.offset = reached - block.address
            }
            position.block += 1
            position.offset = 0
        }
        try checkAlive()
        return true
    }

    /// A process that is ending loses its memory, and a scan of nothing finds nothing: an empty answer must not be
    /// taken for an idle guest. Reading a byte works only while the memory is there.
    private mutating func checkAlive() throws(SystemError) {
        guard let block = entries.first?.block else { return }
        var byte: UInt8 = 0
        do throws(SystemError) {
            try withUnsafeMutableBytes(of: &byte) { (buffer) throws(SystemError) in
                try reader.copy(address: block.address, into: buffer)
            }
        } catch {
            throw error.errno == ESRCH ? gone() : error
        }
        if attachment.process.hasExited() { throw gone() }
    }

    /// Goes by steps: each holds off the process's page faults while it lifts protections, about 30 us per MiB.
    private func unregister(_ block: TrackedBlock) throws(SystemError) {
        var start = block.address
        let end = block.address + block.length
        while start < end {
            var length = min(Self.unregisterStep, end - start)
            var result = rml_userfault_unregister(attachment.userfault.number, start, length)
            if result == -EINVAL {
                // Huge pages larger than a step have to be taken whole.
                length = end - start
                result = rml_userfault_unregister(attachment.userfault.number, start, length)
            }
            // Unmapped memory and an ended process have nothing left to protect.
            if result < 0, ![-ESRCH, -ENOMEM, -EINVAL, -EFAULT].contains(result) {
                throw failure(-result, "stop tracking", block)
            }
            start += length
        }
    }

    private func gone() -> SystemError {
        SystemError(operation: "read the memory of", errno: ESRCH, subject: "process \(pid)")
    }

    private func failure(
        _ errno: Int32, _ operation: String, _ block: TrackedBlock, _ advice: String? = nil
    ) -> SystemError {
        SystemError(
            operation: operation, errno: errno,
            subject:
                "block \(block.index) (\(block.length) bytes at 0x\(String(block.address, radix: 16))) of process \(pid)",
            advice: advice)
    }
}
