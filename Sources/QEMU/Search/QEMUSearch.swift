import Glibc
import Hypervisor
import LinuxSystem
import Model

/// Finds the QEMU that runs a guest by the guest's name, from what `/proc` says: nothing is asked of it.
package enum QEMUSearch {
    /// All QEMUs in the calling thread's network namespace.
    static func running() -> [RunningCommand] {
        ProcessFiles.all().compactMap { pid in
            let facts = ProcessFacts(pid: pid)
            guard ProcessFiles.sharesNetwork(with: pid), let arguments = facts.arguments, let program = arguments.first,
                isQEMU(facts.link("exe") ?? program)
            else { return nil }
            var command = RunningCommand(pid: pid, arguments: arguments.dropFirst())
            let directory = facts.link("cwd") ?? "/"
            command.monitors = command.monitors.map { $0.hasPrefix("/") ? $0 : "\(directory)/\($0)" }
            return command
        }
    }

    private static func isQEMU(_ program: String) -> Bool {
        let name = program.split(separator: "/").last ?? ""
        return name.hasPrefix("qemu") || name.hasPrefix("kvm")
    }

    /// `isFree` says of a monitor whether it can be spoken to; it is asked only where there are several.
    package static func choose(
        _ wanted: String, _ manager: GuestManager?, among commands: [RunningCommand], isFree: (String) -> Bool
    ) -> GuestSearch {
        let found = commands.filter {
            ($0.name == wanted || $0.uuid == wanted.lowercased()) && !wanted.isEmpty
                && (manager == nil || $0.isOfLibvirt)
        }
        guard let command = found.first else { return .none }
        guard found.count == 1 else {
            let pids = found.map { String($0.pid) }.joined(separator: " and ")
            return .unusable("several QEMUs here are called \(wanted) (pids \(pids)): say which with --qmp PATH")
        }
        let name = command.name.isEmpty ? wanted : command.name
        switch command.monitors.count {
        case 0 where command.isOfLibvirt:
            return .unusable(
                "\(name) is a domain of libvirt (pid \(command.pid)), which holds its only monitor: “romulus libvirt prepare"
                    + " \(name)” gives it a second one, from its next start on")
        case 0:
            return .unusable(
                "the QEMU of \(name) (pid \(command.pid)) listens for QMP at no unix socket: start it with -qmp"
                    + " unix:PATH,server=on,wait=off")
        case 1: return .found(address: command.monitors[0], name: name)
        default:
            return .found(address: command.monitors.first(where: isFree) ?? command.monitors[0], name: name)
        }
    }
}
