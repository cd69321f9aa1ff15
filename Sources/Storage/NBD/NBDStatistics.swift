import Synchronization

/// What an `NBDServer` has done so far. Sizes in bytes.
public struct NBDStatistics: Sendable, Hashable {
    /// Connections that are open now.
    public var connections = 0
    public var reads = 0
    public var bytesRead = 0
    public var writes = 0
    public var bytesWritten = 0
    /// Write-zeroes and trim requests.
    public var zeroes = 0
    public var flushes = 0
    /// Requests that were answered with an error.
    public var failures = 0
    /// Conversations that ended because the other side broke the protocol.
    public var broken = 0
    /// The last error of the sink or of a conversation, as one sentence.
    public var lastFailure: String?
}

/// The counters behind `NBDStatistics`; bumped by the connection threads.
final class NBDCounters: Sendable {
    let reads = Atomic(0)
    let bytesRead = Atomic(0)
    let writes = Atomic(0)
    let bytesWritten = Atomic(0)
    let zeroes = Atomic(0)
    let flushes = Atomic(0)
    let failures = Atomic(0)
    let broken = Atomic(0)
    let lastFailure = Mutex<String?>(nil)

    /// Asks the sink for something: the error number for the reply, 0 when it did it.
    func outcome(of work: () throws(StorageError) -> Void) -> UInt32 {
        do {
            try work()
            return NBD.Failure.none
        } catch {
            return note(error)
        }
    }

    /// Counts an error of the sink's, and returns its number for the reply.
    func note(_ error: StorageError) -> UInt32 {
        failures.add(1, ordering: .relaxed)
        lastFailure.withLock { $0 = error.description }
        if case .outOfSpace = error { return NBD.Failure.noSpace }
        return NBD.Failure.io
    }

    func snapshot(connections: Int) -> NBDStatistics {
        NBDStatistics(
            connections: connections,
            reads: reads.load(ordering: .relaxed), bytesRead: bytesRead.load(ordering: .relaxed),
            writes: writes.load(ordering: .relaxed), bytesWritten: bytesWritten.load(ordering: .relaxed),
            zeroes: zeroes.load(ordering: .relaxed), flushes: flushes.load(ordering: .relaxed),
            failures: failures.load(ordering: .relaxed), broken: broken.load(ordering: .relaxed),
            lastFailure: lastFailure.withLock { $0 })
    }
}
