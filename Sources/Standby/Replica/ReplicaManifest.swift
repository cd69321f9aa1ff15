import Foundation
import Hypervisor
import LinuxSystem
import Messages
import Model
import Protocol

/// What a later run of the agent must know of a replica, as JSON beside the RAM files.
package struct ReplicaManifest: Codable {
    package var offer: OfferMessage
    package var peer: NodeName
    package var command: StandbyCommand
    package var qemuPID: Int32
    /// In bytes; 0 where the replica is of disks alone.
    package var slotCapacity: Int
    package var image: StandbyMachine.Image

    package init(
        offer: OfferMessage, peer: NodeName, command: StandbyCommand, qemuPID: Int32, slotCapacity: Int,
        image: StandbyMachine.Image
    ) {
        self.offer = offer
        self.peer = peer
        self.command = command
        self.qemuPID = qemuPID
        self.slotCapacity = slotCapacity
        self.image = image
    }

    /// The replica has memory, and a QEMU that waits. The dial moves: the level of the offer does not tell.
    var hasMemory: Bool { slotCapacity > 0 }

    /// Of the replica in `directory`.
    package static func read(from directory: String) throws -> ReplicaManifest {
        try JSONDecoder().decode(
            ReplicaManifest.self, from: try Data(contentsOf: URL(fileURLWithPath: path(in: directory))))
    }

    package func write(to directory: String) throws {
        try JSONEncoder().encode(self).write(to: URL(fileURLWithPath: Self.path(in: directory)), options: .atomic)
    }

    /// The guest was let run from the replica: a restarted agent must not resume it a second time.
    package static func markUsedUp(_ directory: String) throws(SystemError) {
        _ = try OwnedDescriptor.open(usedUpMark(in: directory), O_WRONLY | O_CREAT)
    }

    package static func isUsedUp(_ directory: String) -> Bool {
        FileManager.default.fileExists(atPath: usedUpMark(in: directory))
    }

    /// The names of its files.
    static let names = ["manifest.json", "used-up"]

    private static func path(in directory: String) -> String { "\(directory)/\(names[0])" }

    private static func usedUpMark(in directory: String) -> String { "\(directory)/\(names[1])" }
}
