import Hypervisor

extension Inspection {
    /// Image formats whose contents a mirror job reads and the standby can hold in another file.
    private static let formats: Set<String> = ["raw", "qcow2", "qed", "vdi", "vmdk", "vpc", "vhdx"]

    mutating func listDisks() throws(QMPError) -> [GuestDisk] {
        let nodes = try monitor.execute("query-named-block-nodes", ["flat": true]).array ?? []
        checkNodes(nodes)
        let graph = BlockGraph(nodes: nodes, graph: try monitor.execute("x-debug-query-block-graph"))
        let jobs = try monitor.execute("query-block-jobs").array ?? []
        var disks: [GuestDisk] = []
        for entry in try monitor.execute("query-block").array ?? [] {
            guard let disk = disk(entry, graph) else { continue }
            disks.append(disk)
            guard disk.isReplicated else { continue }
            checkDisk(disk, entry: entry, jobs: jobs)
        }
        return disks
    }

    private func disk(_ entry: JSONValue, _ graph: BlockGraph) -> GuestDisk? {
        let device = entry["device"]?.string ?? ""
        let qdev = entry["qdev"]?.string
        let medium = entry["inserted"]
        // A drive slot of the board that neither has a medium nor a guest device (sd0) is nothing.
        guard medium != nil || qdev != nil else { return nil }
        let node = medium?["node-name"]?.string.map(graph.top)
        let image = node.flatMap(graph.image)
        let storage = image?.storage.driver
        let driver = image?.format.driver ?? medium?["drv"]?.string ?? ""
        // A format above a filter, or with options of its own, has no plain name: its storage has.
        let named = [image?.format.file, image?.storage.file].compactMap(\.self).first { !$0.hasPrefix("json:") }
        return GuestDisk(
            name: device.isEmpty ? node ?? qdev ?? "" : device, device: device, qdev: qdev, node: node,
            format: BlockGraph.storages.contains(driver) ? "raw" : driver,
            file: named ?? medium?["file"]?.string ?? "", isBlockDevice: storage == "host_device",
            virtualSize: medium?["image"]?["virtual-size"]?.uint64 ?? 0, readOnly: medium?["ro"]?.bool ?? true,
            removable: entry["removable"]?.bool ?? false, storage: storage,
            nodes: node.map { graph.chain(below: $0).map(\.name).filter { !$0.hasPrefix("#") } })
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
