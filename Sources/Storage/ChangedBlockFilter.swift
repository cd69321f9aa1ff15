/// Finds what of the first copy the standby's image holds already, so that it need not be sent.
///
/// The primary asks for the digests of the standby's chunks (`expect`), learns them (`learn`), and runs every write and
/// zeroed range of the first copy through the filter, which gives back the parts that have to be sent. A chunk is left
/// out only when a request covers it whole and its digest is the one that the standby has told.
///
/// What a digest is worth ends with the first request that touches its chunk: what was sent has changed the standby's
/// chunk, and what was asked for before may have been read before or after. So a chunk is known only from `learn` to its
/// next request, and a request between `expect` and `learn` makes the answer worthless. That needs requests and
/// questions to reach the standby in the order in which they passed through here. It also bounds the memory to the
/// chunks that were learnt and not yet copied.
///
/// Pure: no I/O, no lock; its owner serialises the calls.
public struct ChangedBlockFilter: Sendable {
    /// A question that was put to the standby; its answer is learnt under it, and under no other.
    public struct Question: Sendable, Hashable {
        public var firstChunk: UInt64
        /// Never beyond the end of the disk.
        public var count: Int
        fileprivate var number: UInt32
    }

    /// Of a chunk: nothing, the number of the question that was asked last and is still worth its answer, or a digest.
    private typealias Knowledge = UInt32
    private static let nothing: Knowledge = 0
    private static let known = Knowledge.max

    /// Chunks of one window, with their digests. Windows in which nothing is known or expected are not kept.
    private struct Window {
        var knowledge = [Knowledge](repeating: nothing, count: chunksPerWindow)
        var digests = [UInt8](repeating: 0, count: chunksPerWindow * ChunkDigest.size)
        /// Chunks that are expected or known.
        var live = 0
    }

    /// 256 MiB of disk; 80 KiB of memory.
    private static let chunksPerWindow = 4096

    private let size: UInt64
    private let chunks: UInt64
    private var windows: [UInt64: Window] = [:]
    private var lastQuestion: UInt32 = 0
    /// Bytes of requests that need not be sent, and bytes that have to be.
    public private(set) var skippedBytes: UInt64 = 0
    public private(set) var changedBytes: UInt64 = 0

    /// `size` of the disk in bytes.
    public init(size: UInt64) {
        self.size = size
        chunks = ChunkDigest.chunks(diskSize: size)
    }

    /// Call when the question for these chunks is put on the link; chunks beyond the end of the disk are left out.
    public mutating func expect(firstChunk: UInt64, count: Int) -> Question {
        lastQuestion = lastQuestion == Self.known - 1 ? 1 : lastQuestion + 1
        let first = min(firstChunk, chunks)
        let asked = first..<first + min(UInt64(max(count, 0)), chunks - first)
        for chunk in asked where knowledge(of: chunk) != Self.known {
            let (window, index) = Self.place(of: chunk)
            Self.set(lastQuestion, at: index, in: &windows[window, default: Window()])
        }
        return Question(firstChunk: first, count: asked.count, number: lastQuestion)
    }

    /// The answer: 16 bytes per chunk of the question. Chunks that were touched or asked about anew since stay as they are;
    /// false when the answer does not fit the question, and nothing is learnt.
    public mutating func learn(_ question: Question, digests: UnsafeRawBufferPointer) -> Bool {
        guard digests.count == question.count * ChunkDigest.size else { return false }
        for position in 0..<question.count {
            let chunk = question.firstChunk + UInt64(position)
            guard knowledge(of: chunk) == question.number else { continue }
            let (window, index) = Self.place(of: chunk)
            windows[window]!.digests.replaceSubrange(
                index * ChunkDigest.size..<(index + 1) * ChunkDigest.size,
                with: digests[position * ChunkDigest.size..<(position + 1) * ChunkDigest.size])
            windows[window]!.knowledge[index] = Self.known
        }
        return true
    }

