import Model
import Protocol

let alpha = NodeName("alpha").unsafelyUnwrapped
let beta = NodeName("beta").unsafelyUnwrapped
let standby = StandbyIdentity(node: beta, incarnation: 42)

/// A primary on alpha that is driven by answers: the register lives in the test.
struct PrimaryScene {
    var machine: PrimaryMachine
    var register: Register?
    /// All actions since the last call of `take`.
    private var actions: [PrimaryMachine.Action] = []

    init(
        _ rule: Rule = .arbiter, guest: PrimaryMachine.Guest = .fresh(overridesRegister: false),
        record: LocalRecord = LocalRecord(), register: Register? = nil,
        reprotection: PrimaryMachine.Reprotection = .automatic, fences: Set<NodeName> = [], seed: UInt64 = 7
    ) {
        machine = PrimaryMachine(
            node: alpha, rule: rule, reprotection: reprotection, guest: guest, level: .system,
            record: record, fences: fences, seed: seed)
        self.register = register
    }

    @discardableResult mutating func feed(_ event: PrimaryMachine.Event) -> [PrimaryMachine.Action] {
        let new = machine.handle(event)
        actions += new
        return new
    }

    /// Answers everything that was asked, as a healthy arbiter and disk do, until nothing is left to answer.
    @discardableResult mutating func settle() -> [PrimaryMachine.Action] {
        var seen: [PrimaryMachine.Action] = []
        while !actions.isEmpty {
            let batch = actions
            actions = []
            for action in batch {
                seen.append(action)
                switch action {
                case .readRegister: feed(.registerRead(register))
                case .compareAndSet(let expecting, let new, let nonce):
                    if register == expecting {
                        register = new
                        feed(.answered(nonce, .applied(new)))
                    } else {
                        feed(.answered(nonce, .conflict(register)))
                    }
                case .persist(let record): feed(.persisted(record.seen))
                default: break
                }
            }
        }
        return seen
    }

    /// Forgets what was asked: nobody answers.
    mutating func ignore() { actions = [] }

    var session: SessionID {
        if case .offering(let id, _) = machine.state { return id }
        return machine.session?.id ?? .none
    }

    static func solo(_ rule: Rule = .arbiter, fences: Set<NodeName> = []) -> PrimaryScene {
        var scene = PrimaryScene(rule, fences: fences)
        scene.feed(.started)
        scene.settle()
        return scene
    }

    static func copying(_ rule: Rule = .arbiter, fences: Set<NodeName> = []) -> PrimaryScene {
        var scene = solo(rule, fences: fences)
        scene.feed(.candidate(beta, asked: false))
        scene.feed(.accepted(scene.session, standby))
        scene.settle()
        return scene
    }

    /// Checkpoint 1 is sealed and not acknowledged.
    static func pairing(_ rule: Rule = .arbiter, fences: Set<NodeName> = []) -> PrimaryScene {
        var scene = copying(rule, fences: fences)
        scene.feed(.sealed(scene.session, Epoch(1)))
        scene.settle()
        return scene
    }

    /// Three epochs are sealed, one is acknowledged.
    static func paired(_ rule: Rule = .arbiter, fences: Set<NodeName> = []) -> PrimaryScene {
        var scene = pairing(rule, fences: fences)
        scene.feed(.acknowledged(scene.session, Epoch(1), digestMatches: true))
        scene.settle()
        for epoch in 2...3 { scene.feed(.sealed(scene.session, Epoch(UInt64(epoch)))) }
        scene.ignore()
        return scene
    }

    /// The register as beta would have won it from what it is now.
    func takenOver() -> Register {
        var taken = register ?? machine.register.unsafelyUnwrapped
        taken.term = Term(taken.term.number + 1)
        taken.owner = beta
        taken.mode = .solo
        taken.session = .none
        taken.standby = nil
        return taken
    }
}

let offer = SessionOffer(
    session: SessionID(11), term: Term(4), lineage: Lineage(5), level: .system, primary: alpha)

/// A standby on beta.
struct StandbyScene {
    var machine: StandbyMachine

    init(
        _ rule: Rule = .arbiter, record: LocalRecord = LocalRecord(), fences: Set<NodeName> = [], boots: Bool = false
    ) {
        machine = StandbyMachine(
            node: beta, rule: rule, record: record, fences: fences, bootsFromDisk: boots, seed: 9)
    }

    @discardableResult mutating func feed(_ event: StandbyMachine.Event) -> [StandbyMachine.Action] {
        machine.handle(event)
    }

    static func receiving(
        _ rule: Rule = .arbiter, fences: Set<NodeName> = [], isPromised: Bool = true, boots: Bool = false
    ) -> StandbyScene {
        var scene = StandbyScene(rule, fences: fences, boots: boots)
        var offer = offer
        offer.waits = isPromised && rule != .arbiter
        scene.feed(.offered(offer))
        scene.feed(.persisted(offer.term))
        scene.feed(.prepared(offer.session))
        return scene
    }

    /// Two epochs are staged, one is applied, and the register was told.
    static func holding(
        _ rule: Rule = .arbiter, fences: Set<NodeName> = [], isPromised: Bool = true, boots: Bool = false
    ) -> StandbyScene {
        var scene = receiving(rule, fences: fences, isPromised: isPromised, boots: boots)
        scene.feed(.staged(offer.session, Epoch(1)))
        scene.feed(.applied(offer.session, Epoch(1)))
        scene.feed(.registerTold(offer.session, scene.pair))
        scene.feed(.staged(offer.session, Epoch(2)))
        return scene
    }

    static func arbitrating() -> StandbyScene {
        var scene = holding()
        scene.feed(.linkLost(offer.session))
        return scene
    }

    /// The register that names this standby's image.
    var pair: Register {
        Register(
            term: Term(5), owner: alpha, mode: .paired, session: offer.session, standby: machine.image?.identity,
            lineage: offer.lineage, level: .system)
    }

    func solo(_ owner: NodeName, term: UInt64) -> Register {
        Register(
            term: Term(term), owner: owner, mode: .solo, session: .none, standby: nil, lineage: offer.lineage,
            level: .system)
    }
}

extension [PrimaryMachine.Action] {
    var fencing: Nonce? {
        for case .fencePeer(beta, let nonce) in self { return nonce }
        return nil
    }
    var request: (expecting: Register?, new: Register, nonce: Nonce)? {
        for case .compareAndSet(let expecting, let new, let nonce) in self { return (expecting, new, nonce) }
        return nil
    }
    /// Without what is only said.
    var deeds: [PrimaryMachine.Action] {
        filter {
            switch $0 {
            case .report, .refuseSwitchover: false
            default: true
            }
        }
    }
    var releasesFreely: Bool { contains(.releaseEverything) }
}

extension [StandbyMachine.Action] {
    var fencing: Nonce? {
        for case .fencePeer(alpha, let nonce) in self { return nonce }
        return nil
    }
    var request: (expecting: Register?, new: Register, nonce: Nonce)? {
        for case .compareAndSet(let expecting, let new, let nonce) in self { return (expecting, new, nonce) }
        return nil
    }
    var deeds: [StandbyMachine.Action] { filter { if case .report = $0 { false } else { true } } }
}
