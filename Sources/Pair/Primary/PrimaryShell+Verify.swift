import Memory
import Model

extension PrimaryShell {
    /// Compares all of the guest's memory with its replica's at committed epochs. Pages that differ are sent again. Call it on a
    /// thread of its own, which becomes one of low priority.
    ///
    /// - Parameter goesOn: called now and then with what is known so far; false ends it.
    /// - Throws: `refused` where it is not possible now, else why it ended.
    public func verifyMemory(
        _ goesOn: (MemoryVerdict) -> Bool
    ) throws(SessionError) -> MemoryVerdict {
        try ReplicaCheck(self).run(goesOn)
    }
}
