import Disk
import Hypervisor
import LinuxSystem
import Messages
import Model
import Protocol
import Shipping
import Transport
import Wire

/// The thread of a primary's shell: has the guest in hand, from its finding to its end.
final class PrimaryThread {
    private let shell: PrimaryShell
    /// The guest's handle, while it is needed outside of a session: between sessions the monitor is the operator's.
    private var guest: (any Guest)?
    /// When a standby is sought again at the latest, by `MonotonicClock`.
    private var nextOffer: UInt64 = 0
    /// Another session goes on with the guest, which was started here again.
    private var isReplaced = false
    /// The guest is to start here again, once its QEMU is gone; before that it may be to be found out whether it can.
    private var mustStart = false
    private var mustTry = false
    private let restart: GuestRestart
    private var agentWatch: GuestAgentWatch?
    /// When the lease is asked again for a start that failed; and its monitor is tried, where it was busy. By `MonotonicClock`.
    private var nextStart = UInt64.max
    private var nextLook: UInt64 = 0
    private static let startPeriod: UInt64 = 2_000_000_000
    private static let lookPeriod: UInt64 = 5_000_000_000

    init(_ shell: PrimaryShell) {
        self.shell = shell
        restart = GuestRestart(shell)
    }

    private var options: PrimaryOptions { shell.options }

    func run() {
        let (ended, outcome): (String, Result<String, SessionError>)
        do throws(SessionError) {
            let reason = try carry()
            (ended, outcome) = (reason, .success(reason))
        } catch {
            (ended, outcome) = (error.message, .failure(error))
        }
        restart.discard()
        shell.tell { $0.finish(outcome) }
        shell.questions?.stop()
        let (link, record) = shell.state.withLock { ($0.parts.link, $0.orders.standby) }
        link?.close()
        // The session that goes on with the guest was told of.
        if isReplaced { return }
        if let record { shell.report(.gaveWay(record)) }
        shell.report(.ended(ended))
    }

    /// Has the guest in hand until it is gone, given away, or not to be protected any more. Returns why, where that is
    /// in order.
    private func carry() throws(SessionError) -> String {
        let finding = try MuteGuest(shell: shell).find()
        let process: PidDescriptor
        do throws(SystemError) {
            process = try PidDescriptor(finding.pid)
        } catch {
            throw SessionError.guestLost(finding.pid, "is gone: \(error)")
        }
        let outcome: Result<String, SessionError>
        do throws(SessionError) {
            switch finding {
            case .guest(let found): try take(found)
            case .lost: shell.handle(.started)
            }
            outcome = .success(try carry(finding.pid, process))
        } catch {
            outcome = .failure(error)
        }
        // I15: that it runs no more was known before; whoever becomes a standby has given all of it back.
        if shell.state.withLock({ $0.orders.standby != nil }) { _ = try? process.waitForExit(timeout: nil) }
        // One that lives stays gated until it is certain that nobody else may run it.
        if process.hasExited(), !isReplaced { shell.custody.leases?.unguard(options.vm) }
        return try outcome.get()
    }

    private func take(_ found: any Guest) throws(SessionError) {
        guest = found
        let identity = try shell.custody.identify(
            found.description.identity ?? options.identity, shell.origin.isFresh && !options.overridesRegister)
        let lineage = shell.state.withLock { state in
            state.figures.qemuPID = found.pid
            state.guest = found.description
            state.identity = identity
            return state.duty.machine.lineage
        }
        if shell.origin.isFresh,
            let obstacle = LevelParts.obstacle(to: options.level, found.description, shell.custody)
        {
            throw SessionError(.refused, "\(options.vm) cannot be protected: \(obstacle)")
        }
        learnFalls(of: found.description)
        if let places = shell.custody.serving {
            do throws(SessionError) {
                try ServersLeft(shell).look(at: found, places)
            } catch {
                guard shell.origin.endsUnservable else { throw refusal(of: found, error) }
                found.kill()
                throw SessionError.guestLost(found.pid, "was ended: \(error.message)")
            }
        }
        LevelParts.attend(shell)
        agentWatch = GuestAgentWatch(shell, found)
        shell.report(.found(pid: found.pid, lineage: lineage))
        if case .tookOver = shell.origin {} else { shell.handle(.started) }
        if !shell.origin.isFresh { closeGuest() }
    }

    /// How far it can fall by itself. The operator hears now, not at the first fall, what stands in the way.
    private func learnFalls(of guest: GuestDescription) {
        guard let floor = options.degrade.floor else { return }
        var obstacles: [Level: String] = [:]
        for level in [DegradeMachine.Settings.landing, floor] {
            obstacles[level] = LevelParts.obstacle(to: level, guest, shell.custody)
        }
        let word = shell.state.withLock { $0.duty.keeper.learn(obstacles) }
        if let word { shell.report(.event(.state, word)) }
    }

    private func refusal(of guest: any Guest, _ error: SessionError) -> SessionError {
        shell.origin.refusal(of: options.vm, at: options.standby, guest.pid, error.message)
    }

