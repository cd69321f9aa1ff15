/// The size of a guest page as this project tracks, encodes and ships it, in bytes.
public let pageSize = 4096

/// A RAM block of the guest, as QEMU names it (`info ramblock`): the unit in which memory is tracked and shipped.
public struct RAMBlock: Hashable, Sendable, Codable {
    /// Position in the list that both sides agreed on at the start of a session; 0 is the main RAM.
    public var index: UInt16
    /// QEMU's name, for example `pc.ram` or `vga.vram`.
    public var name: String
    /// Used length in bytes, a multiple of `pageSize`.
    public var length: UInt64
    /// True when the block lies in a shared file at the standby and is applied in place; false when its pages must be
    /// put into the resume stream.
    public var inSharedFile: Bool
    /// True when the guest or a device can write it: its pages are tracked and shipped.
    public var tracked: Bool

    public init(index: UInt16, name: String, length: UInt64, inSharedFile: Bool, tracked: Bool) {
        self.index = index
        self.name = name
        self.length = length
        self.inSharedFile = inSharedFile
        self.tracked = tracked
    }

    public var pages: Int { Int(length) / pageSize }
}

/// Consecutive pages of one block.
public struct PageRun: Hashable, Sendable {
    public var block: UInt16
    /// Number of the first page within the block.
    public var first: UInt32
    public var count: UInt32

    public init(block: UInt16, first: UInt32, count: UInt32) {
        self.block = block
        self.first = first
        self.count = count
    }
}
