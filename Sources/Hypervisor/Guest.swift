/// What Romulus needs of a virtual machine that already runs, whoever runs it: the port that a driver fills. `StandbyGuest` is
/// that of one which waits for another host's guest.
///
/// Owns nothing. May call: LinuxSystem (descriptors, tracked memory), Model. A driver (QEMU's is the only one) owns the way
/// to its hypervisor and cleans up what it put there. Nothing above a driver speaks of a monitor's commands or events.

import LinuxSystem
import Logging
import Model

/// Finds running guests.
public protocol GuestSource: Sendable {
    /// Takes the guest in hand that `address` leads to (for QEMU: its monitor's socket).
    ///
    /// - Parameter elsewhere: asked when the guest cannot be protected as it runs: what else stands in the way, so that all of
    ///   it is told at once.
    func open(
        _ vm: VMName, at address: String, log: Logger, elsewhere: (GuestDescription) -> [String]
    ) throws(SessionError) -> any Guest
}

extension GuestSource {
    public func open(_ vm: VMName, at address: String, log: Logger) throws(SessionError) -> any Guest {
        try open(vm, at: address, log: log, elsewhere: { _ in [] })
    }
}

/// One running VM, driven by one thread at a time. Errors say `guestLost` once it is gone.
public protocol Guest: AnyObject {
    var vm: VMName { get }
    var description: GuestDescription { get }
    /// Its drives that are replicated, and in the same order what the standby is told of them.
    var drives: [GuestDisk] { get }
    var offeredDisks: [OfferedDisk] { get }
    var offeredNICs: [OfferedNIC] { get }
    var blocks: [RAMBlock] { get }
    /// Where the blocks that are tracked lie in the process.
    var trackedBlocks: [TrackedBlock] { get }

    // MARK: - The process

    var pid: Int32 { get }
    /// False once it is certain that the guest runs no more.
    var isAlive: Bool { get }
    /// Readable once its process has ended.
    var exitDescriptor: Int32 { get }
    /// Readable when there is news; -1 when there will be none.
    var pollDescriptor: Int32 { get }
    /// Ends it at once.
    func kill()
    /// The same in the way of `body`, when another host goes on with it.
    func end(by body: (borrowing PidDescriptor) -> Void)
    /// True as soon as it has ended, which is waited for for so many nanoseconds.
    func hasEnded(within timeout: UInt64) -> Bool
    /// The calling thread, what serves a checkpoint, `helper` and `encoder` come before the host's other work until the result
    /// goes; nil where that is not allowed.
    func raisePriority(and helper: Int32?, encoder: Int32?) -> EpochPriority?

    // MARK: - Memory

    /// Begins to follow what is written to its tracked memory, with a second thread for large copies where that pays.
    func followMemory(purpose: String, isHelped: Bool) throws(SessionError) -> any GuestMemory
    /// Whether its disks may write into memory unseen, with what they have begun to read when it is protected (I35).
    var mayPinMemory: Bool { get }
    /// Waits, with the guest running, until its disks have ended what they have begun by now.
    func drainDisks() throws(SessionError)

    // MARK: - A checkpoint

    /// Puts what checkpoints need into the hypervisor, and takes out what an earlier session left there.
    func prepare() throws(SessionError)
    func removeLeftovers() throws(SessionError)
    /// For how long it stands still because of us, and why: a driver tells it of each wait.
    var standstill: StandstillClock { get set }
    /// Stops the guest ahead of its next checkpoint.
    func holdStill(for cause: Standstill.Cause) throws(SessionError)
    var isHeldStill: Bool { get }
    /// Whether the last stop was ours: a guest that somebody else had paused is not ours to let run on.
    var stoppedByUs: Bool { get }
    /// Whether one command can make the next checkpoint, which may let the guest run on at its end.
    func canSaveInOne() throws(SessionError) -> Bool
    /// Stops it and begins to save its devices; returns when it stands still, with its disks perhaps not drained yet.
    func stopAndSaveInOne() throws(SessionError)
    /// Returns when the disks are drained, after `stopAndSaveInOne`. False when that is not to be known: `awaitSaved` follows
    /// in either case.
    func awaitDrained() throws(SessionError) -> Bool
    /// Returns when the devices are saved and the disks drained. False when the guest runs again instead.
    func awaitSaved() throws(SessionError) -> Bool
    /// As `stopAndSaveInOne`, by several commands: the disks are drained, and the guest stands still until `resume`.
    func stopAndSave() throws(SessionError)
    func finishSave() throws(SessionError)
    /// Somebody else let it run on since `stopAndSave`: what was captured is not one state.
    func wasResumedByOthers() throws(SessionError) -> Bool
    /// Begins to let it run on, where that takes two steps; `resume` returns when it runs.
    func release() throws(SessionError)
    func resume() throws(SessionError)
    /// The device state of the checkpoint, after `resume`.
    func takeDeviceState() throws(SessionError) -> [UInt8]
    /// Throws when what was captured is no checkpoint that the standby could load; `confirmMemory` likewise, of its memory.
    func confirmCheckpoint() throws(SessionError)
    func confirmMemory() throws(SessionError)
    /// After a checkpoint that failed half-way: the guest must not stay as it stands.
    func letRunOn()
    /// The next fault of a replicated disk of which it was heard, one for each disk at most. With the disks drained, it was heard
    /// of whatever failed before.
    func takeDiskFault() -> DiskFault?
    /// What drains disks fails with `diskHangs` beyond it; nil waits for as long as the hypervisor may need.
    var diskBound: DiskBound? { get set }