    private func carry(_ pid: Int32, _ process: borrowing PidDescriptor) throws(SessionError) -> String {
        while true {
            let (orders, endGuest) = shell.state.withLock { ($0.orders.take(), $0.endGuestRequested) }
            if orders.killGuest { shell.end(process) }
            if endGuest { try? process.kill() }
            try obey(orders)
            (mustStart, mustTry) = (mustStart || orders.startGuest, mustTry || orders.tryStart)
            if let offer = orders.offer {
                if let ended = try serve(offer) { return ended }
                continue
            }
            if orders.standby != nil { return "another host goes on with the guest" }
            if orders.end { return try reasonToEnd() }
            let hasDied = process.hasExited()
            if let ended = try reasonOfShutdown(hasDied) { return ended }
            if hasDied, !shell.isRestarting {
                if let ended = try loseGuest(pid) { return ended }
                continue
            }
            // A QEMU that is being killed counts as lost some time before its process has ended.
            if hasDied, mustTry {
                mustTry = false
                restart.tryStart()
            }
            if hasDied, mustStart {
                mustStart = false
                if let started = try startAgain() { return started }
            }
            if hasDied, MonotonicClock.now() >= nextStart {
                nextStart = .max
                shell.handle(.guestLost)
            }
            if seekStandby() { continue }
            if !hasDied { lookAtAgent() }
            let monitor = guest?.pollDescriptor ?? -1
            waitReadable([shell.wake.number, monitor, hasDied ? -1 : process.number], nanoseconds: 200_000_000)
            _ = shell.wake.take()
        }
    }

    /// Of a guest that is shut down between sessions, at a level at which one that dies is started again: the monitor tells
    /// the one from the other, so it is the agent's then. Nil while it runs.
    private func reasonOfShutdown(_ hasDied: Bool) throws(SessionError) -> String? {
        guard shell.startsAgain, !shell.isRestarting else { return nil }
        if guest == nil, !hasDied, MonotonicClock.now() >= nextLook {
            nextLook = MonotonicClock.now() + Self.lookPeriod
            guest = try? attach()
        }
        for news in guest?.takeNews() ?? [] {
            agentWatch?.hear(news)
            switch news {
            case .hung(let action): shell.report(.guestHung(.watchdog(action: action)))
            case .shutdown(let reason) where GuestNews.isWanted(shutdown: reason):
                shell.handle(.guestEnded)
                return PrimarySession.shutDown(reason)
            case .shutdown: guest?.kill()
            case .paused, .resumed, .reset, .portChanged, .deviceRemoved, .mirrorFailed: break
            }
        }
        return nil
    }

    /// The guest died, and this host may start it. Returns why this session is over, once another one goes on with the guest.
    private func startAgain() throws(SessionError) -> String? {
        let register = shell.state.withLock { $0.duty.machine.register }
        guard shell.startsAgain, let starter = shell.starter, let description = shell.guest, let register else {
            return nil
        }
        closeGuest()
        do throws(SessionError) {
            let started = try restart.run(starter, description)
            shell.handle(.guestStarted)
            isReplaced = true
            shell.report(.restarted(started, register))
            return "the guest was started here again"
        } catch {
            guard error.code != .refused else {
                shell.handle(.guestEnded)
                throw SessionError(.guestLost, LossWords.staysDown(options.vm, error.message))
            }
            shell.report(.failure(error))
            nextStart = MonotonicClock.now() + Self.startPeriod
            return nil
        }
    }

    /// Between sessions. Returns why all is over, where that is in order.
    private func loseGuest(_ pid: Int32) throws(SessionError) -> String? {
        shell.handle(.guestLost)
        if shell.isRestarting {
            shell.report(.event(.detected, "the QEMU of \(options.vm) (pid \(pid)) died: it is started here again"))
            return nil
        }
        guard shell.state.withLock({ $0.orders.standby != nil }) else {
            throw SessionError.guestLost(pid, "died, and it had no standby")
        }
        return nil
    }

    private func obey(_ orders: Orders) throws(SessionError) {
        guard !shell.isRestarting else { return }
        if orders.stopGuest { try attach().stopAnyway() }
        if orders.detach {
            // Where another host may go on with the guest, its writes go on waiting.
            let isAlone = shell.register?.isOfOthers(than: shell.custody.node) == false
            let attached = try attach()
            if !isAlone, !(try attached.leftServed()).isEmpty { return }
            let servers = try shell.custody.serving.map { (places) throws(SessionError) in
                try LeftServers(of: attached, places)
            }
            try servers?.goAlone()
            try attached.removeLeftovers()
            servers?.end()
            if orders.resumeGuest { attached.resumeAnyway() }
        }
    }

    /// What ends by itself says why.
    private func reasonToEnd() throws(SessionError) -> String {
        let (reason, register) = shell.state.withLock { state in
            (state.duty.isUnprotectAsked ? nil : state.duty.lastError, state.duty.machine.register)
        }
        guard let reason else { return "protection was ended by the operator" }
        // The register that stands against a guest that was not this host's.
        let isContested = shell.origin.isFresh && register?.isOfOthers(than: shell.custody.node) == true
        throw SessionError(
            .refused, "\(options.vm) cannot be protected: \(reason)", knows: isContested ? register : nil)
    }

