import Hypervisor
import Model

/// A start of the guest from its disks, with the machine that waits for its state otherwise.
///
/// QEMU stands still from its start on (`-S`), like one that has loaded a state: its disks are open and it sends nothing, so the
/// ways out for held frames can be put into it, and it is written down before its guest runs. RAM lies in the files of the
/// replica and is not cleared: a machine that is reset finds its memory like that too, and firmware takes nothing from it.
package final class ColdStart: StandbyGuest {
    private let process: StandbyProcess

    /// Starts it and waits until it answers.
    package init(_ waiting: StandbyCommand, logPath: String) throws(StandbyError) {
        process = try StandbyProcess(standing: Self.command(waiting), logPath: logPath)
    }

    /// What starts the guest anew, given what has its standby wait.
    package static func command(_ waiting: StandbyCommand) -> StandbyCommand {
        var command = waiting
        command.options.removeAll { $0.name == "-incoming" }
        for (index, option) in command.options.enumerated() where option.name == "-boot" {
            // What was meant for the guest's first start, such as an installation.
            var value = OptionValue(option.value ?? "", impliedKey: "order")
            value.remove("once")
            command.options[index] = CommandOption("-boot", value.text)
        }
        command.options.removeAll { $0.name == "-boot" && $0.value?.isEmpty != false }
        command.options.append(CommandOption("-S"))
        return command
    }

    package var pid: Int32 { process.pid }
    package var exitDescriptor: Int32 { process.exitDescriptor }
    package var ending: String? { process.ending }
    package var isLoaded: Bool { false }

    package func servingThreads() throws(SessionError) -> [Int32] { try process.servingThreads() }

    package func outlet(of nic: GuestNIC, index: UInt16) throws(SessionError) -> any NICOutlet {
        try process.outlet(of: nic, index: index)
    }

    package func load(_ memory: [BlockContents], deviceState: [UInt8]) throws(SessionError) {
        throw SessionError(.qemu, "a QEMU that was started to boot takes no state")
    }

    package func run() throws(SessionError) {
        do throws(StandbyError) { try process.run() } catch { throw SessionError(.qemu, "\(error)") }
        // A guest that boots says nothing for seconds. What its switches do not hear now they hear from itself then.
        _ = try? process.monitor.execute(
            "announce-self", ["initial": 50, "max": 550, "rounds": 5, "step": 100])
    }

    package func forgetSharing() throws(SessionError) {}

    package func close() { process.monitor.close() }

    package func kill() { process.kill() }
}
