extension Inspection {
    /// Image formats whose contents a mirror job reads and the standby can hold in another file.
    private static let formats: Set<String> = [
        "raw", "qcow2", "qed", "vdi", "vmdk", "vpc", "vhdx", "file", "host_device", "throttle", "copy-on-read",
    ]

    mutating func listDisks() throws(QMPError) -> [GuestDisk] {
        let nodes = try monitor.execute("query-named-block-nodes", ["flat": true]).array ?? []
        let jobs = try monitor.execute("query-block-jobs").array ?? []
        var disks: [GuestDisk] = []
        for entry in try monitor.execute("query-block").array ?? [] {
            guard let disk = disk(entry, nodes: nodes) else { continue }
            disks.append(disk)
            guard disk.isReplicated else { continue }
            checkDisk(disk, entry: entry, jobs: jobs)
        }
        return disks
    }

    private func disk(_ entry: JSONValue, nodes: [JSONValue]) -> GuestDisk? {
        let device = entry["device"]?.string ?? ""
        let qdev = entry["qdev"]?.string
        let medium = entry["inserted"]
        // A drive slot of the board that neither has a medium nor a guest device (sd0) is nothing.
        guard medium != nil || qdev != nil else { return nil }
        let node = medium?["node-name"]?.string
        let file = medium?["file"]?.string ?? ""
        let protocols = nodes.filter { $0["file"]?.string == file }.compactMap { $0["drv"]?.string }
        return GuestDisk(
            name: device.isEmpty ? node ?? qdev ?? "" : device, device: device, qdev: qdev, node: node,
            format: medium?["drv"]?.string ?? "", file: file, isBlockDevice: protocols.contains("host_device"),
            virtualSize: medium?["image"]?["virtual-size"]?.uint64 ?? 0, readOnly: medium?["ro"]?.bool ?? true,
            removable: entry["removable"]?.bool ?? false)
    }

    private mutating func checkDisk(_ disk: GuestDisk, entry: JSONValue, jobs: [JSONValue]) {
        let medium = entry["inserted"]
        if medium?["encrypted"]?.bool == true || disk.format == "luks" {
            refuse(
                .disk, disk.name,
                "drive \(disk.name) is encrypted by QEMU, and its copy would not be: encrypt within the guest instead")
        } else if !Self.formats.contains(disk.format) {
            refuse(
                .disk, disk.name,
                "drive \(disk.name) uses the driver “\(disk.format)”, which cannot be protected: use raw or qcow2 "
                    + "on a file or block device")
        }
        if disk.virtualSize == 0 {
            refuse(.disk, disk.name, "drive \(disk.name) has no size: give it an image that is not empty")
        }
        if jobs.contains(where: { $0["device"]?.string == disk.device && !disk.device.isEmpty }) {
            refuse(.disk, disk.name, "another block job works on drive \(disk.name): wait for its end or cancel it")
        }
    }
}
