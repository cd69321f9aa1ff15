import Foundation
import Literals
import Messages
import Model
import NIOCore
import NIOPosix
import PKI
import Pair
import Synchronization
import Testing
import Transport
import Wire

/// Two agents' ends of a second path, over real links on loopback: `alpha` dials, `beta` listens.
private final class Ends: Sendable {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
    let listener: LinkListener
    let alpha: SecondPath
    let beta: SecondPath
    let accepted = Shelf<Link>()
    let roundTrips = Shelf<UInt64>()
    /// What alpha was told of the path.
    let news = Shelf<String>()

    /// - Parameter answers: beta's side plays its part; else it only accepts connections.
    init(answers: Bool = true) async throws {
        let scratch = NSTemporaryDirectory() + "/second-path-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        defer { try? FileManager.default.removeItem(atPath: scratch) }
        let authority = try CertificateAuthority.create(directory: scratch)
        func identity(_ name: String) throws -> TLSIdentity {
            let node = try NodeName(checking: name)
            _ = try authority.issue(node: node)
            return try TLSIdentity.load(directory: scratch, node: node)
        }
        let (own, others) = (try identity("alpha"), try identity("beta"))
        let beta = SecondPath(
            to: "alpha", node: "beta", software: "test", interval: 20, floor: 100, ceiling: 300, dial: nil,
            report: { _ in })
        let listener = try await LinkListener.start(
            host: "127.0.0.1", port: 0, identity: others, allowed: ["alpha"], group: group, refused: { _ in },
            makeHandler: { [accepted] link in
                accepted.put(link)
                return Door(answers ? beta : nil)
            })
        alpha = SecondPath(
            to: "beta", node: "alpha", software: "test", interval: 20, floor: 100, ceiling: 300,
            dial: { [group, port = listener.port] (handler) async throws(LinkError) in
                try await LinkDialer.connect(
                    host: "127.0.0.1", port: port, identity: own, expectedPeer: "beta", timeout: .seconds(5),
                    group: group, handler: handler)
            },
            report: { [news, roundTrips] report in
                switch report {
                case .up: news.put("up")
                case .down: news.put("down")
                case .roundTrip(let nanoseconds): roundTrips.put(nanoseconds)
                }
            })
        self.beta = beta
        self.listener = listener
    }

    /// Makes two ends, runs `body` and takes them down.
    static func with(answers: Bool = true, _ body: (Ends) async throws -> Void) async throws {
        let ends = try await Ends(answers: answers)
        do {
            try await body(ends)
            try await ends.stop()
        } catch {
            try await ends.stop()
            throw error
        }
    }

    private func stop() async throws {
        alpha.stop()
        beta.stop()
        await listener.shutdown()
        try await group.shutdownGracefully()
    }

    /// Looks every 5 ms until it is so, for at most ten seconds.
    func wait(for what: String, _ isSo: () -> Bool) async throws {
        for _ in 0..<2000 where !isSo() { try await Task.sleep(for: .milliseconds(5)) }
        #expect(isSo(), "\(what); the news were \(news.all)")
    }
}

private final class Shelf<Value: Sendable>: Sendable {
    private let values = Mutex<[Value]>([])
    func put(_ value: Value) { values.withLock { $0.append(value) } }
    var all: [Value] { values.withLock { $0 } }
}

/// What an agent does with a connection that says that it is for heartbeats.
private final class Door: LinkHandler {
    private let path: SecondPath?
    init(_ path: SecondPath?) { self.path = path }

    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        if header.type == .hello, (try? HelloMessage(body))?.purpose == .heartbeats {
            path?.adopt(link)
        } else {
            path?.link(link, received: header, body: body)
        }
    }

    func linkClosed(_ link: Link, error: LinkError?) { path?.linkClosed(link, error: error) }
}

@Suite struct SecondPathTests {
    @Test func bothEndsHearEachOther() async throws {
        try await Ends.with { ends in
            #expect(ends.beta.isHeard == nil, "before anybody dialled there is no path")
            #expect(ends.alpha.isHeard == false, "one that is configured and is not there yet")
            try ends.alpha.start()
            try await ends.wait(for: "both hear") { ends.alpha.isHeard == true && ends.beta.isHeard == true }
            try await ends.wait(for: "round trips") { ends.roundTrips.all.count > 3 }
            #expect(ends.roundTrips.all.allSatisfy { $0 > 0 && $0 < 1_000_000_000 })
            // Longer than any silence that is borne.
            try await Task.sleep(for: .milliseconds(700))
            #expect(ends.news.all == ["up"])
            #expect(ends.accepted.all.count == 1)
        }
    }

    @Test func aBrokenConnectionIsNoticedAndMadeAnew() async throws {
        try await Ends.with { ends in
            try ends.alpha.start()
            try await ends.wait(for: "both hear") { ends.alpha.isHeard == true && ends.beta.isHeard == true }
            ends.accepted.all.first?.close(LinkError(peer: "alpha", .lost("by the test")))
            try await ends.wait(for: "it goes down") { ends.news.all.contains("down") }
            try await ends.wait(for: "it comes again") { ends.news.all == ["up", "down", "up"] }
            try await ends.wait(for: "both hear again") { ends.beta.isHeard == true }
        }
    }

    /// A peer whose agent takes connections and says nothing is not alive.
    @Test func silenceIsNoticed() async throws {
        try await Ends.with(answers: false) { ends in
            try ends.alpha.start()
            try await ends.wait(for: "it goes down") { ends.news.all.prefix(2) == ["up", "down"] }
            #expect(ends.alpha.isHeard == false)
            try await ends.wait(for: "it is made anew") { ends.accepted.all.count > 1 }
        }
    }

    @Test func whatDoesNotBelongThereEndsTheConnection() async throws {
        try await Ends.with { ends in
            try ends.alpha.start()
            try await ends.wait(for: "both hear") { ends.alpha.isHeard == true && ends.beta.isHeard == true }
            let goodbye = GoodbyeMessage(kind: .failed, reason: "x").frame
            ends.accepted.all.first?.send(goodbye)
            try await ends.wait(for: "it goes down") { ends.news.all.contains("down") }
        }
    }
}
