import Codec
import GuestNetwork
import LinuxSystem
import Model
import Shipping
import Wire

/// Turns slabs, device state and held output into frames. Used by the shipper's thread only; allocates nothing per
/// page.
package struct EpochEncoder: ~Copyable {
    /// Pages in one frame: large enough to compress well, small enough to keep frames under their cap.
    static let pagesPerFrame = 512

    package let references: PageReferences
    private var encoder = PageEncoder()
    private var blob = BlobCodec()
    private var sink = ByteSink(capacity: 4 << 20)
    /// The device state of the epoch before, which the standby holds by the time it decodes the next.
    private var previousState: [UInt8] = []
    private var rates = CompressionRates()
    private var stage = Compression.lz4
    /// Page stream bytes of this epoch.
    private var streamBytes = 0
    private var numbers: [UInt32] = []
    private var encodeTime: UInt64 = 0
    private var memoryBytes: UInt64 = 0

    package init(_ references: PageReferences) {
        self.references = references
        numbers.reserveCapacity(Self.pagesPerFrame)
    }

    /// Chooses the second stage for the epoch that follows; a rate of 0 is unknown.
    package mutating func begin(after epoch: Epoch, linkBytesPerSecond: Double) {
        stage = Compression.choose(
            linkBytesPerSecond: linkBytesPerSecond, rates: rates, stageOneBytes: streamBytes, epoch: epoch.number,
            current: stage)
        streamBytes = 0
    }

    package mutating func takeEncodeTime() -> UInt64 {
        defer { encodeTime = 0 }
        return encodeTime
    }

    package mutating func takeMemoryBytes() -> UInt64 {
        defer { memoryBytes = 0 }
        return memoryBytes
    }

    /// Of the last device state, as it was encoded.
    package private(set) var deviceStateBytes: UInt64 = 0

    /// Nothing is assumed any more of what the standby has of these pages.
    package func forget(_ runs: borrowing RunBuffer) {
        for run in runs.runs {
            for page in run.first..<run.first + run.count { references.blocks[Int(run.block)].known.remove(Int(page)) }
        }
    }

    package mutating func ship(_ slab: Slab, of epoch: Epoch, through sender: some FrameTarget) throws {
        let pagesMax =
            epoch == .firstCopy ? min(sender.copyFrameMax / pageSize, Self.pagesPerFrame) : Self.pagesPerFrame
        var page = 0
        var batchStart = 0
        var block: UInt16 = 0
        numbers.removeAll(keepingCapacity: true)
        for index in 0..<slab.runs.count {
            let run = slab.runs[index]
            // A page that was copied twice comes in the later version again: numbers rise within a body only.
            if let last = numbers.last, run.block != block || run.first <= last {
                try flush(slab, from: batchStart, block, epoch, sender)
                batchStart = page
            }
            block = run.block
            for number in run.first..<run.first + run.count {
                numbers.append(number)
                page += 1
                if numbers.count == pagesMax {
                    try flush(slab, from: batchStart, block, epoch, sender)
                    batchStart = page
                }
            }
        }
        if !numbers.isEmpty { try flush(slab, from: batchStart, block, epoch, sender) }
        references.trim()
    }

    private mutating func flush(
        _ slab: Slab, from start: Int, _ block: UInt16, _ epoch: Epoch, _ sender: some FrameTarget
    ) throws {
        let began = MonotonicClock.now()
        sink.reset()
        let pages = UnsafeRawBufferPointer(rebasing: slab.pages[start * pageSize..<(start + numbers.count) * pageSize])
        // The first copy leaves the reference empty: most of RAM is never written again, and a copy of it would double
        // the guest's memory on this host.
        let kept = references.blocks[Int(block)]
        let reference = epoch == .firstCopy ? nil : kept.memory
        let statistics = numbers.withUnsafeBufferPointer { numbers in
            encoder.encode(
                block: block, pageNumbers: numbers, pages: pages, reference: reference,
                known: &kept.known, codec: epoch == .firstCopy ? .lz4 : stage, into: &sink)
        }
        if reference != nil { references.use(numbers, of: block) }
        numbers.removeAll(keepingCapacity: true)
        let took = MonotonicClock.now() - began
        encodeTime += took
        memoryBytes += UInt64(sink.count)
        streamBytes += statistics.stageOneBytes
        if epoch > .firstCopy, statistics.compressedStageOneBytes > 0 {
            rates.record(
                stage, input: statistics.compressedStageOneBytes, output: statistics.compressedBytes,
                nanoseconds: statistics.compressionTime)
        }
        // Pages that turned out unchanged leave nothing to send.
        guard sink.count > 0 else { return }
        try sender.send(.pages, epoch: epoch, head: sink.bytes)
    }

    package mutating func ship(deviceState: [UInt8], of epoch: Epoch, through sender: some FrameTarget) throws {
        let began = MonotonicClock.now()
        sink.reset()
        _ = deviceState.withUnsafeBytes { state in
            previousState.withUnsafeBytes { previous in
                blob.encode(state, previous: previous.isEmpty ? nil : previous, into: &sink)
            }
        }
        previousState = deviceState
        encodeTime += MonotonicClock.now() - began
        let encoded = sink.bytes
        deviceStateBytes = UInt64(encoded.count)
        var offset = 0
        while offset < encoded.count {
            let end = min(offset + DeviceStateFrame.payloadMax, encoded.count)
            try sender.send(
                DeviceStateFrame(
                    total: UInt32(encoded.count), offset: UInt32(offset),
                    payload: UnsafeRawBufferPointer(rebasing: encoded[offset..<end])),
                epoch: epoch)
            offset = end
        }
    }

    /// Sends the output of one NIC, in as many frames as it takes; a packet is never cut.
    package mutating func ship(_ output: HeldOutput, of epoch: Epoch, through sender: some FrameTarget) throws {
        try output.bytes.withUnsafeBytes { bytes in
            var start = 0
            var position = 0
            var count: UInt32 = 0
            while position < bytes.count {
                let length = Int(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self)))
                if position + 4 + length - start > OutputFrame.packetsMax {
                    try send(bytes[start..<position], count, output.nic, epoch, sender)
                    start = position
                    count = 0
                }
                position += 4 + length
                count += 1
            }
            try send(bytes[start..<position], count, output.nic, epoch, sender)
        }
    }

    private func send(
        _ packets: Slice<UnsafeRawBufferPointer>, _ count: UInt32, _ nic: UInt16, _ epoch: Epoch,
        _ sender: some FrameTarget
    ) throws {
        let frame = OutputFrame(nic: nic, count: count, packets: UnsafeRawBufferPointer(rebasing: packets))
        try sender.send(frame, epoch: epoch)
    }
}
