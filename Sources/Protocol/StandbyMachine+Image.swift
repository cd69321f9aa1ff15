import Model

/// The image: from an offer to acknowledged epochs, and how it ends.
extension StandbyMachine {
    mutating func consider(_ offer: SessionOffer, _ actions: inout [Action]) {
        guard let refusal = reasonToRefuse(offer) else {
            stopFencing(&actions)
            if image != nil { actions += [.closeLink, .dismantle] }
            return begin(offer, &actions)
        }
        hear(from: offer.primary, &actions)
        actions.append(.refuse(offer.session, refusal, knows: register))
    }

    /// I11: an offer of an older term is never taken. One that is not older replaces an image: an offer is made under
    /// SOLO only, so whoever makes it has let go of every earlier session.
    private func reasonToRefuse(_ offer: SessionOffer) -> String? {
        let known = max(seen, register?.term ?? Term(0))
        guard offer.term >= known else { return "\(node) knows term \(known), the offer is of term \(offer.term)" }
        switch state {
        case .none, .preparing, .receiving, .holding, .orphaned, .consulting, .loading, .arbitrating, .returning:
            return nil
        case .takingOver, .resuming, .running, .failed: return "\(node) itself took the guest over"
        }
    }

    private mutating func begin(_ offer: SessionOffer, _ actions: inout [Action]) {
        let identity = StandbyIdentity(node: node, incarnation: random.next())
        image = Image(
            session: offer.session, identity: identity, term: offer.term, lineage: offer.lineage,
            primary: offer.primary, waits: offer.waits)
        (staged, applied, loading, request, handOver) = (.firstCopy, .firstCopy, .waiting, nil, nil)
        (offeredLevel, isCleared, primaryIsSilent) = (offer.level, false, false)
        state = .preparing(isPrepared: false, isRecorded: false)
        seen = max(seen, offer.term)
        actions += [.persist(record), .prepare(offer, identity)]
    }

    mutating func prepare(_ session: SessionID, _ actions: inout [Action]) {
        guard case .preparing(_, let isRecorded) = state, image?.session == session else { return }
        state = .preparing(isPrepared: true, isRecorded: isRecorded)
        acceptIfReady(&actions)
    }

    mutating func note(durable term: Term, _ actions: inout [Action]) {
        switch state {
        case .preparing(let isPrepared, _) where term == seen:
            state = .preparing(isPrepared: isPrepared, isRecorded: true)
            acceptIfReady(&actions)
        case .takingOver where term == seen:
            state = .takingOver(isRecorded: true)
            resumeIfReady(&actions)
        default:
            break
        }
    }

    private mutating func acceptIfReady(_ actions: inout [Action]) {
        guard case .preparing(isPrepared: true, isRecorded: true) = state, let image else { return }
        state = .receiving
        actions.append(.accept(image.session, image.identity))
    }

    mutating func failToPrepare(_ session: SessionID, _ reason: String, _ actions: inout [Action]) {
        guard case .preparing = state, image?.session == session else { return }
        actions.append(.refuse(session, reason, knows: register))
        drop(&actions)
    }

    mutating func stage(_ session: SessionID, _ epoch: Epoch, _ actions: inout [Action]) {
        guard let image, image.session == session else { return }
        switch state {
        case .receiving, .holding:
            guard epoch == staged.next else {
                actions += [
                    .report("checkpoint \(epoch) arrived where checkpoint \(staged.next) was expected"), .closeLink,
                ]
                return loseLink(session, &actions)
            }
            staged = epoch
            // Checkpoint 1 rests on the first copy: until both are in the replica, nothing is acknowledged (I6).
            if case .holding = state { actions.append(.acknowledge(epoch)) }
            actions.append(.apply(epoch))
        default:
            // I5: a host that asked to take over, or did, acknowledges nothing.
            break
        }
    }

    mutating func apply(_ session: SessionID, _ epoch: Epoch, _ actions: inout [Action]) {
        guard let image, image.session == session, epoch == applied.next, epoch <= staged else { return }
        applied = epoch
        switch state {
        case .receiving:
            state = .holding
            for number in 1...staged.number { actions.append(.acknowledge(Epoch(number))) }
        case .arbitrating, .takingOver, .loading:
            loadIfReady(&actions)
            resumeIfReady(&actions)
        default:
            break
        }
    }

    mutating func note(_ told: Register, of session: SessionID, _ actions: inout [Action]) {
        guard case .holding = state, let image, image.session == session, told.standby == image.identity,
            told.term >= seen
        else { return }
        register = told
        seen = told.term
        actions.append(.persist(record))
    }

    mutating func loseLink(_ session: SessionID, _ actions: inout [Action]) {
        guard let image, image.session == session else { return }
        switch state {
        case .preparing, .receiving:
            drop(&actions)
        case .holding, .consulting:
            handOver = nil
            actions += [.discard(after: staged), .reportPrimaryLost]
            primaryIsSilent = true
            if rule.isManual { beOrphaned(image, &actions) } else { arbitrate(&actions) }
        default:
            break
        }
    }

    mutating func beDismissed(_ session: SessionID, _ actions: inout [Action]) {
        guard let image, image.session == session else { return }
        switch state {
        case .preparing, .receiving, .holding, .consulting:
            actions += [.confirmDismissal(session), .closeLink]
            drop(&actions)
        default:
            // What was asked of the arbiter decides.
            break
        }
    }

    mutating func giveUp(_ actions: inout [Action]) {
        switch state {
        case .orphaned, .failed: drop(&actions)
        case .arbitrating where request == nil: drop(&actions)
        case .arbitrating:
            actions.append(
                .refuseCommand("the arbiter was asked whether \(node) goes on: the answer must come first"))
        case .preparing, .receiving, .holding:
            actions.append(.refuseCommand("the primary is there: end protection there"))
        case .none, .takingOver, .consulting, .loading, .resuming, .returning, .running:
            actions.append(.refuseCommand("there is no image to give up"))
        }
    }

    mutating func loseImage(_ reason: String, _ actions: inout [Action]) {
        switch state {
        case .arbitrating where loading == .refused, .takingOver where loading == .refused:
            // A QEMU that refused the state ends; that it did is known.
            break
        case .preparing, .receiving, .holding, .orphaned, .arbitrating, .takingOver:
            actions += [.report("the image is lost: \(reason)"), .closeLink]
            drop(&actions)
        case .consulting, .loading:
            loseHandedOver(reason, &actions)
        case .none, .resuming, .returning, .running, .failed:
            break
        }
    }

    /// I13: what was true of this image is true of no other.
    mutating func drop(_ actions: inout [Action]) {
        stopFencing(&actions)
        primaryIsSilent = false
        actions.append(.dismantle)
        (image, request, handOver) = (nil, nil, nil)
        (staged, applied, loading) = (.firstCopy, .firstCopy, .waiting)
        state = .none
    }
}
