import Hypervisor

/// Tells which events of QEMU's are faults of replicated disks.
package struct DiskErrors {
    private let disks: [GuestDisk]
    private let replicated: [GuestDisk]

    package init(_ disks: [GuestDisk]) {
        self.disks = disks
        replicated = disks.filter(\.isReplicated)
    }

    /// The fault that `event` tells of, whatever the guest's policy made of it; nil for other events and other disks.
    ///
    /// QEMU names the block backend, which drives made by `-blockdev` have no name for, and the node below it, which is the mirror's
    /// filter while there is one (block/block-backend.c, `send_qmp_error_event`).
    package func fault(_ event: QMPEvent) -> DiskFault? {
        guard event.name == "BLOCK_IO_ERROR" else { return nil }
        let device = event.data["device"]?.string ?? ""
        let node = event.data["node-name"]?.string ?? ""
        let disk = disks.first { $0.device == device && !device.isEmpty } ?? disk(at: node)
        if let disk, !disk.isReplicated { return nil }
        return DiskFault(
            disk: disk?.name, event.data["operation"]?.string == "read" ? .read : .write,
            reason: event.data["reason"]?.string ?? "no reason given")
    }

    private func disk(at node: String) -> GuestDisk? {
        guard !node.isEmpty else { return nil }
        let mirrored = replicated.indices.first { MirrorJob.filter(of: $0) == node }
        return mirrored.map { replicated[$0] } ?? disks.first { $0.node == node || ($0.nodes ?? []).contains(node) }
    }
}
