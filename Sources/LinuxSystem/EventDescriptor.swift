import CLinux
import Glibc

/// A counter with a descriptor: wakes a thread that waits in a `Poller`.
public struct EventDescriptor: ~Copyable, Sendable {
    private let descriptor: OwnedDescriptor

    public init() throws(SystemError) {
        descriptor = OwnedDescriptor(owning: try checked(rml_eventfd(), "create", "an event counter"))
    }

    /// For a `Poller`; readable once signalled.
    public var number: Int32 { descriptor.number }

    /// May be called from any thread; does not block.
    public func signal() {
        var one: UInt64 = 1
        // A full counter is signalled already.
        _ = rml_write(number, &one, 8)
    }

    /// Takes all signals given so far; false when there was none.
    public func take() -> Bool {
        var count: UInt64 = 0
        return rml_read(number, &count, 8) == 8
    }
}
