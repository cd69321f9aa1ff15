import Model

/// Makes the guests of standbys: the port that a driver fills at the standby, as `GuestSource` at the primary.
public protocol StandbyGuestSource: Sendable {
    /// What would start the standby of `guest` at a host of which `options` tell. Throws all that stands in the way at once.
    func command(
        for guest: GuestDescription, _ options: StandbyOptions
    ) throws(StandbyCommandError) -> StandbyCommand

    /// Why `command` could not be carried out on this host, one sentence each. Changes nothing; runs programs, so it blocks.
    ///
    /// - Parameters:
    ///   - node: this host.
    ///   - primary: where the guest runs.
    func obstacles(
        to command: StandbyCommand, of guest: GuestDescription, at node: NodeName, primary: NodeName
    ) -> [String]

    /// The tap of that NIC of the primary's, as `command` names it; nil where it has none.
    func tap(of nic: GuestNIC, in command: StandbyCommand) -> String?

    /// Starts it and waits until it answers, and checks that it is the machine described. Its memory files are there. It lives on
    /// when the result goes away: end it with `kill`.
    ///
    /// - Parameter logPath: what it prints goes there; the file is begun anew.
    func start(
        _ command: StandbyCommand, of guest: GuestDescription, logPath: String
    ) throws(SessionError) -> any StandbyGuest

    /// Starts the guest anew from its disks, where no process takes its state: the same machine as the one that `command` has
    /// wait, which is gone. Returns when it answers; it stands still until `run`, and has nothing to load. It lives on when the
    /// result goes away: end it with `kill`.
    ///
    /// - Parameter logPath: what it prints goes there; the file is begun anew.
    func boot(_ command: StandbyCommand, logPath: String) throws(SessionError) -> any StandbyGuest

    /// Takes up the process that an earlier run of the agent started and never let run, without what that run had put into it.
    func adopt(
        _ pid: Int32, _ command: StandbyCommand, of guest: GuestDescription, logPath: String
    ) throws(SessionError) -> any StandbyGuest

    /// Ends the process that an earlier run of the agent started and never let run; any other stays as it is.
    func endLeftover(_ pid: Int32, _ command: StandbyCommand)
}
