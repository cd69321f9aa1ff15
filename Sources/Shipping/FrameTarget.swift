import Model
import Transport
import Wire

/// Where an epoch's frames go.
package protocol FrameTarget: AnyObject {
    /// Frames of memory's copy are to hold no more than about so many bytes, at least a page.
    var copyFrameMax: Int { get }

    /// Takes one frame, whose body is `head` followed by `payload`.
    func send(
        _ type: FrameType, epoch: Epoch, head: UnsafeRawBufferPointer, payload: UnsafeRawBufferPointer
    ) throws(LinkError)
}

extension FrameTarget {
    package func send(_ type: FrameType, epoch: Epoch, head: UnsafeRawBufferPointer) throws(LinkError) {
        try send(type, epoch: epoch, head: head, payload: UnsafeRawBufferPointer(start: nil, count: 0))
    }

    package func send(_ body: borrowing some FrameBody, epoch: Epoch) throws(LinkError) {
        var sink = ByteSink(capacity: 64)
        body.write(into: &sink)
        try send(type(of: copy body).type, epoch: epoch, head: sink.bytes)
    }
}

/// Sends nothing, and knows how much it would have been.
package final class CountingTarget: FrameTarget {
    package private(set) var bytes: UInt64 = 0
    package let copyFrameMax = Int.max

    package init() {}

    package func send(
        _ type: FrameType, epoch: Epoch, head: UnsafeRawBufferPointer, payload: UnsafeRawBufferPointer
    ) throws(LinkError) {
        bytes += UInt64(FrameHeader.size + head.count + payload.count)
    }

    package func take() -> UInt64 {
        defer { bytes = 0 }
        return bytes
    }
}
