import LinuxSystem

/// A bounded queue between two threads: `push` blocks while it is full, `pop` while it is empty. Closing it wakes both.
package final class BlockingQueue<Element: Sendable>: Sendable {
    private struct State {
        var elements: [Element] = []
        var head = 0
        var isClosed = false

        var count: Int { elements.count - head }

        mutating func removeFirst() -> Element? {
            guard count > 0 else { return nil }
            let element = elements[head]
            head += 1
            if head == elements.count || head >= 64 {
                elements.removeFirst(head)
                head = 0
            }
            return element
        }
    }

    private let capacity: Int
    private let state: Monitor<State>

    package init(capacity: Int) {
        self.capacity = capacity
        var empty = State()
        empty.elements.reserveCapacity(capacity * 2)
        state = Monitor(empty)
    }

    /// False when the queue was closed and the element was not taken.
    @discardableResult package func push(_ element: Element) -> Bool {
        state.wait { state -> Bool? in
            if state.isClosed { return false }
            guard state.count < capacity else { return nil }
            state.elements.append(element)
            return true
        }
    }

    /// Nil once the queue is closed and empty.
    package func pop() -> Element? {
        state.wait { state -> Element?? in
            if let element = state.removeFirst() { return element }
            return state.isClosed ? .some(nil) : nil
        }
    }

    /// Nil when nothing came within `milliseconds`, or the queue is closed and empty.
    package func pop(milliseconds: UInt64) -> Element? {
        let outcome = state.wait(nanoseconds: milliseconds * 1_000_000) { state -> Element?? in
            if let element = state.removeFirst() { return element }
            return state.isClosed ? .some(nil) : nil
        }
        return outcome ?? nil
    }

    package var isClosed: Bool { state.look(\.isClosed) }

    package func close() { state.change { $0.isClosed = true } }
}
