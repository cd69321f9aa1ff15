import Hypervisor
import LinuxSystem
import Messages
import Model
import Protocol
import Shipping
import Transport
import Wire

/// The session's thread: has the guest in hand, from its finding to its end.
extension PrimaryShell {
    func run() {
        let (ended, outcome): (String, Result<String, SessionError>)
        do throws(SessionError) {
            let reason = try carry()
            (ended, outcome) = (reason, .success(reason))
        } catch {
            (ended, outcome) = (error.message, .failure(error))
        }
        tell { $0.finish(outcome) }
        questions?.stop()
        let (link, record) = state.withLock { ($0.parts.link, $0.orders.standby) }
        link?.close()
        if let record { report(.gaveWay(record)) }
        report(.ended(ended))
    }

    /// Has the guest in hand until it is gone, given away, or not to be protected any more. Returns why, where that is
    /// in order.
    func carry() throws(SessionError) -> String {
        let guest = try guests.open(
            options.vm, at: options.qmpPath, log: log,
            elsewhere: { origin.isFresh ? reasonsOfStandby($0) : [] })
        let pid = guest.pid
        let process: PidDescriptor
        do throws(SystemError) {
            process = try PidDescriptor(pid)
        } catch {
            throw SessionError(.guestLost, "the guest's QEMU (pid \(pid)) is gone: \(error)")
        }
        let outcome: Result<String, SessionError>
        do throws(SessionError) {
            outcome = .success(try carry(guest, process))
        } catch {
            outcome = .failure(error)
        }
        // I15: that it runs no more was known before; whoever becomes a standby has given all of it back.
        if state.withLock({ $0.orders.standby != nil }) { _ = try? process.waitForExit(timeout: nil) }
        return try outcome.get()
    }

    private func carry(_ found: any Guest, _ process: borrowing PidDescriptor) throws(SessionError) -> String {
        var guest: (any Guest)? = found
        let pid = found.pid
        let identity = try custody.identify(
            found.description.identity ?? options.identity, origin.isFresh && !options.overridesRegister)
        let lineage = state.withLock { state in
            state.figures.qemuPID = pid
            state.guest = found.description
            state.identity = identity
            return state.duty.machine.lineage
        }
        report(.found(pid: pid, lineage: lineage))
        if case .tookOver = origin {} else { handle(.started) }

        if !origin.isFresh {
            // Between sessions the monitor is the operator's.
            guest?.close()
            guest = nil
        }
        var nextOffer: UInt64 = 0
        while true {
            let (orders, endGuest) = takeOrders()
            if orders.killGuest { end(process) }
            if endGuest { try? process.kill() }
            if orders.stopGuest {
                let attached = try attach(&guest)
                attached.stopAnyway()
                guest = attached
            }
            if orders.detach {
                let attached = try attach(&guest)
                try attached.removeLeftovers()
                if orders.resumeGuest { attached.resumeAnyway() }
                guest = attached
            }
            if let offer = orders.offer {
                if let ended = try serve(offer, &guest) { return ended }
                nextOffer = state.withLock { state in
                    state.orders.detach = false
                    // Another standby need not wait for one that refuses.
                    let isOnlyOne = state.duty.choice.reserve.isEmpty
                    return MonotonicClock.now() + (isOnlyOne ? state.duty.retry.wait : RetryPace.shortest)
                }
                continue
            }
            if orders.standby != nil { return "another host goes on with the guest" }
            if orders.end {
                // What ends by itself says why.
                let reason = state.withLock { $0.duty.isUnprotectAsked ? nil : $0.duty.lastError }
                if let reason {
                    throw SessionError(
                        .refused, "\(options.vm) cannot be protected: \(reason)", knows: contestedRegister)
                }
                return "protection was ended by the operator"
            }
            if process.hasExited() {
                handle(.guestLost)
                guard state.withLock({ $0.orders.standby != nil }) else {
                    throw SessionError(.guestLost, "the guest's QEMU (pid \(pid)) died, and it had no standby")
                }
                continue
            }
            let (isAlone, isAsked) = state.withLock { ($0.duty.machine.state == .solo, $0.duty.isAsked) }
            if isAlone, isAsked || MonotonicClock.now() >= nextOffer {
                nextOffer = MonotonicClock.now() + RetryPace.shortest
                tell { $0.seekStandby(at: MonotonicClock.now()) }
                if state.withLock({ $0.orders.offer != nil }) { continue }
            }
            waitReadable([wake.number, process.number], nanoseconds: 200_000_000)
            _ = wake.take()
        }
    }

