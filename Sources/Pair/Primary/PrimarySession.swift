import Carriers
import Disk
import Hypervisor
import LinuxSystem
import Memory
import Model
import Output
import Protocol
import Shipping
import Transport

/// The carriers of a protected guest, and the loop that checkpoints it. Lives on the session's thread; taking it down leaves QEMU
/// as it was.
final class PrimarySession {
    let shell: PrimaryShell
    let guest: any Guest
    let sender: FrameSender
    var shipper: Shipper
    var carriers: CarrierList
    /// Of them: the disks', the one that makes the guest's pause, and the one whose output waits for the epochs.
    let disks: DiskCarrier?
    var memory: MemoryCarrier?
    var output: OutputCarrier?
    /// Output is held by epochs; else no checkpoint follows the last one, and each write of a disk is answered after it.
    var isHeld: Bool
    private(set) var sealed = Epoch.firstCopy
    /// The first epoch whose output is held since the dial wanted that, while it is not acknowledged.
    var holdsFrom: Epoch?
    private let pacer: EpochPacer
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
    /// What the guest's disks may keep a checkpoint waiting for, where the standby goes on otherwise.
    let diskBound: DiskBound
    /// When it was last tried to rejoin disks that were lost.
    private var rejoinedAt = MonotonicClock.now()
    /// What starts the guest here again, should it die.
    var restart: GuestRestart?
    var agentWatch: GuestAgentWatch?
    /// The disks whose faults were told of.
    var toldFaults: Set<String> = []

    var options: PrimaryOptions { shell.options }
    /// A QEMU that dies fails in many ways before it counts as ended; whatever failed, it is given this time, in nanoseconds,
    /// lest its standby be sent away instead of going on.
    static let lastBreath: UInt64 = 200_000_000

    /// The link has something to do for so long while a checkpoint is taken and its encoding begins, in nanoseconds.
    private static let backlogMax: UInt64 = 8_000_000

    init(shell: PrimaryShell, guest: any Guest, link: Link, level: Level) throws(SessionError) {
        self.shell = shell
        self.guest = guest
        isHeld = level.holdsOutput
        sender = FrameSender(link: link)
        wakefulness = Wakefulness(shell.options.sleep)
        diskBound = DiskBound(limit: UInt64(shell.options.diskTimeoutMilliseconds) * 1_000_000) { [sender] in
            sender.keepsDisksWaiting
        }
        guest.standstill.report = { [shell] in shell.report(.stoodStill($0)) }
        do throws(SystemError) {
            pacer = try EpochPacer(shell, pid: guest.pid)
            shipper = try Self.shipper(of: guest, sender, shell)
        } catch {
            throw SessionError(.system, "\(shell.options.vm) cannot be protected: \(error)")
        }
        let kinds = level.holdsOutput ? shell.options.carriers : shell.options.carriers.intersection([.disks])
        do throws(SessionError) {
            let hasBase = shell.state.withLock { $0.duty.connection.baseBytes > 0 }
            memory =
                kinds.contains(.memory) ? try Self.memory(of: guest, through: shipper, shell, hasBase: hasBase) : nil
        } catch {
            shipper.close()
            throw error
        }
        output = kinds.contains(.output) ? Self.output(of: guest, through: shipper, shell) : nil
        disks = kinds.contains(.disks) ? Self.disks(of: guest, through: sender, shell, level) : nil
        let all: [(any Carrier)?] = [disks, memory, output]
        carriers = CarrierList(all.compactMap { $0 })
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
            for case .shutdown(let reason) in guest.takeNews() where isWanted(reason) {
                return guestEnded(Self.shutDown(reason))
            }
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
        let ended = try carriers.prepare { (milliseconds) throws(SessionError) in try look(wait: milliseconds) }
        if let ended { return ended }
        guest.flushImages()
        try guest.whileStopped(for: .attach) { () throws(SessionError) in try carriers.attach() }
        let gates = output?.gates ?? []
        shell.state.withLock { $0.gates = gates }

        if let ended = try FirstCopy(self).run() { return ended }
        if !isHeld { try disks?.goThrough() }
        try seal(first: true)
        let text = isHeld ? "output is held by epoch" : "what the guest writes is done when the standby has it"
        shell.report(.event(.state, "checkpoint 1 is sealed: \(text) from here on"))
        do throws(SessionError) {
            return try checkpointUntilTheEnd()
        } catch {
            if error.code == .diskHangs { try meet(DiskFault(disk: nil, .hang, reason: error.message)) }
            throw error
        }
    }

    // MARK: - Epochs

