import Foundation
import Model
import NIOCore
import Registers
import Synchronization
import TestBed
import Testing
import Transport
import Wire

/// Arbiters that die, come back, forget or are not who they should be.
@Suite(.timeLimit(.minutes(3))) struct FaultTests {
    /// Several claimants that go on through everything: each term is won once at most, by the one whose register is then
    /// there, and a claim of which nobody knows is asked about until it is known.
    final class Race: Sendable {
        struct Standing {
            var highest: UInt64 = 0
            var winners: [UInt64: String] = [:]
            var wonTwice: [UInt64] = []
            var doubts = 0
        }
        private let state = Mutex(Standing())
        var standing: Standing { state.withLock { $0 } }

        func run(_ arbiters: [(name: String, arbiter: any Arbiter)], until last: UInt64) async {
            await withTaskGroup(of: Void.self) { group in
                for (name, arbiter) in arbiters {
                    group.addTask { await self.run(name, arbiter, until: last) }
                }
            }
        }

        private func run(_ name: String, _ arbiter: any Arbiter, until last: UInt64) async {
            var nonce = UInt64(bitPattern: Int64(name.hashValue)) & ~0xffff_ffff
            while !Task.isCancelled {
                guard case .value(let current) = await arbiter.read(vm("web")) else {
                    state.withLock { $0.doubts += 1 }
                    continue
                }
                let term = current?.term.number ?? 0
                state.withLock { $0.highest = max($0.highest, term) }
                if term >= last { return }
                nonce += 1
                let new = register(term + 1, owner: name)
                var answer: RegisterAnswer
                repeat {
                    answer = await arbiter.compareAndSet(vm("web"), expecting: current, to: new, nonce: Nonce(nonce))
                    if answer.doubt != nil { state.withLock { $0.doubts += 1 } }
                } while answer.doubt != nil && !Task.isCancelled
                guard answer == .applied(new) else { continue }
                state.withLock { state in
                    if state.winners.updateValue(name, forKey: term + 1) != nil { state.wonTwice.append(term + 1) }
                }
            }
        }

        func reached(_ term: UInt64) async throws {
            try await eventually("term \(term)", within: .seconds(60)) { standing.highest >= term ? true : nil }
        }
    }

    @Test func etcdLosesItsLeader() async throws {
        try await Scratch.with { scratch in
            try await EtcdBed.with(scratch, members: 3) { etcd in
                let names = ["alpha", "beta", "gamma", "delta"]
                let arbiters = try names.map { ($0, try etcd.arbiter($0, attemptTimeout: .milliseconds(500))) }
                let race = Race()
                async let end: Void = race.run(arbiters, until: 150)
                for term in [UInt64(30), 80] {
                    try await race.reached(term)
                    let leader = try await etcd.leader()
                    try await etcd.kill(leader)
                    try await race.reached(term + 25)
                    try etcd.start(leader)
                }
                await end
                let standing = race.standing
                #expect(standing.wonTwice == [])
                // A win that was answered only when the next one had it already is nobody's; each cost a doubt.
                #expect(150 - standing.winners.count <= standing.doubts)
                #expect(
                    await arbiters[0].1.read(vm("web")) == .value(register(150, owner: standing.winners[150] ?? "")))
                for (_, arbiter) in arbiters { await arbiter.close() }
            }
        }
    }

    @Test func aVMBelongsToTheHostsThatTheWitnessNames() async throws {
        try await Scratch.with { scratch in
            let witness = try await WitnessBed(scratch)
            let (alpha, beta) = (try witness.client("alpha"), try witness.client("beta"))
            let own = register(1, owner: "alpha")
            #expect(
                await alpha.compareAndSet(vm("private"), expecting: nil, to: own, nonce: Nonce(1)) == .applied(own))
            let given = register(2, owner: "beta")
            for (asker, nonce) in [(alpha, Nonce(2)), (beta, Nonce(3))] {
                guard
                    case .unknown(let reason) = await asker.compareAndSet(
                        vm("private"), expecting: own, to: given, nonce: nonce)
                else {
                    Issue.record("a host that a VM does not belong to became its owner")
                    continue
                }
                #expect(reason.contains("belongs to alpha"), "\(reason)")
            }
            guard case .unknown = await beta.read(vm("private")) else {
                Issue.record("a host read the register of a VM that is none of its own")
                return
            }
            #expect(await alpha.read(vm("private")) == .value(own))
            #expect(witness.reports["denied: private to alpha"] == 1)
            #expect(witness.reports["denied: private to beta"] == 2)
            await alpha.close()
            await beta.close()
            await witness.stop()
        }
    }

    @Test func theWitnessIsStoppedAndStartedAgain() async throws {
        try await Scratch.with { scratch in
            let witness = try await WitnessBed(scratch)
            let names = ["alpha", "beta", "alpha-2", "beta-2"]
            let arbiters = try names.map {
                ($0, try witness.client($0.hasPrefix("b") ? "beta" : "alpha", memory: $0))
            }
            let race = Race()
            async let end: Void = race.run(arbiters, until: 120)
            for term in [UInt64(30), 80] {
                try await race.reached(term)
                await witness.stop()
                try await witness.start()
            }
            await end
            let standing = race.standing
            #expect(standing.wonTwice == [])
            #expect(120 - standing.winners.count <= standing.doubts)
            #expect(await arbiters[0].1.read(vm("web")) == .value(register(120, owner: standing.winners[120] ?? "")))
            for (_, arbiter) in arbiters { await arbiter.close() }
            await witness.stop()
        }
    }

    @Test func whileNobodyAnswersNothingIsKnown() async throws {
        try await Scratch.with { scratch in
            let witness = try await WitnessBed(scratch)
            let client = try witness.client()
            #expect(await client.read(vm("web")) == .value(nil))
            await witness.stop()
            let reading = await client.read(vm("web"))
            #expect(
                reading.doubt?.contains("witness gamma at \(scratch.address):7320 gave no answer") == true,
                "\(reading)")
            let answer = await client.compareAndSet(vm("web"), expecting: nil, to: register(1), nonce: Nonce(1))
            #expect(answer.doubt != nil)
            try await witness.start()
            #expect(await client.read(vm("web")) == .value(nil), "what was not sent did not happen")
            await client.close()
            await witness.stop()
        }
    }

    @Test func aWitnessWithAnOldCopyIsNotUsed() async throws {
        try await Scratch.with { scratch in
            let witness = try await WitnessBed(scratch)
            let log = URL(fileURLWithPath: "\(witness.directory)/witness.log")
            func claim(_ term: UInt64) async throws -> RegisterAnswer {
                let client = try witness.client()
                let answer = await client.compareAndSet(
                    vm("web"), expecting: term == 1 ? nil : register(term - 1), to: register(term), nonce: Nonce(term))
                await client.close()
                return answer
            }
            #expect(try await claim(1) == .applied(register(1)))
            let old = try Data(contentsOf: log)
            #expect(try await claim(2) == .applied(register(2)))
            await witness.stop()
            try old.write(to: log)
            try await witness.start()

            let client = try witness.client()
            let reading = await client.read(vm("web"))
            #expect(reading.doubt?.contains("it knows term 1 of web and this node saw term 2") == true, "\(reading)")
            let answer = await client.compareAndSet(
                vm("web"), expecting: register(1), to: register(3), nonce: Nonce(9))
            #expect(answer.doubt?.contains("is not used") == true, "\(answer)")
            #expect(witness.reports["amnesic"] == 2)
            // One that saw nothing yet cannot tell; it sees that nothing was changed.
            let beta = try witness.client("beta")
            #expect(await beta.read(vm("web")) == .value(register(1)))
            await client.close()
            await beta.close()
            await witness.stop()
        }
    }

    @Test func aWitnessWithAnotherStoreIsNotUsed() async throws {
        try await Scratch.with { scratch in
            let witness = try await WitnessBed(scratch)
            let first = try witness.client()
            #expect(await first.read(vm("web")) == .value(nil))
            await first.close()
            await witness.stop()
            try FileManager.default.removeItem(atPath: "\(witness.directory)/witness.log")
            try await witness.start()
            let client = try witness.client()
            let answer = await client.compareAndSet(vm("web"), expecting: nil, to: register(1), nonce: Nonce(1))
            #expect(answer.doubt?.contains("its disk was lost or it was replaced") == true, "\(answer)")
            await client.close()
            // Enrolled anew, by the operator's hand.
            try FileManager.default.removeItem(atPath: "\(scratch.path)/memory-alpha/arbiter.jsonl")
            let again = try witness.client()
            #expect(await again.read(vm("web")).doubt == nil)
            await again.close()
            await witness.stop()
        }
    }

    @Test func anEtcdThatLostItsDiskIsNotUsed() async throws {
        try await Scratch.with { scratch in
            try await EtcdBed.with(scratch, members: 1) { etcd in
                let arbiter = try etcd.arbiter()
                let claim = await arbiter.compareAndSet(vm("web"), expecting: nil, to: register(1), nonce: Nonce(1))
                #expect(claim == .applied(register(1)))
                try await etcd.kill(0)
                try etcd.loseDisk(0)
                _ = try scratch.folder("etcd-0")
                try etcd.start(0)
                let reading = await arbiter.read(vm("web"))
                #expect(
                    reading.doubt?.contains("it knows no term of web and this node saw term 1") == true, "\(reading)")
                let answer = await arbiter.compareAndSet(vm("web"), expecting: nil, to: register(2), nonce: Nonce(2))
                #expect(answer.doubt?.contains("etcd cluster “test” is not used") == true, "\(answer)")
                await arbiter.close()
            }
        }
    }

    @Test func whoIsNotAllowedLearnsWhy() async throws {
        try await Scratch.with { scratch in
            let witness = try await WitnessBed(scratch)
            for (name, authority, expected, sentence) in [
                ("alpha", "two", "gamma", "issued by"), ("gamma", "one", "gamma", "it refused our certificate"),
                ("alpha", "one", "beta", "“gamma” answers where “beta” is expected"),
            ] {
                let client = try witness.client(
                    name, memory: "x-\(name)-\(authority)", authority: authority, witness: node(expected))
                let answer = await client.compareAndSet(vm("web"), expecting: nil, to: register(1), nonce: Nonce(1))
                #expect(answer.doubt?.contains(sentence) == true, "\(name) of \(authority): \(answer)")
                await client.close()
            }
            let client = try witness.client()
            #expect(await client.read(vm("web")) == .value(nil))
            await client.close()
            await witness.stop()
        }
    }

    @Test func etcdRefusesWhoShowsNoCertificateOfItsAuthority() async throws {
        try await Scratch.with { scratch in
            let trust = try Trust(scratch)
            try await EtcdBed.with(scratch, members: 1, trust: trust) { etcd in
                for credentials in [
                    trust.credentials("alpha", authority: "two"),
                    EtcdArbiter.Credentials(
                        ca: "\(trust.directory)/two/ca.crt", certificate: trust.credentials("alpha").certificate,
                        key: trust.credentials("alpha").key),
                ] {
                    let arbiter = try etcd.arbiter("stranger", credentials: credentials, timeout: .milliseconds(700))
                    let answer = await arbiter.compareAndSet(
                        vm("web"), expecting: nil, to: register(1), nonce: Nonce(1))
                    #expect(answer.doubt != nil, "\(answer)")
                    await arbiter.close()
                }
                let arbiter = try etcd.arbiter()
                #expect(await arbiter.read(vm("web")) == .value(nil))
                await arbiter.close()
            }
        }
    }

    /// What is no request ends that link and no other; a fifth link of a node ends its first.
    @Test func aNodeThatMisbehavesHarmsOnlyItself() async throws {
        try await Scratch.with { scratch in
            let witness = try await WitnessBed(scratch)
            let honest = try witness.client("beta")
            #expect(await honest.read(vm("web")) == .value(nil))
            func dial(_ ending: Ending) async throws -> Link {
                try await LinkDialer.connect(
                    host: scratch.address, port: witness.port, identity: try witness.trust.identity("alpha"),
                    expectedPeer: "gamma", timeout: .seconds(20), group: scratch.group, handler: ending)
            }
            for (type, body) in [
                (FrameType.hello, "{}"), (.registerReply, "{}"), (.registerRequest, "{"), (.registerRequest, "{}"),
                (.registerRequest, #"{"id":1,"vm":"/","seen":{"number":0}}"#),
            ] {
                let ending = Ending()
                let link = try await dial(ending)
                var sink = ByteSink(capacity: 128)
                Array(body.utf8).withUnsafeBytes {
                    sink.append(frame: type, body: $0, epoch: .firstCopy, sequence: 0)
                }
                link.send(copying: sink.bytes)
                await ending.wait()
            }
            let endings = (0..<5).map { _ in Ending() }
            var links: [Link] = []
            for ending in endings { links.append(try await dial(ending)) }
            await endings[0].wait()
            #expect(endings.count { $0.isOver } == 1)
            #expect(await honest.read(vm("web")) == .value(nil))
            for link in links { link.close() }
            await honest.close()
            await witness.stop()
        }
    }

    /// Waits for the end of a link.
    final class Ending: LinkHandler {
        private let stream: AsyncStream<Never>
        private let continuation: AsyncStream<Never>.Continuation
        private let over = Atomic<Bool>(false)

        init() { (stream, continuation) = AsyncStream<Never>.makeStream() }

        var isOver: Bool { over.load(ordering: .relaxed) }
        func wait() async { for await _ in stream {} }
        func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {}
        func linkClosed(_ link: Link, error: LinkError?) {
            over.store(true, ordering: .relaxed)
            continuation.finish()
        }
    }
}
