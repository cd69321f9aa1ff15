import Messages
import Model
import Protocol
import Wire

/// The session with a standby: what that says, whether it is there, and how the session ends.
extension PrimaryDuty {
    // MARK: - Its beginning and its end

    /// It is time to look for a standby: one is asked, unless there is something else to be done first.
    package mutating func seekStandby(at now: UInt64) -> [Output] {
        var outputs: [Output] = []
        guard !lowersAlone(&outputs) else { return outputs }
        let (before, wasReplacing) = (choice.current, choice.isReplacing)
        let node = choice.next(at: now)
        if choice.isReplacing, !wasReplacing {
            let text =
                "\(before) has not been the standby of \(names.vm) for \(choice.replaceAfter / 1_000_000_000) s: others"
                + " are asked too, \(node) first"
            outputs.append(.report(.event(.session, text)))
        }
        feed(.candidate(node, asked: isAsked), &outputs)
        return outputs
    }

    /// The offer is made now. Whoever asks from here on asks for another one.
    package mutating func begin(_ offer: SessionOffer) {
        isAsked = false
        connection = PrimaryConnection(offer.session)
    }

    /// The standby's answer was taken up.
    package mutating func agree(_ standby: StandbyIdentity) -> [Output] {
        handle(.accepted(connection.session, standby))
    }

    /// The session came to nothing, or is over. Where `survives` says so, the guest runs on and another one may follow.
    package mutating func end(_ error: SessionError) -> [Output] {
        var outputs: [Output] = []
        let isRefused = error.code == .standbyRefused
        retry.failed(isRefused ? .refused : .lost, error.message)
        isOldNews = !retry.isNews
        feed(isRefused ? .refused(connection.session, error.message) : .standbyLost(connection.session), &outputs)
        isOldNews = false
        guard survives(error) else { return outputs }
        let isAlone = connection.leaving != nil || (names.tookOver && !hasProtected)
        phase = isAlone ? .running : .peerLost
        lastError = error.message
        return outputs
    }

    /// A standby that is lost or says no may come back, where there was one or the operator does not wait for it.
    func survives(_ error: SessionError) -> Bool {
        (error.code == .peerLost || error.code == .standbyRefused) && (!names.isNamed || hadStandby)
    }

    /// Nothing of the session is left.
    package mutating func takeDown() -> [Output] {
        if connection.linkDown == nil { connection.linkDown = "the session ended" }
        copies = CopiesHere()
        // What this host has of the disks is all that there is for the guest from now on.
        return machine.isCopyLost && machine.session == nil ? handle(.copyLost(false)) : []
    }

    // MARK: - What it says

    package mutating func take(_ message: StandbyMessage, at now: UInt64) -> [Output] {
        time = now
        var outputs: [Output] = []
        switch message {
        case .accept(let message):
            connection.answer = .success(message)
            hadStandby = true
        case .refuse(let message):
            if let known = message.knows { feed(.peerRegister(known), &outputs) }
            connection.answer = .failure(SessionError(.standbyRefused, message.reason))
        case .acknowledge(let epoch, let digest): acknowledge(epoch, digest, &outputs)
        case .register(let register): feed(.peerRegister(register), &outputs)
        case .goodbye(let message): take(message, &outputs)
        case .wish(let message): take(message, &outputs)
        case .noted(let noted): outputs.append(.noted(noted))
        case .promise(let question, let term): outputs.append(.lease(.confirmed(question: question, term)))
        }
        return outputs
    }

    private mutating func acknowledge(_ epoch: Epoch, _ digest: CheckpointDigest, _ outputs: inout [Output]) {
        let found = connection.ledger.acknowledged(epoch, digest: digest, at: time)
        if found != nil { outputs.append(.report(.acknowledged(epoch))) }
        let hadSession = machine.session != nil
        feed(.acknowledged(connection.session, epoch, digestMatches: found != nil), &outputs)
        if hadSession, machine.session == nil {
            noteLoss("it acknowledged epoch \(epoch) otherwise than it was sent", &outputs)
        }
        guard let found else { return }
        hasProtected = true
        outputs.append(.account(found))
    }

