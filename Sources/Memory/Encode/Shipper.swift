import Codec
import GuestNetwork
import LinuxSystem
import Model
import Shipping
import Synchronization
import Transport
import Wire

/// Encodes captured pieces and puts them on the link, on a thread of its own.
///
/// Keeps the reference: a copy of every page in the version that the standby will have once it applied everything sent
/// so far, so that the next version travels as a difference.
package final class Shipper: @unchecked Sendable {
    // SAFETY: the encoder's state is touched by the shipper's thread only; `stats` is behind its lock.
    package enum Item: Sendable {
        /// Pages of an epoch; the slab goes back to the pool afterwards.
        case pages(Epoch, Slab)
        /// The same, of pages that travel whole, whatever was sent of them before.
        case pagesAnew(Epoch, Slab)
        case deviceState(Epoch, [UInt8])
        case output(Epoch, HeldOutput)
        /// The epoch is complete: its last frame is sent. The timings are completed by the acknowledgement.
        case end(Epoch, EpochTimings)
        /// The first copy is whole: nothing of epoch 0 is sent any more.
        case synced
        /// A question for the standby, behind the end of its epoch.
        case verify(Epoch, VerifyQuestion)
        /// Everything of the first copy so far is on the link; answered through the closure.
        case barrier(@Sendable () -> Void)
    }

    let sender: FrameSender
    /// The slabs that circulate, where memory is captured.
    let pool = BlockingQueue<Slab>(capacity: Slab.count)
    private let queue = BlockingQueue<Item>(capacity: 64)
    private let references: PageReferences
    private let sealed: @Sendable (Epoch, CheckpointDigest, EpochTimings, _ waited: UInt64) -> Void
    private let failed: @Sendable (SessionError) -> Void
    private let linkRate: @Sendable () -> Double
    private let thread = Mutex<NamedThread?>(nil)
    private let number = Atomic<Int32>(0)
    /// The thread's number, as the kernel's files have it; nil until it runs.
    package var threadID: Int32? {
        let number = number.load(ordering: .acquiring)
        return number == 0 ? nil : number
    }

    /// `sealed` is called, on the shipper's thread, before the checkpoint's last frame leaves, with the digest that the
    /// standby will have to acknowledge, and with how long the epoch's frames waited for the link, in nanoseconds.
    package init(
        vm: VMName, references: PageReferences, sender: FrameSender,
        sealed: @escaping @Sendable (Epoch, CheckpointDigest, EpochTimings, _ waited: UInt64) -> Void,
        failed: @escaping @Sendable (SessionError) -> Void, linkRate: @escaping @Sendable () -> Double
    ) throws(SystemError) {
        self.sender = sender
        self.sealed = sealed
        self.failed = failed
        self.linkRate = linkRate
        self.references = references
        var started: NamedThread? = try NamedThread.start("ship-\(vm)") { [self] in run() }
        thread.withLock { $0 = started.take() }
    }

    package func push(_ item: Item) { queue.push(item) }

    /// Ends the thread after what is queued; idempotent.
    package func close() {
        queue.close()
        thread.withLock { $0.take() }?.join()
    }

    private func run() {
        number.store(NamedThread.currentID, ordering: .releasing)
        var encoder = EpochEncoder(references)
        var broken = false
        while let item = queue.pop() {
            do {
                switch item {
                case .pages(let epoch, let slab), .pagesAnew(let epoch, let slab):
                    if case .pagesAnew = item { encoder.forget(slab.runs) }
                    defer {
                        slab.reset()
                        if !slab.isSpare { pool.push(slab) }
                    }
                    if !broken { try encoder.ship(slab, of: epoch, through: sender) }
                case .deviceState(let epoch, let state):
                    if !broken { try encoder.ship(deviceState: state, of: epoch, through: sender) }
                case .output(let epoch, let output):
                    if !broken { try encoder.ship(output, of: epoch, through: sender) }
                case .end(let epoch, var timings):
                    guard !broken else { break }
                    let end = sender.finish(epoch)
                    timings.encode = encoder.takeEncodeTime()
                    timings.memoryBytes = encoder.takeMemoryBytes()
                    timings.deviceStateSentBytes = encoder.deviceStateBytes
                    timings.linkBytes = end.byteCount
                    timings.referenceBytes = UInt64(references.pages * pageSize)
                    encoder.begin(after: epoch, linkBytesPerSecond: linkRate())
                    sealed(epoch, end.digest, timings, sender.takeWaited())
                    sender.link.send(controlFrame(end, epoch: epoch))
                case .synced:
                    let end = sender.finish(.firstCopy)
                    if !broken {
                        sender.link.send(
                            controlFrame(Synced(frameCount: UInt64(end.frameCount), byteCount: end.byteCount)))
                    }
                case .verify(let epoch, let question):
                    if !broken { sender.link.send(controlFrame(question, epoch: epoch)) }
                case .barrier(let reached): reached()
                }
            } catch {
                broken = true
                failed((error as? SessionError) ?? SessionError(.peerLost, "\(error)"))
            }
        }
    }
}
