import Glibc
import Hypervisor
import LinuxSystem
import TapDetour

extension StandbyCommand {
    public static func derive(
        _ guest: GuestDescription, _ options: StandbyOptions
    ) throws(StandbyCommandError) -> StandbyCommand {
        var derivation = Derivation(guest: guest, options: options)
        return try derivation.run()
    }

    /// The tap interfaces that QEMU is told to use without a script that would put them into a bridge.
    public var taps: [String] { tapOptions.compactMap { $0["ifname"] } }

    /// That of a NIC: by its netdev's name, or the only one that there is.
    func tap(of nic: GuestNIC) -> String? {
        let all = allTapOptions
        return (all.first { $0["id"] == nic.netdev } ?? (all.count == 1 ? all.first : nil))?["ifname"]
    }

    private var tapOptions: [OptionValue] { allTapOptions.filter { $0["script"] == "no" } }

    private var allTapOptions: [OptionValue] {
        options.filter { ["-netdev", "-nic", "-net"].contains($0.name) }
            .map { OptionValue($0.value ?? "", impliedKey: "type") }.filter { $0["type"] == "tap" }
    }

    /// Those of several queues, which is decided when they are made.
    private var queuedTaps: [String] { tapOptions.filter { $0["queues"] ?? "1" != "1" }.compactMap { $0["ifname"] } }

    /// One sentence per required file that is not here.
    public func missingFiles() -> [String] {
        requiredFiles.filter { access($0.path, R_OK) != 0 }.map { file in
            "the standby's QEMU needs \(file.path) (\(file.purpose)), which cannot be read here: "
                + "copy it from the primary or map it in the VM's standby files"
        }
    }

    /// One sentence per tap at which frames could not be let out that the primary held at its own.
    func tapsThatCannotHold(_ guest: GuestDescription) -> [String] {
        guard guest.nics.contains(where: { $0.holding == .tap }) else { return [] }
        return taps.compactMap { tap in
            guard let obstacle = Detour.obstacle(at: tap), obstacle != .noDevice(tap) else { return nil }
            return "what the primary holds of the guest's output could not leave at tap \(tap): \(obstacle)"
        }
    }

    /// One sentence per tap that is not here. QEMU would make it, and nothing would join it to a network: a failover would lose it.
    func missingTaps() -> [String] {
        guard let present = try? ProcessFiles.networkDevices(of: getpid()) else { return [] }
        let queued = queuedTaps
        return taps.filter { present[$0] == nil }.map { tap in
            "tap \(tap) is not there, and after a failover the guest would be without a network: make it (ip tuntap add"
                + " dev \(tap) mode tap\(queued.contains(tap) ? " multi_queue" : ""); ip link set \(tap) master BRIDGE up), or name another one in the VM's standby"
                + " taps"
        }
    }
}
