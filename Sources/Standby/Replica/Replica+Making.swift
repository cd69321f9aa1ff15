import Foundation
import Hypervisor
import Memory
import Messages
import Model
import Protocol

/// The parts of a replica as they are made and taken up, and what is left of one.
extension Replica {
    /// The standby's command line, or everything that stands in the way of a replica.
    static func admit(_ offer: OfferMessage, _ places: ReplicaPlaces) throws(SessionError) -> StandbyCommand {
        let level = offer.session.level
        guard level.holdsOutput || (offer.blocks.isEmpty && offer.nics.isEmpty) else {
            throw SessionError(.protocolBroken, "at level \(level.rawValue) there is nothing to offer but disks")
        }
        let admission = Admission(
            offer.vm, offer.guest, of: offer.session.primary, at: level, createsImages: offer.createsImages ?? false,
            places: places)
        guard admission.problems.isEmpty, let command = admission.command else {
            throw SessionError(.refused, admission.problems.joined(separator: "; "))
        }
        return command
    }

    /// Nil for a replica of disks alone, which has a directory all the same.
    static func makeMemory(
        _ offer: OfferMessage, _ command: StandbyCommand, _ places: ReplicaPlaces
    ) throws -> MemoryReplica? {
        if offer.session.level.holdsOutput { return try MemoryReplica(offer, command, places) }
        // What an earlier replica left behind is of no use any more.
        MemoryReplica.giveUp(offer.vm, places, keepingMemory: false)
        try MemoryReplica.makeDirectory(places.memoryDirectory)
        return nil
    }

    /// The one that waits; nil for a replica of disks alone. One that was started from them and not let run yet is ended.
    static func adoptGuest(_ manifest: ReplicaManifest, _ places: ReplicaPlaces) throws -> ReplicaGuest? {
        guard manifest.hasMemory else {
            places.guests.endLeftover(manifest.qemuPID, manifest.command)
            return nil
        }
        let guest = try places.guests.adopt(
            manifest.qemuPID, manifest.command, of: manifest.offer.guest,
            logPath: logPath(in: places.runtimeDirectory))
        return try ReplicaGuest(guest, of: manifest.offer)
    }

    /// The QEMU that waits; nil for a replica of disks alone.
    static func startGuest(
        _ offer: OfferMessage, _ command: StandbyCommand, _ places: ReplicaPlaces
    ) throws -> ReplicaGuest? {
        guard offer.session.level.holdsOutput else { return nil }
        return try startWaiting(offer, command, places)
    }

    static func startWaiting(
        _ offer: OfferMessage, _ command: StandbyCommand, _ places: ReplicaPlaces
    ) throws -> ReplicaGuest {
        let guest = try places.guests.start(
            command, of: offer.guest, logPath: logPath(in: places.runtimeDirectory))
        return try ReplicaGuest(guest, of: offer)
    }

    static func refusal(_ offer: OfferMessage, _ node: NodeName, _ error: any Error) -> SessionError {
        if let error = error as? SessionError {
            return SessionError(error.code, "\(node) cannot be the standby of \(offer.vm): \(error.message)")
        }
        return SessionError(.refused, "\(node) cannot be the standby of \(offer.vm): \(error)")
    }

    static let stateName = "device-state"

    static func statePath(in directory: String) -> String { "\(directory)/\(stateName)" }

    static func logPath(in directory: String) -> String { "\(directory)/qemu.log" }

    // MARK: - What is left of one

    /// VMs whose replicas an earlier run of the agent left in `directory`.
    public static func leftBehind(in directory: String) -> [VMName] {
        ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).compactMap(VMName.init).sorted()
    }

    /// Ends the QEMU of a replica that cannot be taken up, and keeps its memory as a base.
    public static func keepLeftover(
        _ vm: VMName, _ memoryDirectory: String, guests: any StandbyGuestSource, _ bases: MemoryBases
    ) {
        if let manifest = try? ReplicaManifest.read(from: memoryDirectory), !ReplicaManifest.isUsedUp(memoryDirectory) {
            guests.endLeftover(manifest.qemuPID, manifest.command)
        }
        bases.keep(vm, from: memoryDirectory)
    }

    /// The QEMU, if it runs, of a guest that was resumed from the replica in `directory` by an agent that was then
    /// killed.
    public static func resumed(in directory: String) -> (pid: Int32, monitorPath: String, image: StandbyMachine.Image)?
    {
        guard let manifest = try? ReplicaManifest.read(from: directory), ReplicaManifest.isUsedUp(directory) else {
            return nil
        }
        return (manifest.qemuPID, manifest.command.monitorPath, manifest.image)
    }
}

extension StandbyMachine.Image {
    init(_ offer: SessionOffer, identity: StandbyIdentity) {
        self.init(
            session: offer.session, identity: identity, term: offer.term, lineage: offer.lineage,
            primary: offer.primary, waits: offer.waits)
    }
}
