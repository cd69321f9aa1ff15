import Codec
import Messages
import Model
import Shipping
import Transport
import Wire

/// Sends the frames of first copies and checkpoints as a primary does that has `OtherEnd`'s link. Used by one thread.
package final class SentCheckpoints {
    private let sender: FrameSender
    private var pages = PageEncoder()
    private var blob = BlobCodec()
    private var state: [UInt8] = []

    package init(_ end: OtherEnd) throws {
        guard let link = end.link else { throw PrimaryScene.Failure(description: "there is no link") }
        sender = FrameSender(link: link)
    }

    /// The standby's memory is another one.
    package func beginMemory() {
        blob = BlobCodec()
        state = []
    }

    /// A page that is all of one byte.
    package func page(_ number: UInt32, of block: UInt16 = 0, byte: UInt8, epoch: UInt64 = 0) throws {
        var sink = ByteSink(capacity: 64 << 10)
        var known = PageBitmap(pages: 64)
        _ = [UInt8](repeating: byte, count: 4096).withUnsafeBytes { page in
            [number].withUnsafeBufferPointer {
                pages.encode(
                    block: block, pageNumbers: $0, pages: page, reference: nil, known: &known, codec: .none, into: &sink
                )
            }
        }
        try sender.send(.pages, epoch: Epoch(epoch), head: sink.bytes)
    }

    /// The first copy is whole.
    package func endCopy() {
        let end = sender.finish(.firstCopy)
        sender.link.send(controlFrame(Synced(frameCount: UInt64(end.frameCount), byteCount: end.byteCount)))
    }

    /// A block of 4096 bytes, all of one byte, that belongs to an epoch.
    package func write(block number: Int, byte: UInt8, epoch: UInt64) throws {
        try [UInt8](repeating: byte, count: 4096).withUnsafeBytes {
            try sender.send(DiskWrite(disk: 0, offset: UInt64(number * 4096), data: $0), epoch: Epoch(epoch))
        }
    }

    package func output(_ bytes: [UInt8], epoch: UInt64) throws {
        let packet = [0, 0, 0, UInt8(bytes.count)] + bytes
        try packet.withUnsafeBytes { try sender.send(OutputFrame(nic: 0, count: 1, packets: $0), epoch: Epoch(epoch)) }
    }

    /// Of the devices, the last part of the epoch.
    package func end(_ epoch: UInt64, state next: [UInt8]) throws {
        var sink = ByteSink(capacity: 4096)
        _ = next.withUnsafeBytes { next in
            state.withUnsafeBytes { blob.encode(next, previous: $0.isEmpty ? nil : $0, into: &sink) }
        }
        state = next
        try sender.send(
            DeviceStateFrame(total: UInt32(sink.count), offset: 0, payload: sink.bytes), epoch: Epoch(epoch))
        sender.link.send(controlFrame(sender.finish(Epoch(epoch)), epoch: Epoch(epoch)))
    }
}
