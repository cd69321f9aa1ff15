import CLinux
import Glibc

/// Copies memory out of another process (process_vm_readv), with no allocation per call.
///
/// Several readers of one process may work at the same time, each on a thread of its own.
// SAFETY: the storage belongs to this value alone, so the value may move to another thread.
public struct MemoryReader: ~Copyable, @unchecked Sendable {
    public let pid: pid_t
    private let vector: UnsafeMutablePointer<iovec>
    /// The kernel moves at most this much in one call (MAX_RW_COUNT); asking for more is no error but of no use.
    private static let bytesPerCallMax = 1 << 30
    private static let vectorMax = Int(RML_VECTOR_MAX)
    /// By block index: memory that is mapped here too.
    var views: [SharedView?] = []

    public init(pid: pid_t) {
        self.pid = pid
        vector = .allocate(capacity: Self.vectorMax)
        vector.initialize(repeating: iovec(), count: Self.vectorMax)
    }

    deinit { vector.deallocate() }

    /// Copies one stretch of memory, all of it.
    public mutating func copy(address: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) {
        var done = 0
        while done < buffer.count {
            vector[0] = iovec(
                iov_base: UnsafeMutableRawPointer(bitPattern: UInt(address) + UInt(done)),
                iov_len: min(buffer.count - done, Self.bytesPerCallMax))
            done += try read(entries: 1, wanted: vector[0].iov_len, into: buffer.baseAddress! + done)
        }
    }

    /// Copies the pages of `runs` into `buffer`, one after another without gaps, and returns how many bytes that were.
    /// `addresses[run.block]` is where the block starts in the process; the buffer must have room for all.
    public mutating func copy(
        _ runs: UnsafeBufferPointer<TrackedRun>, addresses: borrowing [UInt64],
        into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemError) -> Int {
        var done = 0
        var next = 0
        // Bytes of runs[next] that were copied already.
        var skip = 0
        while next < runs.count {
            if let view = view(of: runs[next]) {
                let start = Int(runs[next].first) * trackedPageSize
                let length = Int(runs[next].count) * trackedPageSize
                precondition(done + length <= buffer.count, "the buffer is too small for the runs")
                (buffer.baseAddress! + done).copyMemory(from: view.bytes.baseAddress! + start, byteCount: length)
                done += length
                next += 1
                continue
            }
            var entries = 0
            var wanted = 0
            var ahead = next
            var offset = skip
            while ahead < runs.count, entries < Self.vectorMax, wanted < Self.bytesPerCallMax {
                let run = runs[ahead]
                if view(of: run) != nil { break }
                let length = Int(run.count) * trackedPageSize - offset
                let taken = min(length, Self.bytesPerCallMax - wanted)
                let start = addresses[Int(run.block)] + UInt64(run.first) * UInt64(trackedPageSize) + UInt64(offset)
                vector[entries] = iovec(iov_base: UnsafeMutableRawPointer(bitPattern: UInt(start)), iov_len: taken)
                entries += 1
                wanted += taken
                ahead += 1
                offset = 0
            }
            precondition(done + wanted <= buffer.count, "the buffer is too small for the runs")
            var copied = try read(entries: entries, wanted: wanted, into: buffer.baseAddress! + done)
            done += copied
            // A short count means that a later page failed; the next call starts there and tells why.
            while copied > 0 {
                let length = Int(runs[next].count) * trackedPageSize - skip
                if copied < length {
                    skip += copied
                    break
                }
                copied -= length
                next += 1
                skip = 0
            }
        }
        return done
    }

    private func view(of run: TrackedRun) -> SharedView? {
        Int(run.block) < views.count ? views[Int(run.block)] : nil
    }

    /// One call; at least one byte was copied when it returns.
    private func read(entries: Int, wanted: Int, into target: UnsafeMutableRawPointer) throws(SystemError) -> Int {
        var here = iovec(iov_base: target, iov_len: wanted)
        let result = retrying { rml_read_memory(pid, &here, 1, vector, entries) }
        if result > 0 { return result }
        let address = UInt(bitPattern: vector[0].iov_base)
        throw SystemError(
            operation: "read memory at 0x\(String(address, radix: 16)) of",
            errno: result == 0 ? EFAULT : Int32(-result), subject: "process \(pid)")
    }
}
