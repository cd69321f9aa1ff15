/// Whose turn it is when several guests are to be started at this host from their disks.
public protocol StartTurn: Sendable {
    /// Blocks until those are started that come before this one, or `isOver` says that it is not to be started any more.
    /// `tell` is given a sentence when it has to wait.
    func wait(until isOver: () -> Bool, tell: (String) -> Void)
    /// It was started, or could not be.
    func end(hasStarted: Bool)
}
