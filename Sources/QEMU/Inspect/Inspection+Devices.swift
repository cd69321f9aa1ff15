import Hypervisor

/// What cannot be protected whatever its settings: state outside of QEMU, and writers of guest memory that its page tables do
/// not know. A virtual function, a vhost worker in another process or an NVMe controller that QEMU drives by itself writes by
/// DMA or through mappings of its own, and no scan of QEMU's memory finds that.
extension Inspection {
    private static let tpm =
        "a TPM keeps its state outside of QEMU, where it is not replicated; remove it and suspend what seals keys with it"
        + " (BitLocker) first"
    private static let sharesMemory = "another process writes the guest's memory unseen"

    /// By the type's name or its beginning.
    private static let impossible: [(prefix: String, reason: String)] = [
        ("vfio-", "it is a passed-through device, whose state cannot be copied; use an emulated or virtio one"),
        (
            "kvm-pci-assign",
            "it is a passed-through device, whose state cannot be copied; use an emulated or virtio one"
        ),
        ("usb-redir", "the device behind it is at another machine and not replicated; remove it"),
        ("ccid-card-", "the smart card behind it is not replicated; remove it"),
        ("usb-host", "it is a passed-through USB device, whose state cannot be copied; remove it"),
        ("vhost-vsock", "vsock is carried by the host's kernel, which cannot be moved; remove it"),
        ("vhost-user-", "it is served by a process outside of QEMU, which is not replicated; use QEMU's own device"),
        (
            "vhost-vdpa-",
            "it is a device of the host's, which writes the guest's memory unseen; use QEMU's own virtio device"
        ),
        ("vhost-scsi", "its disk is served by the host's kernel and cannot be mirrored; use virtio-scsi"),
        ("virtio-9p", "it shares a host directory, which is not replicated; remove it or use a disk"),
        ("ivshmem", "it shares memory with other processes; remove it"),
        ("scsi-block", "it passes a host disk through; use scsi-hd on a block device"),
        ("scsi-generic", "it passes a host device through; use scsi-hd on a block device"),
        ("nvdimm", "its backing file is storage that is not mirrored; use a disk"),
        ("virtio-pmem", "its backing file is storage that is not mirrored; use a disk"),
        ("virtio-mem", "its size changes with the guest's wishes; give the guest fixed memory"),
        ("tpm-", tpm),
        ("virtio-gpu-gl", "its 3D state lies in the host's graphics driver; use virtio-vga without GL"),
        ("virtio-vga-gl", "its 3D state lies in the host's graphics driver; use virtio-vga without GL"),
        ("virtio-gpu-rutabaga", "its 3D state lies in a library that cannot be copied; use virtio-vga"),
        ("virtio-vga-rutabaga", "its 3D state lies in a library that cannot be copied; use virtio-vga"),
        ("pvrdma", "the host's network card writes the guest's memory unseen; use virtio-net-pci"),
        ("x-pci-proxy-dev", "it is served by another process, and \(sharesMemory); use QEMU's own device"),
        ("sgx-epc", "enclave memory cannot be copied; remove it"),
    ]

    /// Objects (`-object`), likewise.
    private static let impossibleObjects: [(prefix: String, reason: String)] = [
        ("cryptodev-vhost-user", "\(sharesMemory); use cryptodev-backend-builtin"),
        ("x-vfio-user-server", "\(sharesMemory); remove it"),
        ("vfio-user-server", "\(sharesMemory); remove it"),
        ("x-remote-object", "\(sharesMemory); remove it"),
        ("memory-backend-epc", "enclave memory cannot be copied; remove it"),
    ]

    /// Block drivers that let a device or another process read into the guest's memory.
    private static let pinning: Set<String> = [
        "nvme", "nvme-io_uring", "virtio-blk-vfio-pci", "virtio-blk-vhost-user", "virtio-blk-vhost-vdpa",
    ]

    mutating func checkDevices(_ devices: [GuestDevice]) {
        for device in devices {
            guard let match = Self.impossible.first(where: { device.type.hasPrefix($0.prefix) }) else { continue }
            let name = device.path.split(separator: "/").last.map(String.init) ?? device.path
            refuse(.device, name, "device \(name) (\(device.type)) cannot be protected: \(match.reason)")
        }
    }

    mutating func checkObjects() throws(QMPError) {
        let objects = try children(of: "/objects")
        checkLeaks(objects)
        for object in objects {
            guard let match = Self.impossibleObjects.first(where: { object.type.hasPrefix($0.prefix) }) else {
                continue
            }
            let name = object.path.split(separator: "/").last.map(String.init) ?? object.path
            refuse(.device, name, "object \(name) (\(object.type)) cannot be protected: \(match.reason)")
        }
    }

    /// Nodes anywhere in the graph, of read-only disks and empty hands too: what is read writes the guest's memory.
    mutating func checkNodes(_ nodes: [JSONValue]) {
        for node in nodes {
            guard let driver = node["drv"]?.string, Self.pinning.contains(driver) else { continue }
            let name = node["node-name"]?.string ?? ""
            refuse(
                .disk, name,
                "block node \(name) uses the driver “\(driver)”, by which a device writes the guest's memory unseen: give"
                    + " QEMU the disk as a block device of the host (host_device on /dev/…)")
        }
    }
}