    private mutating func take(_ message: GoodbyeMessage, _ outputs: inout [Output]) {
        let id = connection.session
        switch message.kind {
        case .handedBack where message.staysStandby == true:
            connection.askedAt = nil
            feed(.declined(id, message.reason), &outputs)
        case .handedBack:
            feed(.handedBack(id), &outputs)
            lastError = message.reason
        case .failed where !machine.isDismissing:
            loseStandby("\(names.standby): \(message.reason)", &outputs)
        case .failed, .unprotected, .guestEnded:
            // The end of the link that follows is no loss.
            if machine.isDismissing { connection.linkDown = "the standby has let go" }
            feed(.letGo(id), &outputs)
        }
    }

    private mutating func take(_ message: WishMessage, _ outputs: inout [Output]) {
        outputs.append(.report(.event(.request, message.reason)))
        switch message.wish {
        case .switchover:
            switch switchOver() {
            case .refused(let reason): outputs.append(.report(.event(.request, "it was refused: \(reason)")))
            case .done(let wanted): outputs += wanted
            }
        case .leave:
            // Whoever stays has not left.
            if !machine.isCopyLost { connection.leaving = message.reason }
            feed(.standbyLeaves(connection.session), &outputs)
        }
    }

    // MARK: - Whether it is there

    /// The link is closed, at the other end or on the way.
    package mutating func noteClosedLink(_ reason: String) -> [Output] {
        if connection.answer == nil { connection.answer = .failure(SessionError(.peerLost, reason)) }
        return loseStandby(reason)
    }

    package mutating func loseStandby(_ reason: String) -> [Output] {
        var outputs: [Output] = []
        loseStandby(reason, &outputs)
        return outputs
    }

    mutating func loseStandby(_ reason: String, _ outputs: inout [Output]) {
        guard connection.linkDown == nil else { return }
        connection.linkDown = reason
        connection.isLost = true
        if machine.session != nil { noteLoss(reason, &outputs) }
        feed(.standbyLost(connection.session), &outputs)
        lastError = LossWords.sentence(reason, for: machine, told: lastError)
        outputs.append(.closeLink)
    }

    /// What was a session is none any more.
    private mutating func noteLoss(_ reason: String, _ outputs: inout [Output]) {
        phase = .peerLost
        outputs.append(.report(.event(.standbyLost, "the standby is lost: \(reason)")))
    }

    /// To be called now and then while there is a link.
    package mutating func beat(at now: UInt64) -> [Output] {
        guard let askedAt = connection.askedAt, now > askedAt + handOverMax else { return [] }
        connection.askedAt = nil
        return handle(.handOverOverdue)
    }

    /// The standby was asked to go on, and nothing is known of that yet.
    package var awaitsHandOver: Bool { connection.askedAt != nil }

    /// Whether QEMU lets a checkpoint that is due wait for too long. Nil when that is as before.
    mutating func noteStall(_ isLate: Bool) -> [Output]? {
        let isStalled = phase == .protected && isLate
        guard isStalled != connection.isStalled else { return nil }
        connection.isStalled = isStalled
        return [.send(.tuning(tuning, isStalled: isStalled))]
    }

    // MARK: - Epochs

    /// The epoch is cut while the guest stands still; `isLast`: it goes on standing.
    package mutating func seal(_ epoch: Epoch, isLast: Bool) -> [Output] {
        sealed = epoch
        let id = connection.session
        return handle(isLast ? .sealedLast(id, epoch) : .sealed(id, epoch))
    }

    /// The last frame of the epoch is about to leave; its frames `waited` for the link.
    package mutating func expect(
        _ epoch: Epoch, _ digest: CheckpointDigest, _ timings: EpochTimings, waited: UInt64, at now: UInt64
    ) {
        connection.ledger.sent(epoch, digest: digest, timings: timings, waited: waited, at: now)
    }

    // MARK: - Failures

    /// Something failed on our side of the session that cannot be mended: protection is given up in order.
    package mutating func fail(_ error: SessionError) -> [Output] {
        var outputs: [Output] = []
        if failure == nil, error.code != .peerLost {
            failure = error
            lastError = error.message
            outputs.append(.report(.failure(error)))
        }
        loseStandby(error.message, &outputs)
        return outputs
    }

    /// The first failure is told.
    mutating func note(_ error: SessionError) -> [Output] {
        guard failure == nil else { return [] }
        failure = error
        return [.report(.failure(error))]
    }
}
