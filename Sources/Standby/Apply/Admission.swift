import Foundation
import Hypervisor
import LinuxSystem
import Model
import QEMU
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
    ///   - createsImages: whether a missing image is made.
    ///   - present: bytes of the guest's memory that are here already.
    public init(
        _ vm: VMName, _ guest: GuestDescription, of primary: String, createsImages: Bool, places: ReplicaPlaces
    ) {
        (self.vm, self.guest, self.places) = (vm, guest, places)
        do throws(StandbyCommandError) {
            let derived = try StandbyCommand.derive(guest, places.standby)
            command = derived
            notes += derived.notes
            problems += derived.missingFiles()
            checkProgram(derived.program, primary)
            checkTaps(derived)
        } catch {
            problems += error.problems
        }
        for disk in guest.disks where disk.isReplicated { check(disk, createsImages) }
        checkRoom()
    }

    // MARK: - QEMU

    private mutating func checkProgram(_ program: String, _ primary: String) {
        guard let types = Self.words(program, ["-machine", "help"]) else {
            problems.append(
                "\(program), which is to be the standby's QEMU, cannot be run here: install QEMU \(guest.qemu), or name"
                    + " another program in the configuration (qemu.binary)")
            return
        }
        let names = types.split(separator: "\n").compactMap { $0.split(separator: " ").first }
        guard !names.contains(Substring(guest.machineType)) else { return }
        let version = Self.words(program, ["-version"])?.split(separator: "\n").first.map(String.init) ?? program
        problems.append(
            "machine type \(guest.machineType), which the guest has from QEMU \(guest.qemu) at \(primary), is not known to"
                + " \(version) at \(places.node) (\(program)): install the same version, or start the guest with a machine"
                + " type that both know")
    }

    /// What a program prints; nil when it cannot be run or fails.
    private static func words(_ program: String, _ arguments: [String]) -> String? {
        let tool = Process()
        tool.executableURL = URL(fileURLWithPath: program.contains("/") ? program : "/usr/bin/env")
        tool.arguments = (program.contains("/") ? [] : [program]) + arguments
        let output = Pipe()
        tool.standardOutput = output
        tool.standardError = FileHandle.nullDevice
        guard (try? tool.run()) != nil else { return nil }
        let said = output.fileHandleForReading.readDataToEndOfFile()
        tool.waitUntilExit()
        return tool.terminationStatus == 0 ? String(decoding: said, as: UTF8.self) : nil
    }

    /// QEMU would make a tap that is missing, and nothing would join it to a network: a failover would lose it.
    private mutating func checkTaps(_ command: StandbyCommand) {
        guard let present = try? ProcessFiles.networkDevices(of: getpid()) else { return }
        for tap in command.taps where present[tap] == nil {
            problems.append(
                "tap \(tap) is not there, and after a failover the guest would be without a network: make it (ip tuntap add"
                    + " dev \(tap) mode tap; ip link set \(tap) master BRIDGE up), or name another one in the VM's standby"
                    + " taps")
        }
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

    private mutating func checkRoom() {
        let wanted = Replica.roomWanted(guest.ramBlocks)
        let parent = (places.memoryDirectory as NSString).deletingLastPathComponent
        // What is kept of VMs' memory is used, or gives way.
        let kept = places.bases.bytes
        do throws(SessionError) {
            try Replica.checkRoom(wanted > kept ? wanted - kept : 0, in: parent)
        } catch {
            problems.append(error.message)
        }
    }
}

extension StandbyOptions {
    /// The disk's image on this host: as mapped in the configuration, else at the same path as at the primary.
    package func image(of disk: GuestDisk, in guest: GuestDescription) -> StandbyDisk {
        for key in disk.keys {
            if let mapped = disks[key] { return mapped }
        }
        let path = disk.file.hasPrefix("/") ? disk.file : "\(guest.workingDirectory)/\(disk.file)"
        return StandbyDisk(path: path, format: disk.format, isBlockDevice: disk.isBlockDevice)
    }
}
