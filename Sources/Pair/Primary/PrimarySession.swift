import Codec
import Disk
import GuestNetwork
import Hypervisor
import LinuxSystem
import Memory
import Model
import Output
import Protocol
import Shipping
import Storage
import Synchronization
import Transport
import Wire

/// Everything that a protected guest has attached to it, and the loop that checkpoints it. Lives on the session's
/// thread; taking it down leaves QEMU as it was.
final class PrimarySession {
    let shell: PrimaryShell
    let guest: any Guest
    let sender: FrameSender
    let pool = BlockingQueue<Slab>(capacity: Slab.count)
    let shipper: Shipper
    let capture: EpochCapture
    var outputs: [NICOutput] = []
    var gates: [OutputGate] { outputs.map(\.gate) }
    var mirrors: [DiskMirror] = []
    private var sealed = Epoch.firstCopy
    private let pacer: EpochPacer
    private var precopying = PrecopyChoice()
    let wakefulness: Wakefulness
    /// When the guest ran again after the last checkpoint; 0 before the first.
    private var ranSince: UInt64 = 0
    var priority: EpochPriority?
    /// When a guest that somebody else paused was looked at last, and the time between two looks, in nanoseconds.
    private var pauseSeenAt: UInt64 = 0
    private static let pausePeriod: UInt64 = 500_000_000
    /// Somebody else paused the guest.
    private var guestPaused = false {
        didSet { shell.state.withLock { $0.duty.isGuestPaused = guestPaused } }
    }
    /// The guest is kept standing because too much of its output waits for the standby.
    var waitsForStandby = false
    /// The epoch that runs is longer than it was to be, because the link is behind.
    private var isLinkFull = false
    /// The guest stands still for a switchover, and all of it is sealed.
    private var isLastSealed = false
    /// The disks whose faults were told of.
    var toldFaults: Set<String> = []

    var options: PrimaryOptions { shell.options }
    /// A QEMU that dies fails in many ways before it counts as ended; whatever failed, it is given this time, in nanoseconds,
    /// lest its standby be sent away instead of going on.
    static let lastBreath: UInt64 = 200_000_000

    /// The link has something to do for so long while a checkpoint is taken and its encoding begins, in nanoseconds.
    private static let backlogMax: UInt64 = 8_000_000

    init(shell: PrimaryShell, guest: any Guest, link: Link) throws(SessionError) {
        self.shell = shell
        self.guest = guest
        sender = FrameSender(link: link)
        wakefulness = Wakefulness(shell.options.sleep)
        guest.standstill.report = { [shell] in shell.report(.stoodStill($0)) }
        capture = EpochCapture(
            of: guest, try guest.followMemory(purpose: "protected", isHelped: true), purpose: "protected",
            isExact: !shell.options.planted.contains(.forgetPins))
        do throws(SystemError) {
            pacer = try EpochPacer(shell, pid: guest.pid)
            for _ in 0..<Slab.count { pool.push(try Slab()) }
            shipper = try Shipper(
                vm: shell.options.vm,
                references: try PageReferences(
                    guest.blocks, pagesMax: shell.options.referenceMebibytes.map { $0 << 20 / pageSize }),
                sender: sender, pool: pool,
                sealed: { [shell] in shell.expectAcknowledgement(of: $0, digest: $1, timings: $2, waited: $3) },
                failed: { [shell] error in shell.tell { $0.fail(error) } },
                linkRate: { [shell, sender] in
                    let seen = shell.state.withLock { $0.duty.connection.ledger.linkBytesPerSecond }
                    return sender.capBytesPerSecond.map { seen > 0 ? min($0, seen) : $0 } ?? seen
                })
        } catch {
            throw SessionError(.system, "\(shell.options.vm) cannot be protected: \(error)")
        }
    }

    /// Returns why protection ended when that was in order; throws otherwise. The guest runs (or is gone) either way.
    func run() throws(SessionError) -> String {
        do throws(SessionError) {
            return try protect()
        } catch {
            // Wherever the death of QEMU was noticed, the standby is told.
            let wait = error.code == .peerLost ? 0 : Self.lastBreath
            guard error.code == .guestLost || guest.hasEnded(within: wait) else {
                // A lost standby was decided about already: the guest runs alone by now, and may be protected again.
                if error.code != .peerLost { giveUp(error) }
                throw error
            }
            for case .shutdown(let reason) in guest.takeNews() { return guestEnded(Self.shutDown(reason)) }
            return try guestGone()
        }
    }

