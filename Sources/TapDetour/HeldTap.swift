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
        var network = stat()
        guard number > 0, stat("/proc/thread-self/ns/net", &network) == 0 else { return nil }
        namespace = UInt64(network.st_ino)
    }

    var isHeld: Bool { Self.all.withLock { $0.contains(self) } }

    /// False where it is held already.
    func hold() -> Bool { Self.all.withLock { $0.insert(self).inserted } }

    func letGo() { _ = Self.all.withLock { $0.remove(self) } }
}
