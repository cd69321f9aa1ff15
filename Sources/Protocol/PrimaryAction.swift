import Model

/// What the primary's shell has to do, in the order of the list; a crash between any two of them is allowed for. Actions on
/// output take effect before `handle` is called again; everything else may be carried out elsewhere, and what came
/// of it comes back as an event.
public enum PrimaryAction: Sendable, Equatable {
    /// From here on, keep output back. On `sealed` the capture already switched the gates while the guest stood
    /// still. Where no gate is attached (a guest that was running alone), none needs to be: it is asked for only to
    /// make sure.
    case hold
    /// At a level whose output is not held: put the kernel's gate before it, open by a lease that is confirmed; `guarded`
    /// follows.
    case guardOutput
    /// Let the output of all epochs up to and including this one leave, in order, and tell the standby.
    case release(through: Epoch)
    /// Let everything leave, held or not, from now on.
    case releaseEverything
    /// Forget what is held, and let nothing leave any more.
    case dropHeld
    /// Ask the arbiter, once; `answered` with the same nonce follows in any case. A late answer to a request that
    /// was already answered by `unknown` is dropped.
    case compareAndSet(expecting: Register?, to: Register, nonce: Nonce)
    /// Read the register from the arbiter (linearizable); `registerRead` or `registerUnreadable` follows. When one
    /// reading follows another, wait first: 50 ms, doubling to 1 s. At most one question to the arbiter is under
    /// way; a new one replaces it.
    case readRegister
    /// Write the record so that it survives a power cut, together with which QEMU process is meant (pid, start
    /// time, lineage), in the order of these actions; then `persisted(record.seen)`. A failure to write is no
    /// `persisted`: tell the operator.
    case persist(LocalRecord)
    /// Open a link to the node and make the offer; `accepted`, `refused` or `standbyLost` follows.
    case offer(SessionOffer, to: NodeName)
    /// Attach to the guest and begin the first copy.
    case startCopy
    /// Tell the standby the register, so that it can ask for it later without reading it first.
    case tellRegister(Register)
    /// Stop the guest for good at the end of this epoch and seal that epoch: `sealedLast` follows.
    case sealLast
    /// Let the guest run on, if it was this agent, or an earlier run of it, that stopped it.
    case resumeGuest
    /// Stop the guest and leave it so.
    case stopGuest
    /// Tell the standby to take over from its last committed checkpoint, under this term at least. Everything that
    /// was sealed whole is sent first. `guestStands` for a switchover: the guest is here and stands still, and can be
    /// given back. Start the clock for `handOverOverdue` then.
    case askTakeOver(Term, guestStands: Bool)
    /// As for a guest that is dead here and cannot be started here, for this reason, after so many starts: the standby starts it.
    case askToStart(Term, starts: Int, because: String)
    /// Tell the standby that it is not needed any more; `letGo` follows when it answers.
    case dismissStandby
    /// Make sure that the node is off, by the command that is configured for it; `peerFenced`, `fencingFailed` with
    /// this nonce or `peerHeard` follows. The command is run after this action and only while nothing is heard of the
    /// node. When one asking follows another, wait first.
    case fencePeer(NodeName, Nonce)
    /// That is not needed any more: a command that was not started yet is not started, and no answer counts.
    case stopFencing
    /// Close the session's link, if there is one, after what was sent on it before; frames that still come on it
    /// may be given to the machine or not.
    case closeLink
    /// Take our parts out of QEMU and leave the guest running.
    case detach
    /// Kill the guest's QEMU; `guestLost` when the process is proven gone (I15).
    case killGuest
    /// The guest's QEMU died here, in a pair: make another one, which stands still and lets nothing of the guest run, so that it is
    /// known whether it can be started here before anything is asked for. `startable` or `unstartable` follows.
    case tryStart
    /// The guest's QEMU died here, under a register that this host won since: start the guest from its disks, once
    /// `LeaseMachine` lets it (`restarting`, at this term); `guestStarted` or `guestLost` follows.
    case startGuest(Term)
    /// The guest is gone from this host: go on with a `StandbyMachine` that has this record. A link that
    /// `askTakeOver` was sent on stays open until the standby closes it.
    case becomeStandby(LocalRecord)
    /// Drop what is held and forget this machine. Whatever machine comes next for the VM begins with the record that
    /// was last to be written.
    case end
    /// The switchover that was asked for does not come: nothing was done for it.
    case refuseSwitchover(String)
    /// One sentence for the operator and the journal.
    case report(String)
}
