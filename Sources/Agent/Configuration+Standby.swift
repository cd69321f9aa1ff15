import Hypervisor
import Model
import PKI

extension Configuration {
    /// How this host's standby of `vm` differs from the primary; `guest` tells the formats of its disks.
    func standbyOptions(for vm: VMName, guest: GuestDescription) -> StandbyOptions {
        var options = StandbyOptions(runDirectory: "\(runtimeDirectory)/\(vm)")
        options.memoryDirectory = "\(memoryDirectory)/\(vm)"
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

    func loadIdentity() throws(PKIError) -> TLSIdentity {
        try TLSIdentity.load(authority: tls.ca, certificate: tls.certificate, key: tls.key)
    }
}
