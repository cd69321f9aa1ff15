import Hypervisor
import QEMU
import Testing

/// Which of QEMU's events are faults of replicated disks.
@Suite struct DiskErrorsTests {
    private static func disk(
        _ name: String, device: String, node: String, below: [String] = [], readOnly: Bool = false
    ) -> GuestDisk {
        GuestDisk(
            name: name, device: device, qdev: nil, node: node, format: "raw", file: "/\(name)", isBlockDevice: false,
            virtualSize: 1 << 20, readOnly: readOnly, removable: readOnly, nodes: [node] + below)
    }

    private static let errors = DiskErrors([
        disk("cd", device: "ide1-cd0", node: "#block100", readOnly: true),
        disk("root", device: "root", node: "#block200"),
        disk("libvirt-1-format", device: "", node: "libvirt-1-format", below: ["libvirt-1-storage"]),
        disk("libvirt-2-format", device: "", node: "libvirt-2-format", readOnly: true),
    ])

    private static func fault(_ device: String, _ node: String, _ operation: String = "write") -> DiskFault? {
        errors.fault(
            QMPEvent(
                name: "BLOCK_IO_ERROR",
                data: [
                    "device": .string(device), "node-name": .string(node), "operation": .string(operation),
                    "action": "report", "nospace": false, "reason": "Input/output error",
                ], timestamp: 1))
    }

    @Test func drivesAreNamedByTheirBackend() {
        #expect(Self.fault("root", "#block200") == DiskFault(disk: "root", .write, reason: "Input/output error"))
        #expect(Self.fault("root", "", "read")?.description == "a read of disk root failed (Input/output error)")
        #expect(Self.fault("ide1-cd0", "#block100", "read") == nil, "it is not replicated")
    }

    @Test func drivesWithoutOneByTheirNodes() {
        #expect(Self.fault("", "libvirt-1-format")?.disk == "libvirt-1-format")
        #expect(Self.fault("", "libvirt-1-storage")?.disk == "libvirt-1-format")
        #expect(Self.fault("", "libvirt-2-format") == nil)
        // The mirror's filter above the second replicated disk.
        #expect(Self.fault("", "romulus-disk1-top")?.disk == "libvirt-1-format")
        #expect(Self.fault("", "romulus-disk0-top")?.disk == "root")
    }

    @Test func aDiskThatIsNotKnownMayBeAnyOfThem() {
        #expect(Self.fault("", "other")?.description == "a write of a disk failed (Input/output error)")
        #expect(Self.errors.fault(QMPEvent(name: "BLOCK_JOB_ERROR", data: ["device": "root"], timestamp: 1)) == nil)
    }
}
