import Hypervisor
import LinuxSystem
import Model

/// Whether a host's QEMU can be the standby of a guest, asked of the program itself.
enum ProgramCheck {
    /// Why `program` cannot, as one sentence, or nil.
    static func obstacle(_ program: String, _ guest: GuestDescription, at node: NodeName, primary: NodeName) -> String?
    {
        guard let types = words(program, ["-machine", "help"]) else {
            return
                "\(program), which is to be the standby's QEMU, cannot be run here: install QEMU \(guest.qemu), or name"
                + " another program in the configuration (qemu.binary)"
        }
        let names = types.split(separator: "\n").compactMap { $0.split(separator: " ").first }
        guard !names.contains(Substring(guest.machineType)) else { return nil }
        let version = words(program, ["-version"])?.split(separator: "\n").first.map(String.init) ?? program
        return
            "machine type \(guest.machineType), which the guest has from QEMU \(guest.qemu) at \(primary), is not known to"
            + " \(version) at \(node) (\(program)): install the same version, or start the guest with a machine"
            + " type that both know"
    }

    /// What a program prints, at most a mebibyte of it; nil when it cannot be run or fails.
    private static func words(_ program: String, _ arguments: [String]) -> String? {
        guard let output = try? Files.memory(named: "output-of-\(program)") else { return nil }
        var plan = ChildProcess.Plan([program] + arguments)
        plan.output = output.number
        guard let child = try? ChildProcess(plan), child.waitForExit(timeout: nil), child.ending == .code(0) else {
            return nil
        }
        return Files.text(in: output, limit: 1 << 20)
    }
}
