import CLinux
import Glibc

/// Reads a process's memory beside whoever tracks it: sets and lifts no protection, and leaves pages that have no memory without.
///
/// Owned by one thread at a time.
public struct MemoryGlance: ~Copyable, Sendable {
    private var reader: MemoryReader
    private let pagemap: OwnedDescriptor
    /// Start address by block index; 0 for an index that is not read.
    private var addresses: [UInt64] = []
    /// How to find pages without memory, by block index.
    private var kinds: [Kind] = []

    private enum Kind {
        /// Private memory: a page without an entry in the page table has no memory.
        case anonymous
        /// A file: a hole has no memory.
        case file(MappedFile)
        /// Nobody can tell: all of it is read.
        case unknown
    }

    /// Pages of `blocks`, as they are mapped now, can be read. Needs the right to trace the process.
    public init(of pid: pid_t, _ blocks: [TrackedBlock]) throws(SystemError) {
        let mappings = try ProcessFiles.mappings(of: pid)
        pagemap = try OwnedDescriptor.open("/proc/\(pid)/pagemap", O_RDONLY)
        reader = MemoryReader(pid: pid)
        let count = blocks.map { Int($0.index) + 1 }.max() ?? 0
        addresses = Array(repeating: 0, count: count)
        kinds = Array(repeating: .unknown, count: count)
        reader.views = Array(repeating: nil, count: count)
        for block in blocks {
            let index = Int(block.index)
            let parts = mappings.filter { $0.start < block.address + block.length && block.address < $0.end }
            addresses[index] = block.address
            reader.views[index] = SharedView.make(of: block, pid: pid, mappings)
            if parts.allSatisfy(\.isPrivateAnonymous) {
                kinds[index] = .anonymous
            } else if let file = MappedFile(block, pid: pid, parts) {
                kinds[index] = .file(file)
            }
        }
    }

    /// Copies the pages of `run` into `buffer`. Those that have no memory come as zeros and are appended to `empty` as
    /// positions in the run, rising.
    public mutating func copy(
        _ run: TrackedRun, into buffer: UnsafeMutableRawBufferPointer, empty: inout [Int]
    ) throws(SystemError) {
        precondition(buffer.count >= Int(run.count) * trackedPageSize, "the buffer is too small for the run")
        var filled = 0
        while let part = try nextWithMemory(run, from: filled) {
            clear(buffer, filled..<part.lowerBound, &empty)
            let runs = [
                TrackedRun(block: run.block, first: run.first + UInt32(part.lowerBound), count: UInt32(part.count))
            ]
            let target = UnsafeMutableRawBufferPointer(
                rebasing: buffer[part.lowerBound * trackedPageSize..<part.upperBound * trackedPageSize])
            _ = try runs.withUnsafeBufferPointer { (runs) throws(SystemError) in
                try reader.copy(runs, addresses: addresses, into: target)
            }
            filled = part.upperBound
        }
        clear(buffer, filled..<Int(run.count), &empty)
    }

    private func clear(_ buffer: UnsafeMutableRawBufferPointer, _ pages: Range<Int>, _ empty: inout [Int]) {
        guard !pages.isEmpty else { return }
        memset(buffer.baseAddress! + pages.lowerBound * trackedPageSize, 0, pages.count * trackedPageSize)
        empty.append(contentsOf: pages)
    }

    /// The next neighbours in the run, from position `start` on, that have memory; nil when none follow.
    private func nextWithMemory(_ run: TrackedRun, from start: Int) throws(SystemError) -> Range<Int>? {
        guard start < Int(run.count) else { return nil }
        switch kinds[Int(run.block)] {
        case .unknown: return start..<Int(run.count)
        case .file(let file):
            let first = Int(run.first)
            guard let pages = file.contents(first + start..<first + Int(run.count)) else { return nil }
            return pages.lowerBound - first..<pages.upperBound - first
        case .anonymous:
            let base = addresses[Int(run.block)] + UInt64(run.first) * UInt64(trackedPageSize)
            let end = base + UInt64(run.count) * UInt64(trackedPageSize)
            var region = page_region()
            var reached: UInt64 = 0
            let found = rml_scan_populated(
                pagemap.number, base + UInt64(start * trackedPageSize), end, 0, &region, 1, 0, &reached)
            guard found >= 0 else {
                throw SystemError(
                    operation: "look up the used pages of", errno: Int32(-found), subject: "process \(reader.pid)")
            }
            guard found > 0 else { return nil }
            return Int(region.start - base) / trackedPageSize..<Int(region.end - base) / trackedPageSize
        }
    }
}

/// The file behind a block.
private final class MappedFile: Sendable {
    private let file: OwnedDescriptor
    /// Where the block begins in it.
    private let start: UInt64

    /// Nil where the block is not one mapping of a file, or the file may not be opened.
    init?(_ block: TrackedBlock, pid: pid_t, _ parts: [MappedRegion]) {
        guard let region = parts.first, parts.count == 1, region.inode != 0, region.start <= block.address else {
            return nil
        }
        let name = "\(String(region.start, radix: 16))-\(String(region.end, radix: 16))"
        guard let file = try? OwnedDescriptor.open("/proc/\(pid)/map_files/\(name)", O_RDONLY) else { return nil }
        self.file = file
        start = region.offset + block.address - region.start
    }

    /// The first pages of `pages` that are no hole; nil when all are. A file system that knows no holes has none.
    ///
    /// Asks for contents only, page by page: the kernel finds those at once, and a hole by passing all contents before it.
    func contents(_ pages: Range<Int>) -> Range<Int>? {
        guard let first = nextContents(pages.lowerBound) else { return nil }
        guard first < pages.upperBound else { return nil }
        var end = first + 1
        while end < pages.upperBound, nextContents(end) == end { end += 1 }
        return first..<end
    }

    /// The first page from `page` on that is no hole.
    private func nextContents(_ page: Int) -> Int? {
        let offset = off_t(start) + off_t(page * trackedPageSize)
        let found = rml_seek_contents(file.number, offset)
        if found == -off_t(ENXIO) { return nil }
        return found < offset ? page : Int(found - off_t(start)) / trackedPageSize
    }
}
