import Glibc
import LinuxSystem
import Model

/// Recorded pages as the codecs meet them: the new contents in a row, as capture leaves them, the old ones in a block of
/// memory, as the reference and the replica have them.
final class CodecArena {
    static let batch = 512
    /// Pages lie so far apart in the block that a page's number takes two bytes in our page stream, as most do in a guest.
    private static let spacing = 33

    let recording: PageRecording
    let numbers: [UInt32]
    private let memory: Mapping
    /// Zero pages among the new ones.
    let isZero: [Bool]

    init(_ recording: PageRecording) throws {
        self.recording = recording
        numbers = (0..<UInt32(recording.pages)).map { $0 * UInt32(Self.spacing) }
        let length = recording.pages * Self.spacing * pageSize
        memory = try Mapping.anonymous(length: length)
        _ = madvise(memory.bytes.baseAddress, length, MADV_NOHUGEPAGE)
        isZero = (0..<recording.pages).map { page in
            UnsafeRawBufferPointer(start: recording.new + page * pageSize, count: pageSize).allSatisfy { $0 == 0 }
        }
        restore()
    }

    var block: UnsafeMutableRawBufferPointer { memory.bytes }
    var pages: Int { recording.pages }
    var rawBytes: Int { pages * pageSize }
    var blockPages: Int { pages * Self.spacing }

    func new(_ page: Int) -> UnsafeMutableRawPointer { recording.new + page * pageSize }
    func place(_ page: Int) -> UnsafeMutableRawPointer { block.baseAddress! + Int(numbers[page]) * pageSize }

    /// The pages in batches, by their positions in the recording.
    var batches: [Range<Int>] {
        stride(from: 0, to: pages, by: Self.batch).map { $0..<min($0 + Self.batch, pages) }
    }

    /// The block holds the old contents again.
    func restore() {
        for page in 0..<pages {
            place(page).copyMemory(from: recording.old + page * pageSize, byteCount: pageSize)
        }
    }

    /// Whether the block holds the new contents.
    var isApplied: Bool { (0..<pages).allSatisfy { memcmp(place($0), new($0), pageSize) == 0 } }

    /// The CPU seconds that `body` takes on this thread, on a machine that others use too.
    static func seconds(_ body: () throws -> Void) rethrows -> Double {
        func now() -> Double {
            var time = timespec()
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
            return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
        }
        let began = now()
        try body()
        return now() - began
    }
}
