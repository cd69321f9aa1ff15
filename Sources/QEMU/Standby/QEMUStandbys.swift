import Hypervisor
import Model

/// QEMU processes that wait on this host for a guest's state.
public struct QEMUStandbys: StandbyGuestSource {
    public init() {}

    public func command(
        for guest: GuestDescription, _ options: StandbyOptions
    ) throws(StandbyCommandError) -> StandbyCommand {
        try StandbyCommand.derive(guest, options)
    }

    public func obstacles(
        to command: StandbyCommand, of guest: GuestDescription, at node: NodeName, primary: NodeName
    ) -> [String] {
        command.missingFiles()
            + [ProgramCheck.obstacle(command.program, guest, at: node, primary: primary)].compactMap(\.self)
            + command.missingTaps()
            + command.tapsThatCannotHold(guest)
    }

    public func tap(of nic: GuestNIC, in command: StandbyCommand) -> String? { command.tap(of: nic) }

    public func start(
        _ command: StandbyCommand, of guest: GuestDescription, logPath: String
    ) throws(SessionError) -> any StandbyGuest {
        do throws(StandbyError) {
            let process = try StandbyProcess(
                arguments: command.arguments, workingDirectory: command.workingDirectory,
                monitorPath: command.monitorPath, logPath: logPath)
            do throws(StandbyError) {
                return try QEMUStandby(process, of: guest)
            } catch {
                process.kill()
                throw error
            }
        } catch {
            throw SessionError(.refused, "\(error)")
        }
    }

    public func adopt(
        _ pid: Int32, _ command: StandbyCommand, of guest: GuestDescription, logPath: String
    ) throws(SessionError) -> any StandbyGuest {
        do {
            let process = try StandbyProcess(adopting: pid, monitorPath: command.monitorPath, logPath: logPath)
            // The way out for held frames ended in the agent that is gone.
            _ = try Leftovers.remove(process.monitor)
            return try QEMUStandby(process, of: guest)
        } catch {
            throw SessionError(.refused, "\(error)")
        }
    }

    public func boot(_ command: StandbyCommand, logPath: String) throws(SessionError) -> any StandbyGuest {
        do throws(StandbyError) {
            return try ColdStart(command, logPath: logPath)
        } catch {
            throw SessionError(.qemu, "\(error)")
        }
    }

    public func endLeftover(_ pid: Int32, _ command: StandbyCommand) {
        StandbyProcess.endLeftover(pid, command)
    }
}
