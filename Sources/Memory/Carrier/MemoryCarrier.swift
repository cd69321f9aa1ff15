import Carriers
import Hypervisor
import LinuxSystem
import Model
import Shipping
import Wire

/// A guest's memory and the state of its devices, which are one checkpoint only together. Lives on the session's thread.
///
/// The pause is made by its capture: the command that stops the guest saves its devices too, and memory is looked through while
/// that drains the disks. No other carrier stops a guest, so what it does around the pause is no moment of all carriers, and the
/// session calls it beside them: `approach`, `standStill`, `confirm`.
package final class MemoryCarrier: Carrier {
    /// What it tells the session.
    package struct Hooks {
        /// It waits for the link to take a slab.
        package var waits: () -> Void
        /// Takes one sentence for the operator.
        package var tell: (String) -> Void
        /// The first copy looked at all of the memory: pages that were sent, and pages with contents that the standby held.
        package var copied: (_ sent: Int, _ present: Int) -> Void

        package init(
            waits: @escaping () -> Void, tell: @escaping (String) -> Void, copied: @escaping (Int, Int) -> Void
        ) {
            self.waits = waits
            self.tell = tell
            self.copied = copied
        }
    }

    /// For the test bed only: what goes wrong.
    package struct Faults {
        /// Disks count as if they could not write into memory unseen.
        package var forgetsPins = false
        /// A page of every epoch is not sent.
        package var losesPages = false
        /// The last state names a device that no QEMU has.
        package var spoilsLastState = false
        /// So does every one.
        package var spoilsStates = false

        package init() {}
    }

    package let kind = CarrierKind.memory
    package internal(set) var progress = 0.0
    let guest: any Guest
    let capture: EpochCapture
    let shipper: Shipper
    let verification: MemoryVerification
    let session: SessionID
    /// What the standby answers about the memory that it has from before; nil where it has none.
    let base: Answers<PageDigests, [UInt8]>?
    let hooks: Hooks
    private let faults: Faults
    private var precopying = PrecopyChoice()
    /// Rounds of the first copy, and how many pages the last one found.
    private var rounds = (count: 0, pages: UInt64.max)
    /// What the pause fills, from `approach` to `ship`.
    private var slab: Slab?
    /// The epoch at whose end the guest stands still is the last one.
    private var isLast = false

    /// Its memory is followed from here on; the pool of `shipper` gets the slabs.
    package init(
        of guest: any Guest, for session: SessionID, through shipper: Shipper, base: Answers<PageDigests, [UInt8]>?,
        verification: MemoryVerification, _ hooks: Hooks, _ faults: Faults = Faults()
    ) throws(SessionError) {
        self.guest = guest
        self.session = session
        self.shipper = shipper
        self.base = base
        self.verification = verification
        self.hooks = hooks
        self.faults = faults
        capture = EpochCapture(
            of: guest, try guest.followMemory(purpose: "protected", isHelped: true), purpose: "protected",
            isExact: !faults.forgetsPins)
        do throws(SystemError) {
            for _ in 0..<Slab.count { shipper.pool.push(try Slab()) }
        } catch {
            throw SessionError(.system, "\(guest.vm) cannot be protected: \(error)")
        }
    }

    /// For a `Poller`: readable once QEMU has ended.
    package var exitNumber: Int32 { capture.exitNumber }
    /// The number of the thread that helps to copy.
    package var helperThread: Int32? { capture.helperThread }

    // MARK: - The first copy

    package func catchUp() throws(SessionError) -> Rest {
        let pages = try copyEarly(of: .firstCopy)
        let before = rounds.pages
        rounds = (rounds.count + 1, pages)
        progress = 1
        let isLittle =
            pages < UInt64(Slab.pagesMax / 4) || (pages > before / 2 && rounds.count > 3) || rounds.count > 30
        return isLittle ? .little : .much
    }

    // MARK: - An epoch

    /// The epoch's end comes, and the guest runs still.
    ///
    /// - Parameter copiesEarly: whether what was written so far may be copied now: what is written again before the pause travels
    ///   twice.
    package func approach(
        _ epoch: Epoch, copiesEarly: Bool, _ timings: inout EpochTimings
    ) throws(SessionError) {
        try mend(with: epoch)
        if copiesEarly, precopying.isWorthwhile() { timings.precopiedPages = try copyEarly(of: epoch) }
        // Waiting for a slow link to take slabs is done while the guest runs.
        slab = try takeSlab()
    }

    /// Makes the guest stand still, its devices saved and what it wrote copied, until it is resumed.
    ///
    /// - Parameter mayRunOn: false for the last epoch, after which it is not.
    package func standStill(
        mayRunOn: Bool, in epoch: Epoch, _ timings: inout EpochTimings
    ) throws(SessionError) {
        guard var filled = slab.take() else { preconditionFailure("nobody approached the end of epoch \(epoch)") }
        isLast = !mayRunOn
        try capture.standStill(mayRunOn: mayRunOn, into: &filled, &timings) { (full) throws(SessionError) in
            send(full, of: epoch)
            return try takeSlabAtOnce()
        }
        slab = filled
    }

    package func ship(_ epoch: Epoch) {
        if let slab = slab.take() { send(slab, of: epoch) }
    }

    package func complete(_ epoch: Epoch, _ timings: inout EpochTimings) throws(SessionError) {
        var deviceState = try guest.takeDeviceState()
        timings.deviceStateBytes = UInt64(deviceState.count)
        if faults.spoilsStates || (isLast && faults.spoilsLastState) { deviceState[20] ^= 0xff }
        shipper.push(.deviceState(epoch, deviceState))
        try guest.confirmCheckpoint()
        precopying.record(precopied: timings.precopiedPages, left: timings.dirtyPages)
        timings.dirtyPages += timings.precopiedPages
    }

    /// The end of the epoch is queued, and all its pages are noted. Throws when its memory is another than the standby's.
    package func confirm(_ epoch: Epoch) throws(SessionError) {
        askToVerify(epoch)
        try guest.confirmMemory()
    }

    package func close() {
        shipper.pool.close()
        capture.end()
    }

    // MARK: - Slabs

    /// Copies what was written so far while the guest runs on. Returns how many pages that were.
    private func copyEarly(of epoch: Epoch) throws(SessionError) -> UInt64 {
        var slab = try takeSlab()
        var timings = EpochTimings()
        try capture.copyWritten(while: .work, into: &slab, &timings) { (full) throws(SessionError) in
            send(full, of: epoch)
            return try takeSlab()
        }
        send(slab, of: epoch)
        return timings.dirtyPages
    }

    private func send(_ slab: Slab, of epoch: Epoch) {
        verification.note(slab.runs.runs)
        if epoch > .firstCopy, faults.losesPages { slab.dropOnePage() }
        shipper.push(.pages(epoch, slab))
    }

    func takeSlab() throws(SessionError) -> Slab {
        while true {
            if let slab = try popSlab() { return slab }
        }
    }

    /// Looks meanwhile; nil when protection ended, for that reason.
    func takeSlab(_ ended: inout String?, _ look: Look) throws(SessionError) -> Slab? {
        while ended == nil {
            if let slab = try popSlab() { return slab }
            ended = try look(0)
        }
        return nil
    }

    private func popSlab() throws(SessionError) -> Slab? {
        hooks.waits()
        if let slab = shipper.pool.pop(milliseconds: 20) { return slab }
        if shipper.pool.isClosed { throw SessionError(.system, "the session is being closed") }
        return nil
    }

    /// A guest that stands still does not wait for the link to take slabs: it gets another one, up to a bound.
    private func takeSlabAtOnce() throws(SessionError) -> Slab {
        if let slab = shipper.pool.pop(milliseconds: 0) ?? Slab.makeSpare() { return slab }
        return try takeSlab()
    }
}
