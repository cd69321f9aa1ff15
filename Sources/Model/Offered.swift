/// One guest disk that is to be mirrored. `index` is its number in `diskWrite` frames.
public struct OfferedDisk: Codable, Sendable, Hashable {
    public var index: UInt16
    /// The guest drive's identity: its qdev id, or its block device name.
    public var id: String
    /// Virtual size in bytes.
    public var size: UInt64

    public init(index: UInt16, id: String, size: UInt64) {
        self.index = index
        self.id = id
        self.size = size
    }
}

/// One guest NIC whose output is held. `index` is its number in `output` frames.
public struct OfferedNIC: Codable, Sendable, Hashable {
    public var index: UInt16
    /// QEMU's netdev id.
    public var netdev: String

    public init(index: UInt16, netdev: String) {
        self.index = index
        self.netdev = netdev
    }
}
