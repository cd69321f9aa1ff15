import Synchronization

/// Set once by one thread, looked at by another.
package final class EventFlag: Sendable {
    private let value = Atomic(false)
    package init() {}
    package func set() { value.store(true, ordering: .releasing) }
    package var isSet: Bool { value.load(ordering: .acquiring) }
}
