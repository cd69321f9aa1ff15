import Glibc
import Hypervisor
import LinuxSystem

extension StandbyCommand {
    public static func derive(
        _ guest: GuestDescription, _ options: StandbyOptions
    ) throws(StandbyCommandError) -> StandbyCommand {
        var derivation = Derivation(guest: guest, options: options)
        return try derivation.run()
    }

    /// The tap interfaces that QEMU is told to use without a script that would put them into a bridge.
    public var taps: [String] {
        options.filter { ["-netdev", "-nic", "-net"].contains($0.name) }.compactMap { option in
            let value = OptionValue(option.value ?? "", impliedKey: "type")
            return value["type"] == "tap" && value["script"] == "no" ? value["ifname"] : nil
        }
    }

    /// One sentence per required file that is not here.
    public func missingFiles() -> [String] {
        requiredFiles.filter { access($0.path, R_OK) != 0 }.map { file in
            "the standby's QEMU needs \(file.path) (\(file.purpose)), which cannot be read here: "
                + "copy it from the primary or map it in the VM's standby files"
        }
    }

    /// One sentence per tap that is not here. QEMU would make it, and nothing would join it to a network: a failover would lose it.
    func missingTaps() -> [String] {
        guard let present = try? ProcessFiles.networkDevices(of: getpid()) else { return [] }
        return taps.filter { present[$0] == nil }.map { tap in
            "tap \(tap) is not there, and after a failover the guest would be without a network: make it (ip tuntap add"
                + " dev \(tap) mode tap; ip link set \(tap) master BRIDGE up), or name another one in the VM's standby"
                + " taps"
        }
    }
}
