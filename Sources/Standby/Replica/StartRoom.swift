import LinuxSystem
import Memory
import Model

/// The memory that guests want at this host once they are started here: below level `system` none of it is taken before.
///
/// Hosts are not lost together: what counts is the one whose guests want the most.
public struct StartRoom: Sendable {
    public struct Guest: Sendable {
        public var vm: VMName
        /// The host where it runs.
        public var primary: NodeName
        /// Of its memory.
        public var bytes: UInt64

        public init(_ vm: VMName, of primary: NodeName, bytes: UInt64) {
            (self.vm, self.primary, self.bytes) = (vm, primary, bytes)
        }
    }

    /// Not all guests of a host can be started here when it is lost.
    public struct Shortage: Sendable, Equatable {
        public var primary: NodeName
        /// Its guests, by name.
        public var vms: [VMName]
        /// In bytes.
        public var wanted: UInt64
        public var available: UInt64

        public var missing: UInt64 { wanted - available }
    }

    private let guests: [Guest]

    public init(_ guests: [Guest] = []) { self.guests = guests }

    /// Bytes that guests' memory can take on this host now: of its own, and of the file system of `directory`; nil where neither
    /// says.
    public static func available(in directory: String, _ bases: MemoryBases) -> UInt64? {
        let free = [MemoryReplica.freeBytes(in: directory), try? HostMemory.available()].compactMap(\.self).min()
        return free.map { $0 + bases.bytes }
    }

    /// Bytes that the guests of `primary` want, `vm` not counted.
    public func wanted(of primary: NodeName, besides vm: VMName) -> UInt64 {
        guests.reduce(0) { $0 + ($1.primary == primary && $1.vm != vm ? $1.bytes : 0) }
    }

    /// Bytes that the guests of one host want at most, `vm` not counted.
    public func mostWanted(besides vm: VMName) -> UInt64 {
        Set(guests.map(\.primary)).map { wanted(of: $0, besides: vm) }.max() ?? 0
    }

    /// The hosts whose guests want more than `available` bytes, by name.
    public func shortages(available: UInt64) -> [Shortage] {
        Dictionary(grouping: guests, by: \.primary).compactMap { primary, theirs in
            let wanted = theirs.reduce(0) { $0 + $1.bytes }
            guard wanted > available else { return nil }
            return Shortage(primary: primary, vms: theirs.map(\.vm).sorted(), wanted: wanted, available: available)
        }.sorted { $0.primary < $1.primary }
    }
}
