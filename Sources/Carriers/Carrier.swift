/// What brings one part of a guest to its standby, moment by moment: a session is a list of carriers, and a level will be which of
/// them are on.
///
/// Owns nothing. May call: Model. Upholds: carriers are attached in the order of their list and taken down in the other; one that
/// cannot be attached leaves none attached.

import Model

/// Which part of a guest it is, in the order in which they are attached.
package enum CarrierKind: Sendable, CaseIterable {
    case disks, memory, output
}

/// What is left of a first copy.
package enum Rest: Comparable {
    /// Little enough for a short pause.
    case little
    /// It is less after another round, which can follow at once.
    case much
    /// It becomes less by itself, with time.
    case coming
}

/// Waits for so many milliseconds at most for something to happen to the session, and handles it. Returns why, when protection
/// is over.
package typealias Look = (_ milliseconds: Int) throws(SessionError) -> String?

/// One part of a guest, for one session. Its calls are the moments of a session's life in their order; those in which it has
/// nothing to do it leaves out. All are made on the session's thread, some times for an epoch and never for a page or a frame.
package protocol Carrier: AnyObject {
    var kind: CarrierKind { get }
    /// How far its first copy is, 0 to 1.
    var progress: Double { get }

    /// Readies itself with the guest running, however long that takes. Returns why, when protection ended meanwhile.
    func prepare(_ look: Look) throws(SessionError) -> String?
    /// Begins, with the guest standing still.
    func attach() throws(SessionError)
    /// Copies what there is, with the guest running. Returns why, when protection ended meanwhile.
    func copy(_ look: Look) throws(SessionError) -> String?
    /// Copies what was written meanwhile, with the guest running; called until little is left of any carrier.
    func catchUp() throws(SessionError) -> Rest
    /// Here the epoch ends, with the guest standing still and its disks drained; with the first one, what was epoch 0.
    func cut(_ epoch: Epoch, isFirst: Bool) throws(SessionError)
    /// Hands on what it has of the epoch. The guest is about to run again.
    func ship(_ epoch: Epoch)
    /// The first checkpoint is taken, and the guest runs again.
    func endFirstCopy()
    /// The guest runs again: hands on what is left of the epoch, and adds to `timings` what it was. The epoch's end follows.
    func complete(_ epoch: Epoch, _ timings: inout EpochTimings) throws(SessionError)
    /// Takes out of the guest what it has there, with the guest standing still. Never fails: what is refused is logged. It may be
    /// called twice, and after calls that failed.
    func detach()
    /// Gives back what it has at this host, whether the guest is there or not.
    func close()
}

extension Carrier {
    package var progress: Double { 1 }
    package func prepare(_ look: Look) throws(SessionError) -> String? { nil }
    package func attach() throws(SessionError) {}
    package func copy(_ look: Look) throws(SessionError) -> String? { nil }
    package func catchUp() throws(SessionError) -> Rest { .little }
    package func cut(_ epoch: Epoch, isFirst: Bool) throws(SessionError) {}
    package func ship(_ epoch: Epoch) {}
    package func endFirstCopy() {}
    package func detach() {}
    package func close() {}
}
