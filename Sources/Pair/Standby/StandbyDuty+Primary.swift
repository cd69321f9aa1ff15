import Messages
import Model
import Protocol
import Wire

/// The primary: what it says, and whether it is there.
extension StandbyDuty {
    package mutating func take(_ message: PrimaryMessage, at now: UInt64) throws(SessionError) -> [Output] {
        var outputs: [Output] = []
        switch message {
        case .register(let register):
            feed(.registerTold(session, register), &outputs)
            if machine.state == .holding, machine.register == register, !register.level.holdsOutput {
                promised = register.term
                outputs.append(.lease(.standsBy(register.term)))
            }
        case .takeOver(let term, let stands, let starts):
            let death =
                starts > 0
                ? "the guest's QEMU died at the primary, which cannot start it again"
                : "the primary's agent saw the guest's QEMU die"
            let reason = stands ? "a switchover: the guest stands still at the primary" : death
            outputs.append(.report(.event(.detected, reason)))
            takeOver = TakeOverRequest(
                cause: stands ? .switchover : .guestDied, reason: reason, decidedAt: now)
            takeOver?.starts = starts
            feed(.takeOver(session, term, guestStands: stands), &outputs)
        case .tuning(let tuning, let isStalled):
            self.tuning = tuning
            switch (phase, isStalled) {
            case (.protected, true): phase = .stalled
            case (.stalled, false): phase = .protected
            default: break
            }
        case .goodbye(let message):
            lastError = message.reason
            // Who only failed may come back.
            keepsMemory = message.kind == .failed
            if message.staysDown == true { outputs.append(.report(.event(.error, message.reason))) }
            feed(.dismissed(session), &outputs)
        case .synced(let synced):
            guard synced == firstCopy else {
                throw SessionError(
                    .protocolBroken,
                    "the first copy is not whole: \(firstCopy.frameCount) of \(synced.frameCount) frames came")
            }
            // Of memory that is attached later there is another one.
            firstCopy = Synced(frameCount: 0, byteCount: 0)
        case .askPromise(let question, let term):
            outputs.append(.lease(.promiseAsked(question: question, term)))
        // What it has already is counted as before; whoever asked to take over needs no note.
        case .note(let note):
            guard machine.takesWrites else { break }
            if note.loss != 0 { ownerLacks.insert(note.disk) } else { ownerLacks.remove(note.disk) }
            outputs.append(.note(note))
        // Its output is forgotten by whoever holds it.
        case .released: break
        }
        return outputs
    }

    /// The primary's guest may be heard through this host: it is the standby of one that is linked, and asks for nothing.
    package var isLending: Bool { isLinked && machine.state == .holding && heldBack == nil }

    /// A frame of the first copy came, of so many bytes.
    package mutating func noteFirstCopy(_ byteCount: Int) {
        firstCopy.frameCount += 1
        firstCopy.byteCount += UInt64(byteCount)
    }

    /// The epoch is staged whole, and this is the digest of its frames.
    package mutating func stage(_ epoch: Epoch, _ digest: CheckpointDigest) -> [Output] {
        staged = epoch
        digests[epoch] = digest
        return handle(.staged(session, epoch))
    }

    // MARK: - Whether it is there

    /// To be called now and then. `hostLives`: the primary's host is heard on another way.
    package mutating func beat(at now: UInt64, hostLives: Bool) -> [Output] {
        var outputs: [Output] = []
        if let since = listensSince, now > since + ceiling {
            listensSince = nil
            takeOver = TakeOverRequest(cause: .primaryLost, reason: "this agent was restarted", decidedAt: now)
            feed(.started, &outputs)
        }
        if let heldBack, now >= heldBack.until || !hostLives {
            stopHoldingBack(at: now, hostLives: hostLives, &outputs)
        }
        return outputs
    }