    /// Passes the parts of a write that have to be sent to `send`, as ranges of `data`, rising, neighbours joined. The
    /// write must lie within the disk.
    public mutating func filter<Failure: Error>(
        offset: UInt64, data: UnsafeRawBufferPointer, send: (Range<Int>) throws(Failure) -> Void
    ) throws(Failure) {
        try walk(
            offset, UInt64(data.count),
            digest: { part, digest in
                let start = Int(part.lowerBound - offset)
                ChunkDigest.make(of: UnsafeRawBufferPointer(rebasing: data[start..<start + part.count]), into: digest)
            },
            send: { (part) throws(Failure) in
                try send(Int(part.lowerBound - offset)..<Int(part.upperBound - offset))
            })
    }

    /// Passes the parts of a zeroed range that have to be sent to `send`, as ranges of the disk, rising, neighbours
    /// joined. The range must lie within the disk.
    public mutating func filterZero<Failure: Error>(
        offset: UInt64, length: UInt64, send: (Range<UInt64>) throws(Failure) -> Void
    ) throws(Failure) {
        try walk(
            offset, length,
            digest: { part, digest in
                if part.count == ChunkDigest.chunkSize { return digest.copyBytes(from: ChunkDigest.zeroChunk) }
                [UInt8](repeating: 0, count: part.count).withUnsafeBytes { ChunkDigest.make(of: $0, into: digest) }
            }, send: send)
    }

    // MARK: -

    private mutating func walk<Failure: Error>(
        _ offset: UInt64, _ length: UInt64, digest: (Range<UInt64>, UnsafeMutableRawBufferPointer) -> Void,
        send: (Range<UInt64>) throws(Failure) -> Void
    ) throws(Failure) {
        precondition(offset <= size && length <= size - offset, "a request beyond the end of the disk")
        let chunkSize = UInt64(ChunkDigest.chunkSize)
        let end = offset + length
        var changed = offset..<offset
        var position = offset
        while position < end {
            let chunk = position / chunkSize
            let whole = chunk * chunkSize..<min(chunk * chunkSize + chunkSize, size)
            let part = position..<min(whole.upperBound, end)
            if part == whole, equalsStandby(chunk, part, digest) {
                skippedBytes += UInt64(part.count)
                if !changed.isEmpty { try send(changed) }
                changed = part.upperBound..<part.upperBound
            } else {
                changedBytes += UInt64(part.count)
                changed = changed.lowerBound..<part.upperBound
            }
            forget(chunk)
            position = part.upperBound
        }
        if !changed.isEmpty { try send(changed) }
    }

    private func equalsStandby(
        _ chunk: UInt64, _ part: Range<UInt64>, _ digest: (Range<UInt64>, UnsafeMutableRawBufferPointer) -> Void
    ) -> Bool {
        guard knowledge(of: chunk) == Self.known else { return false }
        let (window, index) = Self.place(of: chunk)
        return withUnsafeTemporaryAllocation(byteCount: ChunkDigest.size, alignment: 16) { mine in
            digest(part, mine)
            return windows[window]!.digests[index * ChunkDigest.size..<(index + 1) * ChunkDigest.size]
                .elementsEqual(mine)
        }
    }

    private func knowledge(of chunk: UInt64) -> Knowledge {
        let (window, index) = Self.place(of: chunk)
        return windows[window]?.knowledge[index] ?? Self.nothing
    }

    private mutating func forget(_ chunk: UInt64) {
        let (window, index) = Self.place(of: chunk)
        guard knowledge(of: chunk) != Self.nothing else { return }
        Self.set(Self.nothing, at: index, in: &windows[window]!)
        if windows[window]!.live == 0 { windows[window] = nil }
    }

    private static func set(_ knowledge: Knowledge, at index: Int, in window: inout Window) {
        window.live += (knowledge == nothing ? 0 : 1) - (window.knowledge[index] == nothing ? 0 : 1)
        window.knowledge[index] = knowledge
    }

    private static func place(of chunk: UInt64) -> (window: UInt64, index: Int) {
        (chunk / UInt64(chunksPerWindow), Int(chunk % UInt64(chunksPerWindow)))
    }
}
