import Model
import Protocol

/// The way to the arbiter and back, and what the asker's shell makes of it.
extension World {
    func ask(_ kind: Question.Kind, _ host: Host) {
        let question = Question(id: newID(), host: host.index, life: host.life, kind: kind)
        host.question = question.id
        guard case .read = kind else {
            host.readings = 0
            return send(question, from: host)
        }
        if host.readings > 0 {
            later(host, min(50 << min(host.readings - 1, 5), 1000), .ask(question))
        } else {
            send(question, from: host)
        }
        host.readings += 1
    }

    func send(_ question: Question, from host: Host) {
        guard host.question == question.id else { return }
        later(host, 150, .questionTimesOut(question))
        guard cutToArbiter[host.index] <= now else { return }
        var question = question
        question.store = arbiter.store
        var delay = random.within(1...10)
        if arbiter.slowUntil > now { delay += random.within(0...1500) }
        if !isHealing, random.chance(perMille: plan.lateRequests) { delay += random.within(100...2500) }
        queue.add(.request(question), at: now + delay)
        if !isHealing, random.chance(perMille: plan.doubleRequests) {
            queue.add(.request(question), at: now + delay + random.within(1...2500))
        }
    }

    func arriveAtArbiter(_ question: Question) {
        guard arbiter.isUp, question.store == arbiter.store else { return }
        let host = hosts[question.host]
        let reply: AgentWork
        var delay = 0
        switch question.kind {
        case .read:
            reply = .answerRead(question: question.id, arbiter.register)
        case .lease(let number):
            reply = .leaseAnswer(question: number, mutant == .readsLeaseFromCopy ? lagging : arbiter.register)
            if !isHealing, levelRandom.chance(perMille: plan.lateRequests) { delay += levelRandom.within(100...700) }
        case .compareAndSet(let expecting, let new, let nonce):
            let before = arbiter.register
            let answer = arbiter.compareAndSet(
                expecting: expecting, new: new,
                nonce: mutant == .reusesNonces ? Nonce(UInt64(2 * question.life + question.host + 1)) : nonce,
                mutant: mutant)
            if arbiter.register != before {
                replaced.append((before, now))
                trace("arbiter: \(describe(before)) -> \(describe(arbiter.register)), asked by \(host.name)")
                if mutant != .comparesOwnerOnly, mutant != .trustsEmptyArbiter {
                    registers.change(before, to: new, &verdict)
                }
                // Whichever life asked: the term that older requests expect is burnt in this one.
                if new.owner == host.name { host.hasClaimed = true }
                if mutant == .arbiterLosesWrites, random.chance(perMille: 100) { arbiter.register = before }
            }
            reply = .answer(question, answer)
            if mutant == .trustsEmptyArbiter, case .conflict(nil) = answer {
                queue.add(
                    .request(
                        Question(
                            id: question.id, host: question.host, life: question.life, store: question.store,
                            kind: .compareAndSet(expecting: nil, new: new, nonce: nonce))), at: now + 5)
                return
            }
        }
        guard cutFromArbiter[question.host] <= now, isHealing || !random.chance(perMille: plan.lostReplies) else {
            return
        }
        queue.add(.agent(question.host, life: question.life, reply), at: now + delay + random.within(1...10))
    }

    /// I34: nothing stands still, or is used up, for a question to an arbiter that did not answer the one before.
    func checkAnswered(_ host: Host, since asked: Int, _ what: String) {
        guard plan.rule == .arbiter, host.answeredAt < asked else { return }
        verdict.fail("I34", "\(what), and the arbiter did not answer it since step \(asked)")
    }

    func take(_ answer: RegisterAnswer, to question: Question, _ host: Host) {
        host.answeredAt = now
        guard host.question == question.id, case .compareAndSet(_, _, let nonce) = question.kind else { return }
        if mutant == .ignoresConflict, case .conflict = answer { return }
        host.question = 0
        feedAnswer(answer, nonce, host)
    }

    func take(_ register: Register?, to question: Int, _ host: Host) {
        guard host.question == question else { return }
        host.question = 0
        host.answeredAt = now
        var register = register
        if mutant == .skipsEligibility, let replica = host.replica, host.standby != nil, register?.owner != host.name {
            register?.standby = replica.identity
            register?.session = replica.session
            register?.mode = .paired
        }
        if mutant == .ignoresConflict, host.primary != nil, let found = register, found.owner != host.name {
            register = host.primary?.machine.register
        }
        if host.primary != nil {
            tellPrimary(host) { $0.learn(.read(register)) }
        } else {
            tellStandby(host) { $0.learn(.read(register)) }
        }
    }

    func timeOut(_ question: Question, _ host: Host) {
        guard host.question == question.id else { return }
        host.question = 0
        switch question.kind {
        case .read:
            if host.primary != nil {
                tellPrimary(host) { $0.learn(.unreadable("no answer")) }
            } else {
                tellStandby(host) { $0.learn(.unreadable("no answer")) }
            }
        case .compareAndSet(_, let new, let nonce):
            feedAnswer(mutant == .takesSilenceForYes ? .applied(new) : .unknown("no answer"), nonce, host)
        case .lease: break
        }
    }

    /// The register as a copy has it that lags behind.
    private var lagging: Register? { replaced.first { $0.until > now - 1500 }?.register ?? arbiter.register }

    func feedAnswer(_ answer: RegisterAnswer, _ nonce: Nonce, _ host: Host) {
        if case .unknown = answer, let machine = host.primary?.machine, machine.isTurning {
            let isFalling = machine.level.holdsOutput
            if mutant == (isFalling ? .takesUnknownTurnForDone : .takesUnknownTurnForFailed) {
                if host.guest?.gate == .holding { host.guest?.gate = .detached }
                letOutAllFreely(host)
            }
        }
        if host.primary != nil {
            tellPrimary(host) { $0.learn(.answered(nonce, answer)) }
        } else {
            tellStandby(host) { $0.learn(.answered(nonce, answer)) }
        }
    }

    func describe(_ register: Register?) -> String {
        guard let register else { return "nothing" }
        return "\(register.term)/\(register.owner)/\(register.mode.rawValue)"
            + (register.standby.map { "(\($0.node) \($0.incarnation % 1000))" } ?? "")
    }
}
