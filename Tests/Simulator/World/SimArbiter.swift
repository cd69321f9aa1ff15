import Model

/// A linearizable register with what goes wrong around it.
struct SimArbiter {
    var register: Register?
    var isUp = true
    var slowUntil = 0
    /// Which store it is; requests on their way to an earlier one are gone with its connections.
    var store = 0
    private var answers: [(nonce: Nonce, answer: RegisterAnswer)] = []

    /// Compares and sets; the same nonce is answered alike and takes effect once.
    mutating func compareAndSet(
        expecting: Register?, new: Register, nonce: Nonce, mutant: Mutant?
    ) -> RegisterAnswer {
        if let known = answers.last(where: { $0.nonce == nonce }) { return known.answer }
        var isExpected = register?.term == expecting?.term
        if mutant == .comparesOwnerOnly, let register, let expecting {
            isExpected = register.owner == expecting.owner && register.mode == expecting.mode
        }
        let answer: RegisterAnswer
        if isExpected {
            register = new
            answer = .applied(new)
        } else {
            answer = .conflict(register)
        }
        // A conflict changed nothing, so only what took effect has to be known again.
        if case .applied = answer { answers.append((nonce, answer)) }
        return answer
    }

    mutating func forget() {
        store += 1
        register = nil
        answers = []
    }
}
