import Model
import NIOCore

/// One connection of a link, as those see it that spread frames over several and put them in order again.
protocol FrameConnection: AnyObject, Sendable {
    /// The node that the peer's certificate names.
    var peerNode: NodeName { get }
    /// For messages.
    var peerName: String { get }
    var counters: LinkCounters { get }
    /// Frames that were given to it and not yet to the kernel, in bytes.
    var queuedBytes: Int { get }
    /// Queues a frame on this very connection. `count` bytes more are sent by another one in its turn.
    func enqueueHere(_ frame: ByteBuffer, elsewhere count: Int) throws(LinkError)
    func pauseReading()
    func resumeReading()
    /// A frame came for which the first connection waits.
    func takeTurn()
    /// What passes over one of the further connections counts as this one's from now on.
    func count(_ counters: LinkCounters)
    /// Ends it: without a reason in order, with a reason at once.
    func close(_ reason: LinkError?)
}
