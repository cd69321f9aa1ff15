/// What happens next, by time and, at one time, in the order in which it was put in: a binary heap.
struct EventQueue<Happening> {
    private struct Key {
        var time: Int
        var order: Int
        var slot: Int
        static func < (a: Key, b: Key) -> Bool { a.time != b.time ? a.time < b.time : a.order < b.order }
    }
    private var keys: [Key] = []
    private var slots: [Happening?] = []
    private var freeSlots: [Int] = []
    private var order = 0

    mutating func add(_ happening: Happening, at time: Int) {
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
            slots[slot] = happening
        } else {
            slot = slots.count
            slots.append(happening)
        }
        order += 1
        keys.append(Key(time: time, order: order, slot: slot))
        var child = keys.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard keys[child] < keys[parent] else { break }
            keys.swapAt(child, parent)
            child = parent
        }
    }

    mutating func next() -> (time: Int, happening: Happening)? {
        guard let first = keys.first, let happening = slots[first.slot] else { return nil }
        slots[first.slot] = nil
        freeSlots.append(first.slot)
        let last = keys.removeLast()
        guard !keys.isEmpty else { return (first.time, happening) }
        keys[0] = last
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < keys.count else { break }
            if child + 1 < keys.count, keys[child + 1] < keys[child] { child += 1 }
            guard keys[child] < keys[parent] else { break }
            keys.swapAt(child, parent)
            parent = child
        }
        return (first.time, happening)
    }
}