    private func protect() throws(SessionError) -> String {
        shell.state.withLock { state in
            state.duty.phase = .syncing
            state.parts.sender = sender
            state.parts.wakefulness = wakefulness
            sender.cap(megabits: state.duty.tuning.linkCapMegabits)
        }
        try guest.prepare()
        if let ended = try prepareMirrors() { return ended }
        guest.flushImages()
        try guest.whileStopped(for: .attach) { () throws(SessionError) in
            for mirror in mirrors { try mirror.start() }
        }
        for nic in guest.offeredNICs {
            outputs.append(try NICOutput(nic, of: guest, firstHeld: { [shell] in shell.wake.signal() }))
        }
        let gates = gates
        shell.state.withLock { $0.gates = gates }

        if let ended = try FirstCopy(self, mirrors).run() { return ended }
        try seal(first: true)
        shell.report(.event(.state, "checkpoint 1 is sealed: output is held by epoch from here on"))
        do throws(SessionError) {
            return try checkpointUntilTheEnd()
        } catch {
            if error.code == .diskHangs { try meet(DiskFault(disk: nil, .hang, reason: error.message)) }
            throw error
        }
    }

    /// Learns what the standby's images hold, which takes as long as reading them: the guest runs. Returns why, when protection
    /// ended meanwhile.
    private func prepareMirrors() throws(SessionError) -> String? {
        let began = MonotonicClock.now()
        let answers = shell.state.withLock { $0.parts.disks }
        for disk in guest.offeredDisks {
            let mirror = DiskMirror(
                disk, of: guest, answers: answers, sender: sender, log: shell.log, loses: lostWrites)
            mirrors.append(mirror)
            if let ended = try mirror.learn(look: { () throws(SessionError) in try look(wait: 20) }) { return ended }
        }
        if !mirrors.isEmpty {
            shell.report(
                .event(
                    .state,
                    "the standby told in \((MonotonicClock.now() - began) / 1_000_000) ms what its images of"
                        + " \(mirrors.count) disks hold"))
        }
        return nil
    }

    /// For the test bed only: which of a disk's writes are lost.
    private var lostWrites: (@Sendable (Int) -> Bool)? {
        guard options.planted.contains(.skipDiskWrite) else { return nil }
        return { [shell] writes in writes % 16 == 0 && shell.status.phase == .protected }
    }

    // MARK: - Epochs

    /// Copies what was written so far while the guest runs on. Returns how many pages that were.
    func copyEarly(of epoch: Epoch) throws(SessionError) -> UInt64 {
        var slab = try takeSlab()
        var timings = EpochTimings()
        try capture.copyWritten(while: .work, into: &slab, &timings) { (full) throws(SessionError) in
            try exchange(full, epoch)
        }
        ship(slab, of: epoch)
        return timings.dirtyPages
    }

    private func exchange(
        _ full: Slab, _ epoch: Epoch, standsStill: Bool = false
    ) throws(SessionError) -> Slab {
        ship(full, of: epoch)
        return standsStill ? try takeSlabAtOnce() : try takeSlab()
    }

    private func ship(_ slab: Slab, of epoch: Epoch) {
        shell.verification.note(slab.runs.runs)
        if epoch > .firstCopy, options.planted.contains(.skipDirtyPage) { slab.dropOnePage() }
        shipper.push(.pages(epoch, slab))
    }

