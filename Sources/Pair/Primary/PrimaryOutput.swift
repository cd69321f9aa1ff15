import Messages
import Model
import Protocol
import Wire

/// What the thread that has the guest in hand is to do.
package enum PrimaryOrder: Sendable {
    case offer(SessionOffer)
    case detach
    /// An earlier run, or a switchover, may have stopped the guest.
    case resumeGuest
    case stopGuest
    case killGuest
    /// The next checkpoint is the last of this session: the guest goes on standing still.
    case sealLast
    /// The guest's QEMU is gone: another one is made, which stands still. `handle` with `startable`, or `failToStart` follows.
    case tryStart
    /// The guest's QEMU is gone, and the guest is started here again, from its disks. `handle` with `guestStarted` or
    /// `guestLost` follows.
    case startGuest
    /// The guest is gone from this host for good.
    case becomeStandby(LocalRecord)
    case end
}

package enum PrimaryOutput: Sendable {
    /// Output is kept back from here on: whoever seals the epoch did that while the guest stood still.
    case hold
    case release(through: Epoch)
    case releaseEverything
    case dropHeld
    case send(PrimaryMessage)
    case closeLink
    /// The standby has agreed: whoever has the guest in hand goes on with the first copy.
    case startCopy
    case order(PrimaryOrder)
    /// `learn` follows.
    case ask(RegisterQuestion)
    /// `handle` with `persisted`, or `failToPersist` follows.
    case persist(LocalRecord)
    /// `handle` with what the command says follows.
    case fence(NodeName, Nonce, reason: String)
    case stopFencing
    /// `hear` of its end follows; for the gate once it stands and a confirmed lease opened it.
    case attach(DialMachine.Part)
    /// `hear` of its end follows. All that is attached goes with `PrimaryOrder.detach`.
    case detach(DialMachine.Part)
    /// The server of that disk hears that the standby knows of its loss.
    case noted(DiskNoted)
    /// For this host's `LeaseMachine`, which says `mayRun`.
    case lease(LeaseMachine.Event)
    case report(SessionReport)
    /// The epoch is acknowledged, and its output has left: its costs are known but for those of the release.
    case account(EpochTimings)
}

/// What of an operator's wish cannot be followed, said at once; else what is to be done for it.
package enum PrimaryReply: Sendable {
    case refused(String)
    case done([PrimaryOutput])
}
