import Hypervisor
import Logging
import Memory
import Model
import RomulusAPI
import Standby

/// Whoever runs guests on this host, and what the configuration says of those that wait here for another host's.
/// `AgentProgram` fills it in; everything else knows no hypervisor. All of it blocks.
struct Drivers: Sendable {
    let guests: any GuestSource & GuestSurvey
    let standbys: any StandbyGuestSource
    let configuration: Configuration
    let bases: MemoryBases
    let starts: @Sendable () -> StartRoom
    let log: Logger

    var finder: GuestFinder { GuestFinder(configuration: configuration, guests: guests) }

    /// What runs behind the monitor at that path, and all reasons why it cannot be protected.
    func examine(_ monitor: String) throws(APIError) -> (description: GuestDescription?, refusals: [String]) {
        do throws(SessionError) {
            return try guests.examine(at: monitor)
        } catch {
            throw APIError(.refused, "\(error)")
        }
    }

    /// What runs behind the monitor, where it can be protected.
    func inspect(_ monitor: String) throws(APIError) -> GuestDescription {
        let (description, refusals) = try examine(monitor)
        guard refusals.isEmpty, let description else {
            throw APIError(.refused, refusals.joined(separator: "; "))
        }
        return description
    }

    /// Where a replica of the VM lies on this host.
    func places(_ vm: VMName, _ guest: GuestDescription) -> ReplicaPlaces {
        ReplicaPlaces(
            node: configuration.node, memoryDirectory: configuration.memoryDirectory(of: vm),
            runtimeDirectory: configuration.runtimeDirectory(of: vm),
            standby: configuration.standbyOptions(for: vm, guest: guest), guests: standbys,
            isRealTime: configuration.defaults.isRealTime, bases: bases, starts: starts())
    }

    /// Takes up the replica that an earlier run of this agent left.
    func recover(_ vm: VMName) throws(SessionError) -> Replica {
        try Replica(
            recovering: configuration.memoryDirectory(of: vm), runtimeDirectory: configuration.runtimeDirectory(of: vm),
            node: configuration.node, bases: bases, guests: standbys, isRealTime: configuration.defaults.isRealTime,
            standby: { configuration.standbyOptions(for: vm, guest: $0.guest) }, log: log)
    }

    /// What starts a guest that died on this host again, with the images, taps and files that it had.
    func restartCommand(_ vm: VMName, _ guest: GuestDescription) throws(SessionError) -> StandbyCommand {
        var options = StandbyOptions(runDirectory: configuration.runtimeDirectory(of: vm))
        options.memoryDirectory = configuration.memoryDirectory(of: vm)
        do throws(StandbyCommandError) {
            return try standbys.command(for: guest, options)
        } catch {
            throw SessionError(.qemu, "\(error)")
        }
    }

    /// How a standby of the guest would be started here, as the operator reads it.
    func standbyCommand(_ vm: VMName, _ guest: GuestDescription) throws(APIError) -> String {
        do throws(StandbyCommandError) {
            return try standbys.command(for: guest, configuration.standbyOptions(for: vm, guest: guest)).text
        } catch {
            throw APIError(.refused, "\(error)")
        }
    }
}

extension Configuration {
    /// How this host's standby of `vm` differs from the primary; `guest` tells the formats of its disks.
    fileprivate func standbyOptions(for vm: VMName, guest: GuestDescription) -> StandbyOptions {
        var options = StandbyOptions(runDirectory: runtimeDirectory(of: vm))
        options.memoryDirectory = memoryDirectory(of: vm)
        options.program = qemu.binary
        options.sandbox =
            qemu.sandbox ? "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny" : nil
        guard let configured = vms[vm]?.whenStandby else { return options }
        for (id, disk) in configured.disks {
            let original = guest.disks.first { $0.keys.contains(id) }
            options.disks[id] = StandbyDisk(
                path: disk.path, format: disk.format?.rawValue ?? original?.format ?? "raw",
                isBlockDevice: disk.path.hasPrefix("/dev/"))
        }
        options.taps = configured.taps
        options.files = configured.files
        if let display = configured.display { options.display = display }
        options.accelerator = configured.accelerator
        options.overrides.add = configured.add
        options.overrides.remove = configured.remove
        options.overrides.replace = configured.replace.map {
            StandbyOverrides.Replacement(match: $0.match, with: $0.with)
        }
        return options
    }
}
