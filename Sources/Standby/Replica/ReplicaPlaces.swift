import Hypervisor
import Memory
import Model

/// Where a VM's replica lives on this host, and what its QEMU is to be like.
public struct ReplicaPlaces: Sendable {
    public var node: NodeName
    /// On tmpfs: RAM, slots, device state. One directory for this VM alone.
    public var memoryDirectory: String
    /// Sockets and logs of this VM.
    public var runtimeDirectory: String
    public var standby: StandbyOptions
    /// What makes its guest.
    public var guests: any StandbyGuestSource
    /// Whether its QEMU has real-time priority when the guest is to go on.
    public var isRealTime: Bool
    /// What this host keeps of VMs' memory.
    public var bases: MemoryBases
    /// What guests want of this host's memory that have none of it yet.
    public var starts: StartRoom

    public init(
        node: NodeName, memoryDirectory: String, runtimeDirectory: String, standby: StandbyOptions,
        guests: any StandbyGuestSource, isRealTime: Bool, bases: MemoryBases, starts: StartRoom = StartRoom()
    ) {
        self.node = node
        self.memoryDirectory = memoryDirectory
        self.runtimeDirectory = runtimeDirectory
        self.standby = standby
        self.guests = guests
        self.isRealTime = isRealTime
        self.bases = bases
        self.starts = starts
    }
}
