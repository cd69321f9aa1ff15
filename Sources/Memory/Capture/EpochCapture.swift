import Glibc
import Hypervisor
import LinuxSystem
import Model

/// Finds what the guest wrote, copies it, and makes the guest stand still for a checkpoint: what protection and a forecast
/// do alike. Lives on one thread.
package final class EpochCapture {
    private let guest: any Guest
    private var memory: (any GuestMemory)?
    /// What the guest cannot be when this fails, such as `protected`.
    private let purpose: String
    /// Whether what is copied must be right, and not only as much as it would be.
    private let isExact: Bool

    /// What QEMU's disks do while memory is looked through.
    package enum Disks {
        /// Nothing: they are drained.
        case rest
        /// They read and write, and the guest runs.
        case work
        /// They end what they have begun, within the command that saves the devices; `rest` follows before anything counts.
        case drain
    }

    /// Takes a slab that is full, and gives the one to go on with.
    package typealias Exchange = (Slab) throws(SessionError) -> Slab

    /// A process that is killed loses its memory, which it never comes back from, some time before it counts as ended: the
    /// kernel takes seconds for a large one. In nanoseconds.
    private static let memoryRelease: UInt64 = 30_000_000_000

    package init(of guest: any Guest, _ memory: any GuestMemory, purpose: String, isExact: Bool) {
        self.guest = guest
        self.memory = memory
        self.purpose = purpose
        self.isExact = isExact
    }

    /// Whether a page that was protected while disks worked can still change unseen (I35).
    private var mindsPins: Bool { isExact && guest.mayPinMemory }

    /// Takes the protections out of the guest's memory; nothing else may follow.
    package func end() { memory = nil }

    /// For a `Poller`: readable once QEMU has ended.
    package var exitNumber: Int32 { memory?.exitNumber ?? -1 }
    /// The number of the thread that helps to copy.
    package var helperThread: Int32? { memory?.helperThread }

    /// Protects all of the memory, so that what is written from here on is found. Returns what was ever touched; the rest
    /// reads as zero.
    ///
    /// The protection leaves marks in the page table where there was nothing: what is there is looked up in the same walk
    /// that protects it, and the rest is protected afterwards.
    package func protectMemory() throws(SessionError) -> [TrackedRun] {
        let runs = try checking { (memory) throws(SystemError) in
            var runs: [TrackedRun] = []
            var buffer = RunBuffer(capacity: 16_384)
            var position = ScanPosition()
            var atEnd = false
            while !atEnd {
                buffer.removeAll()
                atEnd = try memory.scanPopulated(from: &position, into: &buffer)
                runs.append(contentsOf: buffer.runs)
            }
            try memory.protectRest()
            return runs
        }
        if mindsPins { try guest.drainDisks() }
        return runs
    }

    /// Copies the pages of the slab's runs.
    package func copy(_ slab: Slab) throws(SessionError) {
        try checking { (memory) throws(SystemError) in try memory.copy(slab.runs, from: 0, into: slab.pages) }
    }

    /// Finds what was written, protects it again and copies it behind what `slab` has already.
    ///
    /// Where disks may pin memory, a page that was protected while they worked is copied once they have ended what they had
    /// begun by then. If they never do, because QEMU gave the command up, what was found is in `slab` without its contents.
    package func copyWritten(
        while disks: Disks, into slab: inout Slab, _ timings: inout EpochTimings, _ exchange: Exchange
    ) throws(SessionError) {
        var position = ScanPosition()
        while true {
            let began = MonotonicClock.now()
            let part = slab.runs.beginPart()
            let filled = slab.runs.pages
            let atEnd = try checking { (memory) throws(SystemError) in
                try memory.scanWritten(from: &position, pagesMax: Slab.pagesMax, into: &slab.runs)
            }
            let scanned = MonotonicClock.now()
            timings.scan += scanned - began
            timings.dirtyPages += UInt64(slab.runs.pages - filled)
            guest.standstill.passed(.copy)
            guard try areDrained(disks) else { return }
            let drained = MonotonicClock.now()
            timings.stop += drained - scanned
            try copy(slab, from: part, at: filled)
            timings.copy += MonotonicClock.now() - drained
            guest.standstill.passed(.copy)
            if atEnd { return }
            slab = try exchange(slab)
            guest.standstill.passed(.room)
        }
    }

    /// Waits until what disks had begun is over, if it matters; false when that is not to be known.
    private func areDrained(_ disks: Disks) throws(SessionError) -> Bool {
        guard mindsPins else { return true }
        switch disks {
        case .rest: return true
        case .work:
            try guest.drainDisks()
            return true
        case .drain: return try guest.awaitDrained()
        }
    }

    /// Copies the pages of the slab's runs from `part` on, of which `filled` pages lie before.
    private func copy(_ slab: Slab, from part: Int, at filled: Int) throws(SessionError) {
        try checking { (memory) throws(SystemError) in
            try memory.copy(
                slab.runs, from: part,
                into: UnsafeMutableRawBufferPointer(rebasing: slab.pages[(filled * pageSize)...]))
        }
    }

    /// With the disks drained: copies what a command that was given up had found while they were not.
    private func copyFound(_ slab: Slab, _ timings: inout EpochTimings) throws(SessionError) {
        guard mindsPins, slab.runs.pages > 0 else { return }
        let began = MonotonicClock.now()
        try copy(slab)
        timings.copy += MonotonicClock.now() - began
        guest.standstill.passed(.copy)
    }

    /// Makes the guest stand still, its devices saved and what it wrote copied, until it is resumed: by one command where
    /// that may let it run on by itself afterwards.
    package func standStill(
        mayRunOn: Bool, into slab: inout Slab, _ timings: inout EpochTimings, _ exchange: Exchange
    ) throws(SessionError) {
        if mayRunOn, try guest.canSaveInOne(), try captureInOne(into: &slab, &timings, exchange) { return }
        try captureStepwise(into: &slab, &timings, exchange)
    }

    /// One command stops the guest, saves its devices and holds both. The scan begins when the vCPUs stand still, while QEMU
    /// drains disks and saves; what that still wrote is found by a second one. Pages that it may write unseen are copied once
    /// it saves, when it has drained. False when QEMU let the guest run on instead.
    private func captureInOne(
        into slab: inout Slab, _ timings: inout EpochTimings, _ exchange: Exchange
    ) throws(SessionError) -> Bool {
        let sentAt = MonotonicClock.now()
        try guest.stopAndSaveInOne()
        timings.stop += MonotonicClock.now() - sentAt
        try copyWritten(while: .drain, into: &slab, &timings, exchange)
        let copiedAt = MonotonicClock.now()
        let isSaved = try guest.awaitSaved()
        timings.deviceState += MonotonicClock.now() - copiedAt
        guard isSaved else { return false }
        try copyWritten(while: .rest, into: &slab, &timings, exchange)
        return true
    }

    /// Stop, then save while memory is copied.
    private func captureStepwise(
        into slab: inout Slab, _ timings: inout EpochTimings, _ exchange: Exchange
    ) throws(SessionError) {
        repeat {
            let sentAt = MonotonicClock.now()
            try guest.stopAndSave()
            timings.stop += MonotonicClock.now() - sentAt
            try copyFound(slab, &timings)
            try copyWritten(while: .rest, into: &slab, &timings, exchange)
            let copiedAt = MonotonicClock.now()
            try guest.finishSave()
            timings.deviceState += MonotonicClock.now() - copiedAt
            // If somebody let the guest run on meanwhile, this was no single state: stop it again and add what changed.
        } while try guest.wasResumedByOthers()
    }

    private func checking<Value>(
        _ body: (any GuestMemory) throws(SystemError) -> Value
    ) throws(SessionError) -> Value {
        guard let memory else { preconditionFailure("the capture has ended") }
        do throws(SystemError) {
            return try body(memory)
        } catch {
            if error.errno == ESRCH ? guest.hasEnded(within: Self.memoryRelease) : !guest.isAlive {
                throw guest.gone
            }
            throw SessionError(.system, "\(guest.vm) cannot be \(purpose): \(error)")
        }
    }
}
