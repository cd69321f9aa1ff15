import Glibc
import LinuxSystem
import Synchronization

/// A tap of this process's network namespaces. Those that it leads around are known, so that none of them is taken for something
/// that an agent left which is no more.
struct HeldTap: Hashable, Sendable {
    let number: UInt32
    private let namespace: UInt64

    private static let all = Mutex<Set<HeldTap>>([])

    /// In the calling thread's namespace; nil where there is no device of that name.
    init?(_ tap: String) {
        number = if_nametoindex(tap)
        guard number > 0, let namespace = ProcessFiles.network(of: NamedThread.currentID) else { return nil }
        self.namespace = namespace
    }

    var isHeld: Bool { Self.all.withLock { $0.contains(self) } }

    /// False where it is held already.
    func hold() -> Bool { Self.all.withLock { $0.insert(self).inserted } }

    func letGo() { _ = Self.all.withLock { $0.remove(self) } }
}