    /// The register that stands against a guest that was not this host's.
    private var contestedRegister: Register? {
        let register = state.withLock { $0.duty.machine.register }
        return origin.isFresh && register?.isOfOthers(than: custody.node) == true ? register : nil
    }

    /// Ends a guest that another host goes on with; it runs no more when this returns.
    func end(_ process: borrowing PidDescriptor) {
        guard let bases, let guest else {
            try? process.kill()
            return
        }
        bases.end(guest, of: options.vm, process)
    }

    /// The handle that is there already, which its user then owns, or a new one.
    func attach(_ guest: inout (any Guest)?) throws(SessionError) -> any Guest {
        defer { guest = nil }
        if let guest { return guest }
        return try guests.open(options.vm, at: options.qmpPath, log: log)
    }

    func takeOrders() -> (Orders, endGuest: Bool) {
        state.withLock { ($0.orders.take(), $0.endGuestRequested) }
    }

    /// One session with the standby; `guest` is used up. Returns why, when there is nothing more to do for this guest
    /// afterwards.
    func serve(_ offer: SessionOffer, _ guest: inout (any Guest)?) throws(SessionError) -> String? {
        state.withLock { state in
            state.duty.begin(offer)
            state.parts = SessionParts()
            (state.figures.memoryProgress, state.figures.diskProgress) = (0, 0)
        }
        do throws(SessionError) {
            let link = try connect(standby, self)
            let attached = try attach(&guest)
            return try protect(attached, offer, link)
        } catch {
            state.withLock { $0.parts.link }?.close()
            guest?.close()
            guest = nil
            tell { $0.end(error) }
            guard state.withLock({ $0.duty.survives(error) }) else { throw error }
            return nil
        }
    }

    func protect(
        _ guest: any Guest, _ offer: SessionOffer, _ link: Link
    ) throws(SessionError) -> String? {
        let accepted: AcceptMessage
        do throws(SessionError) {
            state.withLock { state in
                state.parts.link = link
                state.duty.phase = .preparing
            }
            link.send(HelloMessage(node: custody.node.description, software: software).frame)
            let offered = tuning
            link.send(message(offer, guest, offered).frame)
            guard let answer = try waitForAnswer(seconds: 60) else {
                guest.close()
                return nil
            }
            accepted = answer
            report(
                .event(.session, "\(accepted.identity.node) started its QEMU (pid \(accepted.qemuPID))"))
            tell { $0.agree(accepted.identity) }
            if tuning != offered { link.send(TuningMessage(tuning, isStalled: false).frame) }
        } catch {
            guest.close()
            throw error
        }
        let heartbeat = try beatingHeart(accepted)
        defer { heartbeat.stop() }
        let session = try PrimarySession(shell: self, guest: guest, link: link)
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
        (message.identity, message.reserve) = state.withLock { ($0.identity, $0.duty.choice.reserve) }
        return message
    }

    /// Nil when protection was ended meanwhile.
    private func waitForAnswer(seconds: Int) throws(SessionError) -> AcceptMessage? {
        let deadline = MonotonicClock.now() + UInt64(seconds) * 1_000_000_000
        while MonotonicClock.now() < deadline {
            let (answer, end) = state.withLock { ($0.duty.connection.answer, $0.orders.end) }
            // The end of the link that follows is no answer.
            if end { return nil }
            if let answer { return try answer.get() }
            waitReadable([wake.number], nanoseconds: 100_000_000)
            _ = wake.take()
        }
        throw SessionError(.peerLost, "the standby did not answer the offer within \(seconds) s; see its agent's log")
    }
}
