import Messages
import Model
import NIOCore
import Standby
import Wire

/// What the apply thread has to do next, in order.
struct ApplyQueue: Sendable {
    enum Item: Sendable {
        /// A frame that belongs to no checkpoint: of the first copy, or of `ThroughWrites`.
        case direct(FrameHeader, ByteBuffer)
        case decided(StandbyDuty.Work)
        case question(CopyQuestion)
        case attachMemory(AttachMessage, order: Int)
        case detachMemory
        case attachDetour(AttachMessage)
        case detachDetour
    }

    private var items: [Item] = []
    private var head = 0

    mutating func append(_ item: Item) { items.append(item) }

    /// Takes the next item out; nil when there is none.
    mutating func next() -> Item? {
        guard head < items.count else { return nil }
        defer {
            head += 1
            if head == items.count {
                items.removeAll(keepingCapacity: true)
                head = 0
            }
        }
        return items[head]
    }

    /// The next item is a write of `ThroughWrites`.
    var beginsWithWrite: Bool {
        guard head < items.count, case .direct(let header, _) = items[head] else { return false }
        return ThroughWrites.contains(header)
    }

    /// The replica is to be resumed or given up.
    var isLeaving: Bool {
        items[head...].contains { item in
            switch item {
            case .decided(.load), .decided(.resume), .decided(.boot), .decided(.startFromDisk), .decided(.endReplica),
                .decided(.dismantle):
                true
            default: false
            }
        }
    }
}