    private func checkpointUntilTheEnd() throws(SessionError) -> String {
        if isHeld { raisePriority() }
        while true {
            while true {
                let pace = pacer.follow()
                if let step = pace.dial {
                    if let ended = try SessionDial(self).follow(step) { return ended }
                    continue
                }
                if let first = holdsFrom, pace.acknowledged >= first { SessionDial(self).endFirstHold() }
                rejoinWhenDue()
                guard isHeld else {
                    if let ended = try look(waitNanoseconds: 500_000_000) { return ended }
                    continue
                }
                let due = min(
                    pacer.due(firstHeld: output?.firstHeldAt), memory?.verificationDue(ranSince: ranSince) ?? .max)
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
                if !room, !guest.isHeldStill, !guestPaused, let held = output?.heldBytes, held > options.heldBytesMax {
                    shell.report(.event(.state, "\(held) bytes of output are held: the guest waits for the standby"))
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

    /// A disk that was lost may have been repaired.
    private func rejoinWhenDue() {
        let period = UInt64(options.diskRejoinSeconds) * 1_000_000_000
        guard period > 0, MonotonicClock.now() >= rejoinedAt + period else { return }
        rejoinedAt = MonotonicClock.now()
        LostDisks(of: shell).rejoinByItself()
    }

    /// For a guest whose epochs are checkpoints: of one without, QEMU moves more of its traffic and its writes at once as an
    /// ordinary process.
    func raisePriority() {
        guard options.isRealTime else { return }
        priority = guest.raisePriority(and: memory?.helperThread, encoder: shipper.threadID)
    }

    /// One checkpoint: the guest stands still while its dirty memory and its device state are copied, and the epoch ends for all
    /// carriers.
    func seal(first: Bool) throws(SessionError) {
        let epoch = sealed.next
        wakefulness.begin(epoch)
        boundDisks()
        var timings = EpochTimings()
        timings.epoch = epoch
        try memory?.approach(epoch, copiesEarly: !isLinkFull, &timings)
        isLinkFull = false
        sender.isStopping = true
        defer { sender.isStopping = false }
        let stopAt = MonotonicClock.now()
        timings.run = ranSince == 0 ? 0 : stopAt - ranSince
        let isStoppedByUs = try standStill(in: epoch, &timings)
        try meetDiskFaults()
        let savedAt = MonotonicClock.now()

        try cut(epoch, first: first)
        if isLastSealed { guest.standstill.become(.switchover) } else { try release() }
        carriers.ship(epoch)
        if !isLastSealed { try resume() }
        if !isStoppedByUs, !guestPaused {
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
            carriers.endFirstCopy()
            shipper.push(.synced)
        }
        try carriers.complete(epoch, &timings)
        shipper.push(.end(epoch, timings))
        // What follows is no longer waited for.
        pacer.resumed(at: runsSince, timings)
        try memory?.confirm(epoch)
        if options.planted.contains(.releaseBeforeAcknowledgement) {
            for gate in output?.gates ?? [] { _ = gate.release(through: epoch) }
        }
    }

    /// Returns whether it was us who stopped the guest: one that somebody else had paused stays so. Without memory there is
    /// nothing to save while it is stopped.
    private func standStill(in epoch: Epoch, _ timings: inout EpochTimings) throws(SessionError) -> Bool {
        if let memory {
            try memory.standStill(mayRunOn: !isLastSealed, in: epoch, &timings)
            return guest.stoppedByUs
        }
        if !guest.isHeldStill { try guest.holdStill(for: .checkpoint) }
        return guest.isHeldStill
    }

    private func release() throws(SessionError) {
        if memory != nil { try guest.release() }
    }

    private func resume() throws(SessionError) {
        if memory != nil { try guest.resume() } else { guest.letRunOn() }
    }

    /// The guest stands still and its disks are drained: this is where the epoch ends.
    private func cut(_ epoch: Epoch, first: Bool) throws(SessionError) {
        try carriers.cut(epoch, isFirst: first)
        shell.state.withLock { state in
            sealed = epoch
            shell.perform(state.duty.seal(epoch, isLast: isLastSealed), &state)
        }
    }

    // MARK: - Looking around between epochs

    func look(wait milliseconds: Int) throws(SessionError) -> String? {
        try look(waitNanoseconds: UInt64(milliseconds) * 1_000_000)
    }

    /// Waits for something to happen, and handles it. Returns why when protection is over.
    func look(waitNanoseconds: UInt64 = 0) throws(SessionError) -> String? {
        shell.expectBack(after: waitNanoseconds)
        let isStill = guest.isHeldStill || guestPaused
        let pause = isHeld && sealed > .firstCopy ? waitNanoseconds : .max
        let agentWait = agentWatch?.look(isExcused: isStill, pause: pause) { guest } ?? .max
        waitReadable(
            [guest.pollDescriptor, memory?.exitNumber ?? guest.exitDescriptor, shell.wake.number, pacer.wakeNumber],
            nanoseconds: min(waitNanoseconds, agentWait))
        _ = shell.wake.take()
        pacer.takeWake()
        for news in guest.takeNews() {
            agentWatch?.hear(news)
            switch news {
            case .shutdown(let reason):
                guard !isWanted(reason) else { return guestEnded(Self.shutDown(reason)) }
                guest.kill()
            case .resumed where guestPaused:
                guestPaused = false
                shell.report(.event(.qemu, "the guest runs again"))
            case .reset: shell.report(.event(.qemu, "the guest was reset; protection goes on"))
            case .hung(let action): shell.report(.guestHung(.watchdog(action: action)))
            case .deviceRemoved:
                throw SessionError(
                    .refused, "a device of \(options.vm) was unplugged; protect it again to go on with what it has now")
            case .mirrorFailed(let reason): throw SessionError(.storage, reason)
            case .paused, .resumed, .portChanged: break
            }
        }
        try meetDiskFaults()
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

    /// Where a guest that dies is started again, a panic is a death.
    private func isWanted(_ shutdown: String?) -> Bool { isHeld || GuestNews.isWanted(shutdown: shutdown) }

    static func shutDown(_ reason: String?) -> String {
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
