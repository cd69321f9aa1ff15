import Foundation
import LinuxSystem
import Model
import Pair
import Protocol
import Synchronization

/// What this agent remembers of its VMs over its own end, and over a power cut: one file for each in
/// `state_directory/vms`.
package final class VMStore: Sendable {
    package struct Memory: Codable, Sendable {
        package var local = LocalRecord()
        /// The guest that this host has in hand; nil when it has none.
        package var guest: Guest?
        /// The last guest that this host had in hand and left running; absent likewise.
        var left: Guest?
        /// The operator's last word; absent where there was none, and in what older agents wrote.
        var word: Word?
        /// When that was said, or when the last one was taken back; absent where neither was, and in what older agents wrote.
        var wordSaidAt: Date?
        /// The level that it fell from by itself, and climbs back to; absent while it is not degraded.
        package var degradedFrom: Level?
        /// The disks of which the primary has no whole copy: this host's is the only one. Absent where there are none.
        package var ownerLacks: [UInt16]?
        /// In which history of the guest that is so; absent likewise, and in what older agents wrote.
        var ownerLacksIn: Lineage?
        /// How often it was started here again; absent where it never was, and in what older agents wrote.
        package var restarts: PastRestarts?
        /// Which VM of that name this host protected last; absent likewise.
        package var identity: VMIdentity?

        /// The process of a guest that is, or was last, in hand here and runs.
        var runningHere: Int32? { [guest, left].compactMap { $0 }.first(where: \.isAlive)?.pid }

        /// What this host wrote down of the owner's copies.
        package var owners: OwnersCopies {
            get { OwnersCopies(lacking: ownerLacks, in: ownerLacksIn) }
            set { (ownerLacks, ownerLacksIn) = (newValue.lacking, newValue.lineage) }
        }
    }

    /// Which QEMU process is meant, and how it was protected.
    package struct Guest: Codable, Sendable {
        package var pid: Int32
        /// In clock ticks since the host was started: tells the process from a later one of the same number.
        var startTime: UInt64
        var lineage: Lineage
        var qmp: String
        package var standby: NodeName
        /// Absent where nobody is in reserve, and in what older agents wrote, as is the next.
        var reserve: [NodeName]?
        var replaceAfterSeconds: Int?
        var level: Level
        var epochMilliseconds: Int
        /// The rest of its tuning; absent where there is none, and in what older agents wrote.
        var goal: EpochGoal?
        var pauseBudget: Int?
        var linkCapMegabits: Int?

        var tuning: EpochTuning {
            get {
                EpochTuning(
                    epochMilliseconds: epochMilliseconds, goal: goal, pauseBudget: pauseBudget,
                    linkCapMegabits: linkCapMegabits)
            }
            set {
                epochMilliseconds = newValue.epochMilliseconds
                goal = newValue.goal
                pauseBudget = newValue.pauseBudget
                linkCapMegabits = newValue.linkCapMegabits
            }
        }

        /// Another process is the guest.
        mutating func moved(to pid: Int32, _ qmp: String) {
            (self.pid, self.qmp) = (pid, qmp)
            startTime = GuestProcess.startTime(of: pid) ?? 0
        }

        /// True while that process runs.
        var isAlive: Bool { GuestProcess.startTime(of: pid) == startTime && GuestProcess.runs(pid) }
    }

    private let directory: DurableDirectory
    private let files: Mutex<[VMName: DurableFile<Memory>]>
    /// VMs of which the last write was cut short, when the host lost power; what was written before counts.
    let torn: [VMName]

    /// Opens or makes `path`. A file that cannot be read stops the agent: what it may do rests on it.
    package init(_ path: String) throws {
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        directory = try DurableDirectory(path, exclusively: false)
        var found: [VMName: DurableFile<Memory>] = [:]
        for name in try FileManager.default.contentsOfDirectory(atPath: path) where name.hasSuffix(".json") {
            guard let vm = VMName(String(name.dropLast(5))) else { continue }
            found[vm] = try Self.file(of: vm, in: directory)
        }
        torn = found.filter(\.value.isTorn).keys.sorted()
        files = Mutex(found)
    }

    private static func file(
        of vm: VMName, in directory: borrowing DurableDirectory
    ) throws -> DurableFile<Memory> {
        try DurableFile("\(vm).json", in: directory, .inTwoPlaces, initial: Memory()) { error in
            "what was remembered of \(vm) cannot be read (\(error)); restore the file, or remove it when no other host runs"
                + " that VM"
        }
    }

    package var vms: [VMName] { files.withLock { $0.keys.sorted() } }

    package subscript(vm: VMName) -> Memory { files.withLock { $0[vm]?.value ?? Memory() } }

    /// Changes what is remembered; returns when it is on stable storage.
    package func update(_ vm: VMName, _ change: (inout Memory) -> Void) throws(SystemError) {
        try files.withLock { (files) throws(SystemError) in
            let file = files[vm] ?? DurableFile("\(vm).json", .inTwoPlaces, Memory())
            try file.change(in: directory, change)
            files[vm] = file
        }
    }

    /// What this host wrote down of the owner's copies counts no more. Writes nothing where it wrote nothing down.
    package func forgetOwners(of vm: VMName) throws(SystemError) {
        guard self[vm].ownerLacks != nil else { return }
        try update(vm) { $0.owners = OwnersCopies() }
    }
}
