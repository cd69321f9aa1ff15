import Model

/// When the gate before a guest's NICs may be open, for levels whose output does not wait for acknowledgements.
///
/// The arbiter has no timers. The owner asks it over and over whether the register still names it (and asks the standby
/// for its promise, so that the arbiter may be away); an answer keeps the gate open for a lease, counted *from before
/// the question was sent* (I27). Who takes over first wins the register and then waits until every answer that came before
/// that has run out (I26). Time comes in with each event, as nanoseconds of this host's CLOCK_BOOTTIME; two hosts' times
/// are never compared. `docs/GATE.md` has the table and the arithmetic.
public struct LeaseMachine: Sendable, Equatable {
    public enum State: Sendable, Equatable {
        /// This host neither runs the guest nor may promise anything.
        case idle
        /// The register of this term names this host as the standby, and it has not asked to take over.
        case promising(Term)
        /// This host asked to take over from that term; it promises nothing any more.
        case asking(Term)
        /// The register is won; the former owner's gate may be open until then, and nothing starts without a
        /// confirmation.
        case waiting(Term, until: UInt64)
        /// The guest may run here, and no confirmation is in force.
        case shut(Term)
        /// The gate may be open until then.
        case open(Term, until: UInt64)
    }

    public enum Source: String, Sendable, Hashable, CaseIterable {
        /// Read the register, past all caches.
        case arbiter
        /// Ask the standby that the register names for its promise.
        case standby
    }

    public enum Claim: Sendable, Hashable {
        /// The former term was this host's too, and it is so by this life of the agent, or by a guest that was found
        /// running here: no other gate can be open that was not waited for already.
        case goingOn
        /// The guest is to start here, be it for the first time or after a restart of the agent or the host.
        case toStart
        /// The guest ran here under the former term, its QEMU is proven dead, and it is to start here again. Its first start
        /// was waited for, and nobody else was let start since.
        case restarting
    }

    public enum Event: Sendable, Equatable {
        /// The register names this host as the standby of this term: told by its owner, in a session.
        case standsBy(Term)
        /// This host is about to ask for the register of the term after this one.
        case asksToTakeOver(Term)
        /// The compare-and-set came out as this host's term, in whatever way it was learned.
        case won(Term, Claim)
        /// `nextTimer` has come.
        case timer
        /// The answer to a question: at this term the register names this host, or the standby promises.
        case confirmed(question: UInt64, Term)
        /// The register names another owner, at this term.
        case denied(Term)
        /// The owner asks for this host's promise.
        case promiseAsked(question: UInt64, Term)
        /// The former owner's host was switched off after the register was won: confirmed by what switched it off, not
        /// only asked for.
        case peerFenced
        /// The kernel had shut the gate when it was to be renewed.
        case hadShut
        /// The guest is gone, or its output waits for acknowledgements from now on.
        case ended
    }

    /// What the shell has to do, in the order of the list.
    public enum Action: Sendable, Equatable {
        /// Ask; the answer comes back with this number as `confirmed` or `denied`, an answer that does not come is none.
        case ask(Source, question: UInt64)
        /// Tell the owner that this host will not run the guest before `LeaseTiming.wait` has passed.
        case promise(question: UInt64, Term)
        /// `KernelGate.open`, `KernelGate.renew`, `KernelGate.close`. `hadShut` follows a renewal that is refused.
        case open(until: UInt64)
        case renew(until: UInt64)
        case close
        /// The guest may start. Where that is carried out late, it starts behind a gate that is shut.
        case mayRun
        /// One sentence for the operator and the journal.
        case report(String)
    }

    private struct Question: Sendable, Equatable {
        var number: UInt64
        var askedAt: UInt64
    }

    public let timing: LeaseTiming
    public private(set) var state = State.idle
    /// Those whose answers would still be worth something.
    private var questions: [Question] = []
    /// Until when the newest confirmation carries; 0 for none.
    private var confirmedUntil: UInt64 = 0
    private var nextQuestion: UInt64?
    /// The highest term that this host asked to take over.
    private var askedTerm = Term(0)
    private var random: RandomSource

    /// - Parameter seed: random and new for each life, so that an answer to an earlier life's question is known as such;
    ///   a second line of defence behind the term, which each life claims anew (I14).
    public init(timing: LeaseTiming = .standard, seed: UInt64) {
        self.timing = timing
        random = RandomSource(seed: seed)
    }

    /// When `timer` is due; nil for never.
    public var nextTimer: UInt64? {
        switch state {
        case .idle, .promising, .asking: nil
        // Without a confirmation that is then in force there is nothing to do when the wait is over.
        case .waiting(_, let until) where confirmedUntil <= until: nextQuestion
        case .waiting(_, let until), .open(_, let until): min(until, nextQuestion ?? until)
        case .shut: nextQuestion
        }
    }

