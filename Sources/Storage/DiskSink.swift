/// What has to come true before a request is done. The sink says what its number means.
public struct DiskTicket: Sendable, Hashable {
    /// Nothing: the request is done.
    public static let done = DiskTicket(0)

    public let number: UInt64

    public init(_ number: UInt64) { self.number = number }
}

/// Where the guest's disk requests go that QEMU sends to an `NBDServer`.
///
/// All calls come from the server's connection threads, several at once when there are several connections; they may
/// block (that is the back-pressure: QEMU, and with it the guest's write, waits). Ranges were checked against the
/// export's size, and lengths are at least 1. The reply to QEMU leaves after the call has returned and its ticket has
/// come true, so when QEMU has seen a write complete, the sink has it. Requests that follow are carried out meanwhile.
/// An error is answered to QEMU as ENOSPC (`outOfSpace`) or EIO (all others).
public protocol DiskSink: AnyObject, Sendable {
    /// `data` is valid during the call only, and at most 32 MiB. `fua`: must be as durable as after a flush.
    func write(disk: UInt16, offset: UInt64, data: UnsafeRawBufferPointer, fua: Bool) throws(StorageError) -> DiskTicket
    /// The range reads as zeros from now on. `mayUnmap`: its space may be given back. Discarded ranges come this way too.
    /// `length` is at most 4 GiB - 1.
    func zero(
        disk: UInt16, offset: UInt64, length: UInt64, mayUnmap: Bool, fua: Bool
    ) throws(StorageError) -> DiskTicket
    /// Covers every write that was answered on any connection before the flush was sent.
    func flush(disk: UInt16) throws(StorageError) -> DiskTicket
    /// Fills `into` (at most 32 MiB) with what the disk holds, every write answered so far included.
    func read(disk: UInt16, offset: UInt64, into: UnsafeMutableRawBufferPointer) throws(StorageError)
    /// Has `replies` answer that request once the ticket has come true, or never will: now, or later on any thread. Called once for
    /// each ticket that is not `done`, in the order in which the connection got them.
    func answer(_ ticket: DiskTicket, _ cookie: UInt64, to replies: any LaterReplies)
}

/// Who answers requests that are done some time after the sink has them.
public protocol LaterReplies: AnyObject, Sendable {
    /// The request of that cookie is done, or is not and never will be. Returns at once.
    func settle(_ cookie: UInt64, _ failure: StorageError?)
}