    private func checkpointUntilTheEnd() throws(SessionError) -> String {
        if options.isRealTime {
            priority = guest.raisePriority(and: capture.helperThread, encoder: shipper.threadID)
        }
        while true {
            while true {
                let pace = pacer.follow()
                let due = min(pacer.due(firstHeld: firstHeldAt), verificationDue(ranSince: ranSince))
                let now = MonotonicClock.now()
                let inFlight = sealed.number - pace.acknowledged.number
                // Behind what is still to be sent, one more checkpoint would wait: later it holds what is newer.
                // Nothing more comes of a guest that stands still: once there is room it is time.
                let isDue = now >= due || pace.sealsLast || (waitsForStandby && guest.isHeldStill)
                let isLinkBehind =
                    isDue && inFlight > 0
                    && sender.backlog(linkBytesPerSecond: pace.linkBytesPerSecond) > Self.backlogMax
                let room = inFlight < pace.inFlightMax && !isLinkBehind && !isLastSealed
                if isDue, room, !guestPaused { break }
                isLinkFull = isLinkFull || isLinkBehind
                if !room, !guest.isHeldStill, !guestPaused, heldBytes > options.heldBytesMax {
                    shell.report(
                        .event(.state, "\(heldBytes) bytes of output are held: the guest waits for the standby"))
                    sender.isStopping = true
                    defer { sender.isStopping = false }
                    try guest.holdStill(for: .output)
                    waitsForStandby = guest.isHeldStill
                }
                wakefulness.expect(room && !guestPaused && due < now + Wakefulness.foresight)
                // An acknowledgement wakes us when there is no room, the clock or held output when there is.
                let wait = room && now < due ? due - now : isLinkBehind ? Self.backlogMax / 4 : 20_000_000
                if let ended = try look(waitNanoseconds: wait) { return ended }
            }
            isLastSealed = shell.state.withLock { state in
                defer { state.orders.sealLast = false }
                return state.orders.sealLast
            }
            try seal(first: false)
        }
    }

    /// When the first output of the epoch that runs began to wait.
    private var firstHeldAt: UInt64? { outputs.lazy.compactMap(\.gate.firstHeldAt).min() }

    private var heldBytes: Int { outputs.reduce(0) { $0 + $1.gate.held.bytes } }

    /// One checkpoint: the guest stands still while its dirty memory and its device state are copied.
    private func seal(first: Bool) throws(SessionError) {
        let epoch = sealed.next
        wakefulness.begin(epoch)
        boundDisks()
        var timings = EpochTimings()
        timings.epoch = epoch
        try verificationBegins(epoch)
        // What is written again before the pause would travel twice.
        if !isLinkFull, precopying.isWorthwhile() { timings.precopiedPages = try copyEarly(of: epoch) }
        isLinkFull = false
        // Waiting for a slow link to take slabs is done while the guest runs.
        var slab = try takeSlab()
        sender.isStopping = true
        defer { sender.isStopping = false }
        let stopAt = MonotonicClock.now()
        timings.run = ranSince == 0 ? 0 : stopAt - ranSince
        try capture.standStill(mayRunOn: !isLastSealed, into: &slab, &timings) { (full) throws(SessionError) in
            try exchange(full, epoch, standsStill: true)
        }
        try meetDiskFaults()
        let savedAt = MonotonicClock.now()

        let outputs = try cut(epoch, first: first)
        if isLastSealed { guest.standstill.become(.switchover) } else { try guest.release() }
        ship(slab, of: epoch)
        for output in outputs where output.frames > 0 { shipper.push(.output(epoch, output)) }
        if !isLastSealed { try guest.resume() }
        if !guest.stoppedByUs, !guestPaused {
            guestPaused = true
            shell.report(.event(.qemu, "someone else paused the guest: no checkpoints until it runs again"))
        }
        waitsForStandby = false
        let runsSince = MonotonicClock.now()
        timings.resume = runsSince - savedAt
        timings.pause = runsSince - stopAt
        timings.resumedAt = runsSince
        ranSince = runsSince
        sender.isStopping = false

        // From here on the guest runs again. What the shipper can begin with goes to it first.
        if first {
            for mirror in mirrors { mirror.endFirstCopy() }
            shipper.push(.synced)
        }
        var deviceState = try guest.takeDeviceState()
        timings.deviceStateBytes = UInt64(deviceState.count)
        if isLastSealed, options.planted.contains(.spoilLastState) { deviceState[20] ^= 0xff }
        shipper.push(.deviceState(epoch, deviceState))
        try guest.confirmCheckpoint()
        precopying.record(precopied: timings.precopiedPages, left: timings.dirtyPages)
        timings.dirtyPages += timings.precopiedPages
        timings.heldFrames = UInt64(outputs.reduce(0) { $0 + $1.frames })
        timings.heldBytes = UInt64(outputs.reduce(0) { $0 + $1.bytes.count })
        timings.diskBytes = mirrors.reduce(0) { $0 + $1.takeShippedBytes() }
        shipper.push(.end(epoch, timings))
        askToVerify(epoch)
        // What follows is no longer waited for.
        pacer.resumed(at: runsSince, timings)
        try guest.confirmMemory()
        if options.planted.contains(.releaseBeforeAcknowledgement) {
            for gate in gates { _ = gate.release(through: epoch) }
        }
    }

