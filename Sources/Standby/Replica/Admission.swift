import Foundation
import Hypervisor
import Memory
import Model
import Storage

/// Whether a host can be the standby of a VM, found without changing anything on it.
public struct Admission: Sendable {
    /// Nil when none could be derived.
    public private(set) var command: StandbyCommand?
    /// Everything that stands in the way, one sentence each.
    public private(set) var problems: [String] = []
    /// What the operator should know and what does not stand in the way.
    public private(set) var notes: [String] = []

    private let vm: VMName
    private let guest: GuestDescription
    private let places: ReplicaPlaces

    /// - Parameters:
    ///   - primary: where the guest runs.
    ///   - level: at which it is to be protected; below `system` its memory is wanted when it is started here.
    ///   - createsImages: whether a missing image is made.
    public init(
        _ vm: VMName, _ guest: GuestDescription, of primary: NodeName, at level: Level, createsImages: Bool,
        places: ReplicaPlaces
    ) {
        (self.vm, self.guest, self.places) = (vm, guest, places)
        do throws(StandbyCommandError) {
            let derived = try places.guests.command(for: guest, places.standby)
            command = derived
            notes += derived.notes
            problems += places.guests.obstacles(to: derived, of: guest, at: places.node, primary: primary)
        } catch {
            problems += error.problems
        }
        for disk in guest.disks where disk.isReplicated { check(disk, createsImages) }
        checkRoom(level, primary)
    }

    // MARK: - Disks

    private mutating func check(_ disk: GuestDisk, _ createsImages: Bool) {
        let target = places.standby.image(of: disk, in: guest)
        guard let format = ImageFormat(rawValue: target.format) else {
            problems.append(
                "drive \(disk.name) has the format \(target.format), in which \(places.node) cannot write \(target.path): map"
                    + " it to a raw or qcow2 image in the VM's standby disks")
            return
        }
        guard FileManager.default.fileExists(atPath: target.path) else {
            if createsImages { return }
            problems.append(
                "the image of drive \(disk.name) is not there: make it (qemu-img create -f \(target.format) \(target.path)"
                    + " \(disk.virtualSize)), have it made (romulus protect --create-image), or name another one in the VM's"
                    + " standby disks")
            return
        }
        if let size = DiskImage.size(of: target.path, format: format), size != disk.virtualSize {
            problems.append("\(StorageError.wrongSize(path: target.path, bytes: size, expected: disk.virtualSize))")
        }
    }

    // MARK: - Memory

    /// What others want at a start counts as taken: by those of one host, where this one is started with them.
    private mutating func checkRoom(_ level: Level, _ primary: NodeName) {
        let (own, others) =
            level.holdsOutput
            ? (MemoryReplica.roomWanted(guest.ramBlocks), places.starts.mostWanted(besides: vm))
            : (ReplicaMemory.size(of: guest.ramBlocks), places.starts.wanted(of: primary, besides: vm))
        let parent = (places.memoryDirectory as NSString).deletingLastPathComponent
        // What is kept of VMs' memory is used, or gives way.
        let kept = places.bases.bytes
        do throws(SessionError) {
            try MemoryReplica.checkRoom(own, besides: others, kept: kept, in: parent)
        } catch {
            problems.append(error.message)
        }
    }
}
