/// Whether QEMU's disks may write into guest memory past the page table.
///
/// A read with `O_DIRECT` (`cache=none`, `cache=directsync`) pins the guest's pages before the data comes: the page table
/// records the pin as the write, and the arrival of the data leaves no mark (Linux, mm/gup.c `FOLL_WRITE`; the same for
/// io_uring and linux-aio). Reads that the kernel copies leave the mark when the data comes.
public enum PinningDisks {
    /// Drivers whose own reads are copied, or that only pass requests on to other nodes.
    private static let copying: Set<String> = [
        "blkdebug", "blklogwrites", "blkreplay", "blkverify", "bochs", "cloop", "compress", "copy-before-write",
        "copy-on-read", "dmg", "ftp", "ftps", "http", "https", "luks", "nbd", "null-aio", "null-co", "parallels",
        "preallocate", "qcow", "qcow2", "qed", "quorum", "raw", "replication", "snapshot-access", "ssh", "throttle",
        "vdi",
        "vhdx", "vmdk", "vpc", "vvfat",
    ]
    /// Drivers that read through the page cache unless the node is opened with `cache.direct=on`.
    private static let cached: Set<String> = ["file", "host_cdrom", "host_device"]

    /// Looks at every node of the block graph, also of disks that the guest only reads. A driver that is not known counts
    /// as one that pins.
    public static func exist(_ monitor: QMPConnection) throws(QMPError) -> Bool {
        let nodes = try monitor.execute("query-named-block-nodes", ["flat": true]).array ?? []
        return nodes.contains { node in
            let driver = node["drv"]?.string ?? ""
            if cached.contains(driver) { return node["cache"]?["direct"]?.bool ?? true }
            return !copying.contains(driver)
        }
    }

    /// Is answered, with the guest running, when every request that was under way is over: QEMU drains all disks before the actions
    /// of a transaction (blockdev.c, `qmp_transaction`), and this one has none.
    public static let drain = QMPCommand("transaction", ["actions": .array([])])
}
