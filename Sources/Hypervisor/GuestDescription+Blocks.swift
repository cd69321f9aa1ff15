import LinuxSystem
import Model

extension GuestDescription {
    /// All RAM blocks, by the numbers that both sides of a session use.
    package var ramBlocks: [RAMBlock] {
        blocks.enumerated().map { index, block in
            RAMBlock(
                index: UInt16(index), name: block.name, length: block.length, inSharedFile: block.backend != nil,
                tracked: block.tracked)
        }
    }

    /// Where those that are tracked lie in the QEMU process.
    package var trackedPlaces: [TrackedBlock] {
        zip(ramBlocks, blocks).compactMap { block, found in
            guard block.tracked, let address = found.hostAddress else { return nil }
            return TrackedBlock(index: block.index, address: address, length: block.length)
        }
    }
}
