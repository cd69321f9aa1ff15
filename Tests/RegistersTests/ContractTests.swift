import Model
import Registers
import Synchronization
import TestBed
import Testing

/// What every arbiter must do, asked of each in turn: the witness, one etcd, three of them, one with TLS.
@Suite(.timeLimit(.minutes(3))) struct ContractTests {
    enum Kind: String, CaseIterable, Sendable { case witness, etcd, threeEtcds, etcdOverTLS }

    /// `make` gives a client with a memory of its own for each name.
    struct Bed {
        var make: (_ name: String) throws -> any Arbiter
        /// A port to put a proxy before, and a client that goes through the proxy's.
        var port: Int
        var through: (_ port: Int, _ timeout: Duration) throws -> any Arbiter
        /// Replies of the server that a compare-and-set needs before the one that says how it ended.
        var repliesBefore: Int
    }

    static func with(_ kind: Kind, _ body: (Bed, Scratch) async throws -> Void) async throws {
        try await Scratch.with { scratch in
            switch kind {
            case .witness:
                let witness = try await WitnessBed(scratch)
                try await body(
                    Bed(
                        make: { try witness.client($0.hasPrefix("b") ? "beta" : "alpha", memory: $0) },
                        port: witness.port,
                        through: {
                            try witness.client(memory: "proxied", at: (scratch.address, $0), timeout: $1)
                        }, repliesBefore: 0),
                    scratch)
                await witness.stop()
            case .etcd, .threeEtcds, .etcdOverTLS:
                let trust = kind == .etcdOverTLS ? try Trust(scratch) : nil
                try await EtcdBed.with(scratch, members: kind == .threeEtcds ? 3 : 1, trust: trust) { etcd in
                    let (scheme, port) = try #require(endpoint(etcd.endpoints[0]))
                    try await body(
                        Bed(
                            make: { try etcd.arbiter($0) }, port: port,
                            through: {
                                try etcd.arbiter(
                                    "proxied", endpoints: ["\(scheme)://\(scratch.address):\($0)"], timeout: $1)
                            },
                            repliesBefore: 1), scratch)
                }
            }
        }
    }

    static func endpoint(_ url: String) -> (scheme: String, port: Int)? {
        guard let port = url.split(separator: ":").last.flatMap({ Int($0) }) else { return nil }
        return (url.hasPrefix("https") ? "https" : "http", port)
    }

    @Test(arguments: Kind.allCases) func theContract(kind: Kind) async throws {
        try await Self.with(kind) { bed, _ in
            let (alpha, beta) = (try bed.make("alpha"), try bed.make("beta"))
            try await claimReadReplay(alpha, beta)
            try await refusals(alpha, beta)
            try await everyField(alpha, beta)
            await alpha.close()
            await beta.close()
            #expect(await alpha.read(vm("web")).doubt != nil, "a closed arbiter answers nothing")
            try await oneOfManyWins(bed)
        }
    }

    private func claimReadReplay(_ alpha: any Arbiter, _ beta: any Arbiter) async throws {
        #expect(await alpha.read(vm("web")) == .value(nil))
        func claim(_ arbiter: any Arbiter, _ expected: Register?, _ new: Register, _ nonce: UInt64) async
            -> RegisterAnswer
        {
            await arbiter.compareAndSet(vm("web"), expecting: expected, to: new, nonce: Nonce(nonce))
        }
        #expect(await claim(alpha, nil, register(1), 1) == .applied(register(1)))
        #expect(await beta.read(vm("web")) == .value(register(1)))
        #expect(await beta.read(vm("other")) == .value(nil))
        #expect(await claim(alpha, nil, register(1), 1) == .applied(register(1)), "replayed")
        #expect(await claim(alpha, nil, register(1), 2) == .conflict(register(1)), "another nonce is another request")
        #expect(await claim(alpha, nil, register(2), 1) == .conflict(register(1)), "the nonce of another request")
        #expect(await claim(beta, register(1), register(2, owner: "beta"), 3) == .applied(register(2, owner: "beta")))
        #expect(
            await claim(alpha, nil, register(1), 1) == .conflict(register(2, owner: "beta")),
            "a late copy of a request does nothing")
        #expect(await alpha.read(vm("web")) == .value(register(2, owner: "beta")))
    }

    private func refusals(_ alpha: any Arbiter, _ beta: any Arbiter) async throws {
        let web = vm("refusals")
        let first = register(5, standby: "beta")
        #expect(await alpha.compareAndSet(web, expecting: nil, to: first, nonce: Nonce(1)) == .applied(first))
        for (expected, new) in [
            (first, register(5)), (first, register(4)), (first, register(0)),
            (register(5, owner: "beta"), register(6)), (register(5), register(6)),
        ] {
            let answer = await beta.compareAndSet(web, expecting: expected, to: new, nonce: Nonce(2))
            #expect(answer == .conflict(first), "from \(expected.term) of \(expected.owner) to \(new.term)")
        }
        #expect(await beta.read(web) == .value(first))
    }

    private func everyField(_ alpha: any Arbiter, _ beta: any Arbiter) async throws {
        let name = vm(String(repeating: "x", count: 64))
        let last = Register(
            term: Term(.max), owner: node(String(repeating: "y", count: 64)), mode: .paired, session: SessionID(.max),
            standby: StandbyIdentity(node: node("-_.z".replacing("-", with: "0")), incarnation: .max - 1),
            lineage: Lineage(.max - 2), level: .component)
        let answer = await alpha.compareAndSet(name, expecting: nil, to: last, nonce: Nonce(.max))
        #expect(answer == .applied(last))
        #expect(await beta.read(name) == .value(last))
    }

    /// Eight claimants, ten terms: each term has one winner, and the others hear who.
    private func oneOfManyWins(_ bed: Bed) async throws {
        let names = (0..<8).map { "\($0 % 2 == 0 ? "alpha" : "beta")-\($0)" }
        let arbiters = try names.map { try bed.make($0) }
        var current: Register?
        for term in UInt64(1)...10 {
            let expected = current
            let answers = await withTaskGroup(of: (String, RegisterAnswer).self) { group in
                for (name, arbiter) in zip(names, arbiters) {
                    group.addTask {
                        let new = register(term, owner: name)
                        let nonce = Nonce(UInt64(bitPattern: Int64(name.hashValue)) &+ term)
                        return (
                            name, await arbiter.compareAndSet(vm("many"), expecting: expected, to: new, nonce: nonce)
                        )
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            let winners = answers.filter { $0.1 == .applied(register(term, owner: $0.0)) }
            try #require(winners.count == 1, "term \(term): \(answers)")
            let won = register(term, owner: winners[0].0)
            #expect(answers.count { $0.1 == .conflict(won) } == names.count - 1, "term \(term): \(answers)")
            current = won
        }
        for arbiter in arbiters { await arbiter.close() }
    }

    /// The request arrives, its answer does not: that is unknown, and afterwards a reading and the same nonce tell.
    @Test(arguments: [Kind.witness, .etcd, .etcdOverTLS]) func aLostAnswerIsFoundOutAfterwards(kind: Kind) async throws
    {
        try await Self.with(kind) { bed, scratch in
            let proxy = try await CuttingProxy(to: (scratch.address, bed.port), group: scratch.group)
            let direct = try bed.make("direct")
            let arbiter = try bed.through(proxy.port, .seconds(10))
            // Connections are made, TLS is up.
            #expect(await arbiter.read(vm("web")) == .value(nil))
            proxy.cut(after: bed.repliesBefore)
            let lost = await arbiter.compareAndSet(vm("web"), expecting: nil, to: register(1), nonce: Nonce(7))
            #expect(lost.doubt != nil, "\(lost)")
            #expect(await direct.read(vm("web")) == .value(register(1)), "it took effect all the same")
            proxy.heal()
            #expect(await arbiter.read(vm("web")) == .value(register(1)))
            let again = await arbiter.compareAndSet(vm("web"), expecting: nil, to: register(1), nonce: Nonce(7))
            #expect(again == .applied(register(1)))
            let other = await arbiter.compareAndSet(vm("web"), expecting: nil, to: register(1), nonce: Nonce(8))
            #expect(other == .conflict(register(1)))

            // A connection that breaks once does not even show.
            proxy.cut(after: bed.repliesBefore, healsByItself: true)
            let second = await arbiter.compareAndSet(
                vm("web"), expecting: register(1), to: register(2), nonce: Nonce(9))
            #expect(second == .applied(register(2)))
            await arbiter.close()
            await direct.close()
            try await proxy.close()
        }
    }
}