    /// The guest stands still and its disks are drained: this is where the epoch ends.
    private func cut(_ epoch: Epoch, first: Bool) throws(SessionError) -> [HeldOutput] {
        sender.advance(to: epoch.next)
        var outputs: [HeldOutput] = []
        do throws(GateError) {
            for gate in gates {
                if first { try gate.startHolding(next: epoch.next) } else { outputs.append(try gate.cut(epoch)) }
            }
        } catch {
            throw SessionError(.qemu, "\(options.vm) cannot be checkpointed: \(error)")
        }
        shell.state.withLock { state in
            sealed = epoch
            shell.perform(state.duty.seal(epoch, isLast: isLastSealed), &state)
        }
        return outputs
    }

    func takeSlab() throws(SessionError) -> Slab {
        while true {
            shell.expectBack(after: 0)
            if let slab = pool.pop(milliseconds: 20) { return slab }
            if pool.isClosed { throw SessionError(.system, "the session is being closed") }
        }
    }

    /// A guest that stands still does not wait for the link to take slabs: it gets another one, up to a bound.
    private func takeSlabAtOnce() throws(SessionError) -> Slab {
        if let slab = pool.pop(milliseconds: 0) ?? Slab.makeSpare() { return slab }
        return try takeSlab()
    }

    // MARK: - Looking around between epochs

    func look(wait milliseconds: Int) throws(SessionError) -> String? {
        try look(waitNanoseconds: UInt64(milliseconds) * 1_000_000)
    }

    /// Waits for something to happen, and handles it. Returns why when protection is over.
    func look(waitNanoseconds: UInt64 = 0) throws(SessionError) -> String? {
        shell.expectBack(after: waitNanoseconds)
        waitReadable(
            [guest.pollDescriptor, capture.exitNumber, shell.wake.number, pacer.wakeNumber],
            nanoseconds: waitNanoseconds)
        _ = shell.wake.take()
        pacer.takeWake()
        for news in guest.takeNews() {
            switch news {
            case .shutdown(let reason): return guestEnded(Self.shutDown(reason))
            case .resumed where guestPaused:
                guestPaused = false
                shell.report(.event(.qemu, "the guest runs again"))
            case .reset: shell.report(.event(.qemu, "the guest was reset; protection goes on"))
            case .deviceRemoved:
                throw SessionError(
                    .refused, "a device of \(options.vm) was unplugged; protect it again to go on with what it has now")
            case .mirrorFailed(let reason): throw SessionError(.storage, reason)
            case .diskFault(let fault): try meet(fault)
            case .paused, .resumed: break
            }
        }
        let (orders, endGuest, failure, connection) = shell.state.withLock { state in
            defer { (state.orders.resumeGuest, state.orders.stopGuest) = (false, false) }
            return (state.orders, state.endGuestRequested, state.duty.failure, state.duty.connection)
        }
        if orders.killGuest { guest.end(by: shell.end) }
        if endGuest { guest.kill() }
        if orders.stopGuest, !guest.isHeldStill { try guest.holdStill(for: .frozen) }
        if orders.resumeGuest {
            guest.letRunOn()
            // A switchover that did not come: the epochs of this session go on.
            if connection.linkDown == nil { isLastSealed = false }
        }
        if !guest.isAlive { throw SessionError.guestLost(guest.pid) }
        if guestPaused, try wasMigratedAway() {
            return guestEnded("somebody else migrated the guest away: what goes on of it does so elsewhere")
        }
        guard orders.end || orders.detach else { return nil }
        if let failure { throw failure }
        if orders.end { return "protection was ended by the operator" }
        if let reason = connection.leaving {
            throw SessionError(.peerLost, "the standby left (\(reason)); the guest runs on unprotected")
        }
        throw SessionError(
            .peerLost,
            "the standby was lost (\(connection.linkDown ?? "no reason")); the guest runs on unprotected")
    }

    private static func shutDown(_ reason: String?) -> String {
        "the guest was shut down (\(reason ?? "no reason given"))"
    }

    /// Of a guest that somebody else paused, asked now and then: no standby may go on with one that another QEMU has.
    private func wasMigratedAway() throws(SessionError) -> Bool {
        let now = MonotonicClock.now()
        guard now > pauseSeenAt + Self.pausePeriod else { return false }
        pauseSeenAt = now
        return try guest.isMigratedAway()
    }
}
