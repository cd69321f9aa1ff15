import Model
import NIOCore
import Wire

/// What the apply thread has to do next, in order.
struct ApplyQueue: Sendable {
    enum Item: Sendable {
        /// A frame of the first copy.
        case direct(FrameHeader, ByteBuffer)
        case decided(StandbyDuty.Work)
        case question(CopyQuestion)
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