    /// The term under which this host owns the register, as far as it knows.
    public var term: Term? {
        switch state {
        case .idle, .promising, .asking: nil
        case .waiting(let term, _), .shut(let term), .open(let term, _): term
        }
    }

    public mutating func handle(_ event: Event, at now: UInt64) -> [Action] {
        switch event {
        case .standsBy(let term):
            // Owners win terms; nobody is the standby of one that it has asked to end.
            if self.term == nil, term > askedTerm { state = .promising(term) }
            return []
        case .asksToTakeOver(let term):
            guard self.term == nil else { return [] }
            askedTerm = max(askedTerm, term)
            state = .asking(term)
            return []
        case .promiseAsked(let question, let term):
            return state == .promising(term) ? [.promise(question: question, term)] : []
        case .won(let term, let claim): return win(term, claim, now)
        case .timer: return advance(now)
        case .confirmed(let number, let term): return confirm(number, term, now)
        case .denied(let term):
            guard let own = self.term, term > own else { return [] }
            stop()
            return [.close, .report("the register names another owner at term \(term): the gate is shut")]
        case .peerFenced:
            guard case .waiting(let term, _) = state else { return [] }
            state = .waiting(term, until: now)
            return advance(now)
        case .hadShut:
            guard case .open(let term, _) = state else { return [] }
            state = .shut(term)
            // What was asked before proves nothing that the kernel did not know.
            questions = []
            confirmedUntil = 0
            nextQuestion = now
            return [.report("the kernel had shut the gate before it was renewed: this host was too slow")]
                + advance(now)
        case .ended:
            guard self.term != nil else { return [] }
            stop()
            return [.close]
        }
    }

    private mutating func stop() {
        state = .idle
        questions = []
        confirmedUntil = 0
        nextQuestion = nil
    }

    private mutating func win(_ term: Term, _ claim: Claim, _ now: UInt64) -> [Action] {
        if let own = self.term, term <= own { return [] }
        var actions: [Action] = []
        switch (state, claim) {
        case (.waiting(_, let until), .goingOn):
            // A term that was won while the former owner was waited for does not shorten that.
            state = .waiting(term, until: until)
        case (.open(_, let until), .goingOn): state = .open(term, until: until)
        case (_, .goingOn): state = .shut(term)
        case (_, .toStart):
            if case .open = state { actions.append(.close) }
            state = .waiting(term, until: now + timing.wait)
        case (.waiting(_, let until), .restarting):
            // What is still waited for never ran here, whatever it is that died.
            state = .waiting(term, until: until)
        case (_, .restarting):
            if case .open = state { actions.append(.close) }
            // A confirmation of this term is all that is waited for.
            state = .waiting(term, until: now)
            (confirmedUntil, questions) = (0, [])
        }
        nextQuestion = now
        return actions + advance(now)
    }

    /// Does what is due by now.
    private mutating func advance(_ now: UInt64) -> [Action] {
        guard let term else { return [] }
        var actions: [Action] = []
        if let due = nextQuestion, due <= now {
            questions.removeAll { $0.askedAt + timing.length <= now }
            for source in Source.allCases {
                let question = Question(number: random.next(), askedAt: now)
                questions.append(question)
                actions.append(.ask(source, question: question.number))
            }
            nextQuestion = now + timing.interval
        }
        switch state {
        case .waiting(_, let until) where until <= now: actions += openIfConfirmed(term, now)
        case .open(_, let until) where until <= now:
            state = .shut(term)
            actions.append(
                .report("neither the arbiter nor the standby confirmed this host in time: its gate is shut"))
        default: break
        }
        return actions
    }

    private mutating func confirm(_ number: UInt64, _ term: Term, _ now: UInt64) -> [Action] {
        // A later term of this host's own, not yet known as won, may be that of another life; it confirms nothing.
        guard term == self.term, let index = questions.firstIndex(where: { $0.number == number }) else { return [] }
        let until = questions.remove(at: index).askedAt + timing.length
        guard until > confirmedUntil, until > now else { return [] }
        confirmedUntil = until
        switch state {
        case .shut: return openIfConfirmed(term, now)
        case .waiting(_, let until) where until <= now: return openIfConfirmed(term, now)
        case .open(_, let before) where before <= now:
            // The timer has not come yet; the kernel's has.
            return openIfConfirmed(term, now)
        case .open:
            state = .open(term, until: until)
            return [.renew(until: until)]
        default: return []
        }
    }

    /// A guest starts under a confirmation too: who stood still during the wait may have been deposed meanwhile.
    private mutating func openIfConfirmed(_ term: Term, _ now: UInt64) -> [Action] {
        guard confirmedUntil > now else {
            confirmedUntil = 0
            return []
        }
        var actions: [Action] = []
        if case .waiting = state { actions.append(.mayRun) }
        state = .open(term, until: confirmedUntil)
        return actions + [.open(until: confirmedUntil)]
    }
}