    /// The link is gone. While the primary's host is heard, the primary is let ask the arbiter first: it has the guest,
    /// and whoever moves a guest that is well does so needlessly. It had the ceiling to notice; it gets as long again.
    package mutating func loseLink(_ reason: String, at now: UInt64, hostLives: Bool) -> [Output] {
        var outputs: [Output] = []
        loseLink(reason, at: now, hostLives: hostLives, &outputs)
        return outputs
    }

    private mutating func loseLink(_ reason: String, at now: UInt64, hostLives: Bool, _ outputs: inout [Output]) {
        closeLink(&outputs)
        guard case .holding = machine.state, !machine.rule.isManual, hostLives else {
            return losePrimary(reason, at: now, &outputs)
        }
        heldBack = (reason, now + ceiling)
        phase = .peerLost
        lastError = reason
        outputs.append(
            .report(
                .event(
                    .detected,
                    "the link is down, and \(primary?.description ?? "the primary") is heard over the second path: it may"
                        + " ask the arbiter first, for \(ceiling / 1_000_000) ms (\(reason))")))
    }

    /// The primary had its time, or is not heard any more, or the operator wants something.
    mutating func stopHoldingBack(at now: UInt64, hostLives: Bool, _ outputs: inout [Output]) {
        guard let held = heldBack else { return }
        heldBack = nil
        let why = hostLives ? "and the primary said nothing since" : "and now its host is silent too"
        losePrimary("\(held.reason), \(why)", at: now, &outputs)
    }

    private mutating func losePrimary(_ reason: String, at now: UInt64, _ outputs: inout [Output]) {
        if lastError == nil { lastError = reason }
        if takeOver == nil { takeOver = TakeOverRequest(cause: .primaryLost, reason: reason, decidedAt: now) }
        let before = machine.state
        let actions = recorded.decide(.linkLost(session))
        if !actions.isEmpty, before == .holding || before == .consulting {
            outputs.append(.report(.event(.detected, "the primary is not heard any more: \(reason)")))
        }
        perform(actions, &outputs)
    }

    // MARK: - Failures

    /// What the primary did wrong ends the link and leaves the image whole; a failure of our own loses the image.
    package mutating func fail(_ error: SessionError, at now: UInt64, hostLives: Bool) -> [Output] {
        var outputs: [Output] = []
        lastError = error.message
        outputs.append(.report(.failure(error)))
        tellWhy(error.message, &outputs)
        closeLink(&outputs)
        if error.code == .protocolBroken {
            loseLink(error.message, at: now, hostLives: hostLives, &outputs)
        } else {
            feed(.imageLost(error.message), &outputs)
        }
        return outputs
    }

    /// Without its QEMU the replica is of no use, unless the guest is to be booted from its disk: the primary must know that
    /// it has no standby any more.
    package mutating func loseQEMU(_ ending: String) -> [Output] {
        // A guest that is started from its disks needs none.
        guard machine.level.holdsOutput || machine.takesWrites else { return [] }
        // What is not loaded yet fails to load.
        if machine.mayBoot {
            guard machine.loading == .done else { return [] }
            return failToLoad(SessionError(.qemu, "the QEMU that had loaded \(vm) here \(ending)"))
        }
        var outputs: [Output] = []
        let error = SessionError(.qemu, "the QEMU that waited for \(vm) here \(ending): protect it again")
        tellWhy(error.message, &outputs)
        let actions = recorded.decide(.imageLost(error.message))
        guard !actions.isEmpty else { return outputs }
        lastError = error.message
        outputs.append(.report(.failure(error)))
        perform(actions, &outputs)
        return outputs
    }

    /// The primary is to know more than that the connection was closed. In a switchover it is told by what comes of that.
    private func tellWhy(_ reason: String, _ outputs: inout [Output]) {
        switch machine.state {
        case .preparing, .receiving, .holding:
            send(.goodbye(GoodbyeMessage(kind: .failed, reason: reason)), &outputs)
        default: break
        }
    }
}
