/// An `EventDescriptor` that several threads have: the one that waits for it, and those that signal it.
public final class SharedEvent: Sendable {
    private let event: EventDescriptor

    public init() throws(SystemError) { event = try EventDescriptor() }

    /// For a `Poller`; readable once signalled.
    public var number: Int32 { event.number }

    /// May be called from any thread; does not block.
    public func signal() { event.signal() }

    /// Takes all signals given so far; false when there was none.
    @discardableResult
    public func take() -> Bool { event.take() }
}