    // MARK: - What is attached

    /// Has every write to the disk go to the NBD server behind `descriptor` too, before the guest sees it complete. Call while
    /// the guest stands still.
    /// - Parameter copies: false where the server has what the disk holds.
    func mirror(_ disk: OfferedDisk, to descriptor: Int32, copies: Bool) throws(SessionError) -> any DiskTap
    /// Has the NBD server at that unix socket be the disk, in the place of its image, which stays open. No mirror works on it.
    /// Call while the guest stands still.
    func serve(_ disk: OfferedDisk, at socket: String) throws(SessionError) -> any ServedTap
    /// The disks that are served so, by whoever began that.
    func leftServed() throws(SessionError) -> [UInt16]
    /// Has the NIC's output come to us instead of the network.
    func tap(_ nic: OfferedNIC) throws(SessionError) -> any NICTap
    /// Lets the guest stand still, with its disks drained, for `body`.
    func whileStopped<Failure: Error>(
        for cause: Standstill.Cause, _ body: () throws(Failure) -> Void
    ) throws(Failure)
    /// Has the host write out what it gathered of the guest's images, with the guest running.
    func flushImages()

    // MARK: - Between sessions

    func isRunning() throws(SessionError) -> Bool
    /// Of one that is paused: somebody else had all of it sent away, to another host or into a file.
    func isMigratedAway() throws(SessionError) -> Bool
    /// Since it was started, in bytes.
    func writtenDiskBytes() throws(SessionError) -> UInt64
    /// What happened since the last look, without what our own commands caused.
    func takeNews() -> [GuestNews]
    /// Lets it run, or stand still, whoever said otherwise.
    func resumeAnyway()
    func stopAnyway()
    /// Takes out what `prepare` put in. The guest runs on.
    func close()

    // MARK: - Its agent

    /// A line to the agent that runs in it, not open yet. Throws where it has no port for one; why, as a sentence's end.
    func agentLine() throws(SessionError) -> any GuestAgentLine
    /// Whether somebody in the guest has the line's port open.
    func isAgentPortOpen(_ line: any GuestAgentLine) throws(SessionError) -> Bool
    /// Has it boot anew where it runs.
    func reset() throws(SessionError)
}

/// Something that happened to a guest by itself.
public enum GuestNews: Sendable, Equatable {
    /// It was shut down; why, in the hypervisor's word.
    case shutdown(String?)
    /// Somebody paused it, or let it run on.
    case paused, resumed
    /// It was reset.
    case reset
    /// It did not feed its watchdog for too long; what the hypervisor does about that, in its word (WatchdogAction of QEMU's
    /// qapi/run-state.json).
    case hung(String)
    /// Somebody in it opened or closed a port that leads out of it.
    case portChanged(String, isOpen: Bool)
    /// One of its devices is gone.
    case deviceRemoved
    /// A mirror is over; why, as one sentence.
    case mirrorFailed(String)
}

extension GuestNews {
    /// Whether a guest that was shut down for this reason is to stay down: it was not, when its kernel panicked (`guest-panic` of
    /// QEMU's ShutdownCause, qapi/run-state.json).
    public static func isWanted(shutdown reason: String?) -> Bool { reason != "guest-panic" }
}

/// A disk whose writes come to us too.
public protocol DiskTap: AnyObject {
    /// How much is copied, 0 to 1; 1 once only new writes travel. Throws when it is over.
    func progress() throws(SessionError) -> Double
    /// While it is on, the hypervisor itself keeps the server's end of the connection open, `descriptor`: should this process
    /// end, the guest's writes wait until whoever comes after it takes the mirror out, and are not done without us.
    func hold(_ descriptor: Int32) throws(SessionError)
    /// Takes that back. Never fails: what is refused goes with the mirror.
    func letGo()
    /// Call while the guest stands still.
    func remove() throws(SessionError)
}

/// A disk that a server is in the place of.
public protocol ServedTap: AnyObject {
    /// Its image is the disk again, and what lies there by now where that rejoined. Call while the guest stands still.
    /// - Parameter isWhole: what lies there has all that was written.
    func remove(isWhole: Bool) throws(SessionError)
}

/// A NIC whose output comes to us, and is let out by us.
public protocol NICTap: AnyObject {
    /// Where the guest's frames are read, not blocking.
    var heldDescriptor: Int32 { get }
    /// Frames written here leave.
    var releaseDescriptor: Int32 { get }
    /// Each read and each write is one frame, behind a virtio-net header of 12 bytes. Else there is a be32 length before each
    /// frame, in a stream.
    var isDevice: Bool { get }
    /// Call while the guest stands still, after what may leave has left.
    func remove() throws(SessionError)
}