    /// True when there is an offer to be made.
    private func seekStandby() -> Bool {
        let (isAlone, isAsked) = shell.state.withLock { ($0.duty.machine.state == .solo, $0.duty.isAsked) }
        guard isAlone, isAsked || MonotonicClock.now() >= nextOffer else { return false }
        nextOffer = MonotonicClock.now() + RetryPace.shortest
        shell.tell { $0.seekStandby(at: MonotonicClock.now()) }
        return shell.state.withLock { $0.orders.offer != nil }
    }

    // MARK: - The guest's handle

    /// The one that is there already, or a new one.
    private func attach() throws(SessionError) -> any Guest {
        if let guest { return guest }
        let opened = try shell.guests.open(options.vm, at: options.qmpPath, log: shell.log)
        guest = opened
        return opened
    }

    /// Between sessions.
    private func lookAtAgent() {
        let isAtHand = guest != nil
        _ = agentWatch?.look(isExcused: false) { () throws(SessionError) in try attach() }
        if !isAtHand { closeGuest() }
    }

    private func closeGuest() {
        guest?.close()
        guest = nil
    }

    // MARK: - A session

    /// One session with the standby, which uses the handle up. Returns why, when there is nothing more to do for this guest
    /// afterwards.
    private func serve(_ offer: SessionOffer) throws(SessionError) -> String? {
        shell.state.withLock { state in
            state.duty.begin(offer)
            state.parts = PrimaryShell.SessionParts()
            (state.figures.memoryProgress, state.figures.diskProgress) = (0, 0)
        }
        var ended: String?
        do throws(SessionError) {
            let link = try shell.connect(shell.standby, shell)
            let attached = try attach()
            guest = nil
            ended = try protect(attached, offer, link)
        } catch {
            shell.state.withLock { $0.parts.link }?.close()
            // What it tells of its end is still wanted.
            if !shell.startsAgain { closeGuest() }
            shell.tell { $0.end(error) }
            guard shell.state.withLock({ $0.duty.survives(error) }) || shell.isRestarting else { throw error }
        }
        nextLook = 0
        nextOffer = shell.state.withLock { state in
            state.orders.detach = false
            // Another standby need not wait for one that refuses.
            let isOnlyOne = state.duty.choice.reserve.isEmpty
            return MonotonicClock.now() + (isOnlyOne ? state.duty.retry.wait : RetryPace.shortest)
        }
        return ended
    }

    private func protect(
        _ guest: any Guest, _ offer: SessionOffer, _ link: Link
    ) throws(SessionError) -> String? {
        let accepted: AcceptMessage
        do throws(SessionError) {
            shell.state.withLock { state in
                state.parts.link = link
                state.duty.phase = .preparing
            }
            link.send(HelloMessage(node: shell.custody.node, software: shell.software).frame)
            let offered = shell.tuning
            link.send(message(offer, guest, offered).frame)
            guard let answer = try waitForAnswer(seconds: 60) else {
                guest.close()
                return nil
            }
            accepted = answer
            shell.report(
                .event(.session, "\(accepted.identity.node) started its QEMU (pid \(accepted.qemuPID))"))
            shell.tell { $0.agree(accepted.identity) }
            if shell.tuning != offered { link.send(TuningMessage(shell.tuning, isStalled: false).frame) }
        } catch {
            guest.close()
            throw error
        }
        let heartbeat = try shell.beatingHeart(accepted)
        defer { heartbeat.stop() }
        let session = try PrimarySession(shell: shell, guest: guest, link: link, level: offer.level)
        (session.restart, session.agentWatch) = (restart, agentWatch)
        let outcome: Result<String, SessionError>
        do throws(SessionError) {
            outcome = .success(try session.run())
        } catch {
            outcome = .failure(error)
        }
        session.takeDown()
        return try outcome.get()
    }

    private func message(_ offer: SessionOffer, _ guest: any Guest, _ tuning: EpochTuning) -> OfferMessage {
        var message = OfferMessage(offer, of: guest, options, tuning)
        message.replaceAfterSeconds = options.replaceAfterSeconds
        (message.identity, message.reserve) = shell.state.withLock { ($0.identity, $0.duty.choice.reserve) }
        return message
    }

    /// Nil when protection was ended meanwhile.
    private func waitForAnswer(seconds: Int) throws(SessionError) -> AcceptMessage? {
        let deadline = MonotonicClock.now() + UInt64(seconds) * 1_000_000_000
        while MonotonicClock.now() < deadline {
            let (answer, end) = shell.state.withLock { ($0.duty.connection.answer, $0.orders.end) }
            // The end of the link that follows is no answer.
            if end { return nil }
            if let answer { return try answer.get() }
            waitReadable([shell.wake.number], nanoseconds: 100_000_000)
            _ = shell.wake.take()
        }
        throw SessionError(.peerLost, "the standby did not answer the offer within \(seconds) s; see its agent's log")
    }
}
