import Codec
import Crypto
import Foundation
import Messages
import Model
import NIOCore
import NIOPosix
import PKI
import Protocol
import Shipping
import Synchronization
import Transport
import Wire

/// The other end of a primary's link: a node that can be its standby, over TLS on loopback. It holds the guest's memory, and
/// checks every checkpoint as a real one does.
public final class FakeStandby: LinkHandler, @unchecked Sendable {
    // SAFETY: everything that changes lies behind `lock`.

    /// What it says to an offer.
    public enum Answer: Sendable {
        case accepts
        case refuses(String, knows: Register? = nil)
        /// It says goodbye, as after a failure.
        case fails(String)
        case saysNothing
        case hangsUp
    }

    /// What it does with a checkpoint that is whole.
    public enum Acknowledging: Sendable {
        case atOnce
        /// When the test says so.
        case onDemand
        case withAnotherDigest
    }

    /// What it does when it is asked to go on with the guest.
    public enum TakingOver: Sendable {
        case no
        /// It stays the standby, for a reason.
        case declines(String)
        /// It gives the guest back, and holds nothing any more.
        case handsBack(String)
        /// It claims the register and says so.
        case yes
        case hangsUp
    }

    struct State {
        var link: Link?
        var isReachable = true
        var answer = Answer.accepts
        var acknowledging = Acknowledging.atOnce
        var takingOver = TakingOver.no
        var letsGo = true
        var connections = 0
        var incarnation: UInt64 = 0
        var offers: [OfferMessage] = []
        var tunings: [EpochTuning] = []
        var registers: [Register] = []
        var goodbyes: [GoodbyeMessage] = []
        var takeOvers: [TakeOver] = []
        var received: [FrameType] = []
        var released: [Epoch] = []
        var heartbeats = 0
        var isSynced = false
        /// Frames of epochs that are not whole.
        var staged: [UInt64: [(header: FrameHeader, body: ByteBuffer)]] = [:]
        /// Whole epochs, in the order in which they became so, with their digests.
        var whole: [Epoch] = []
        var digests: [Epoch: CheckpointDigest] = [:]
        var acknowledged: Epoch = .firstCopy
        var output: [Epoch: [String]] = [:]
        /// The guest's memory at each whole epoch.
        var images: [Epoch: [UInt8]] = [:]
        var memory: [UInt8] = []
        /// At a level whose output is not held: whether it answers for disk writes, and how many came after the first copy.
        var isTaking = true
        var writes: UInt64 = 0
        var promises = 0
        /// The disk frames of this epoch belong to no checkpoint.
        var throughEpoch: Epoch?
        /// What it was asked to have more of, and how often less.
        var attached: [AttachMessage] = []
        var detached = 0
        /// Why it has no more.
        var refusal: String?
        var violations: [String] = []

        var holdsOutput: Bool { offers.last?.session.level.holdsOutput ?? true }
    }

    public let node: NodeName
    private let register: FakeRegister
    private let lock = NSLock()
    private var state = State()
    private var decoder = PageDecoder()
    private let listener = Mutex<LinkListener?>(nil)

    public init(_ node: NodeName, register: FakeRegister) {
        self.node = node
        self.register = register
    }

    func start() async throws {
        let started = try await LinkListener.start(
            host: "127.0.0.1", port: 0, identity: FakeNodes.identity(node), allowed: [FakeNodes.primary],
            group: FakeNodes.group, refused: { _ in }, makeHandler: { [self] _ in self })
        listener.withLock { $0 = started }
    }

    func stop() async {
        hangUp()
        await listener.withLock { $0.take() }?.shutdown()
    }

    /// Opens a link to it, as the primary's agent does; blocks.
    func dial(_ handler: any LinkHandler) throws(SessionError) -> Link {
        let port = listener.withLock { $0?.port }
        guard let port, locked({ $0.isReachable }) else {
            throw SessionError(.peerLost, "\(node) cannot be reached")
        }
        let answer = Mutex<Result<Link, any Error>?>(nil)
        let done = DispatchSemaphore(value: 0)
        Task.detached { [node] in
            do {
                let link = try await LinkDialer.connect(
                    host: "127.0.0.1", port: port, identity: FakeNodes.identity(FakeNodes.primary), expectedPeer: node,
                    timeout: .seconds(10), group: FakeNodes.group, handler: handler)
                answer.withLock { $0 = .success(link) }
            } catch {
                answer.withLock { $0 = .failure(error) }
            }
            done.signal()
        }
        done.wait()
        switch answer.withLock({ $0 }) {
        case .success(let link)?: return link
        case .failure(let error)?: throw SessionError(.peerLost, "\(error)")
        case nil: throw SessionError(.peerLost, "nothing was answered")
        }
    }

    private func locked<Value>(_ body: (inout State) -> Value) -> Value {
        lock.lock()
        defer { lock.unlock() }
        return body(&state)
    }

    // MARK: - What the test wants of it

    public func be(reachable: Bool) { locked { $0.isReachable = reachable } }
    public func answer(_ answer: Answer) { locked { $0.answer = answer } }
    /// At once is what is whole already, too.
    public func acknowledge(_ manner: Acknowledging) {
        locked { state in
            state.acknowledging = manner
            guard case .atOnce = manner else { return }
            while let digest = state.digests[state.acknowledged.next] {
                Self.acknowledge(state.acknowledged.next, digest, &state)
            }
        }
    }
    public func takeOver(_ manner: TakingOver) { locked { $0.takingOver = manner } }
    /// Whether it answers the end of protection.
    public func letGo(_ does: Bool) { locked { $0.letsGo = does } }

    /// Acknowledges the next epoch that is whole.
    public func acknowledgeNext() {
        locked { state in
            let epoch = state.acknowledged.next
            if let digest = state.digests[epoch] { Self.acknowledge(epoch, digest, &state) }
        }
    }

    /// Says that an epoch is whole, whatever it has.
    public func acknowledge(_ epoch: Epoch) {
        locked { state in
            _ = state.link?.send(controlFrame(Ack(digest: state.digests[epoch] ?? Self.otherDigest), epoch: epoch))
        }
    }

    /// Answers for disk writes, at a level whose output is not held, or lets them wait.
    public func take(writes isTaking: Bool) {
        locked { state in
            state.isTaking = isTaking
            Self.answerForWrites(state)
        }
    }

    public func hangUp(_ reason: String = "by the test") {
        locked(\.link)?.close(LinkError(peer: FakeNodes.primary.description, .lost(reason)))
    }

    public func send(_ frame: ByteBuffer) { _ = locked { $0.link }?.send(frame) }

    public var offers: [OfferMessage] { locked { $0.offers } }
    public var tunings: [EpochTuning] { locked { $0.tunings } }
    public var registers: [Register] { locked { $0.registers } }
    public var goodbyes: [GoodbyeMessage] { locked { $0.goodbyes } }
    public var takeOvers: [TakeOver] { locked { $0.takeOvers } }
    public var connections: Int { locked { $0.connections } }
    public var isSynced: Bool { locked { $0.isSynced } }
    public var released: [Epoch] { locked { $0.released } }
    public var heartbeats: Int { locked { $0.heartbeats } }
    /// The epochs that are whole here.
    public var whole: [Epoch] { locked { $0.whole } }
    public var acknowledged: Epoch { locked { $0.acknowledged } }
    /// The output that came with the epochs, by epoch.
    public var output: [Epoch: [String]] { locked { $0.output } }
    /// The guest's memory at each whole epoch.
    public var images: [Epoch: [UInt8]] { locked { $0.images } }
    /// Why it attaches nothing; nil when it does.
    public func refuseToAttach(_ reason: String?) { locked { $0.refusal = reason } }
    public var attached: [AttachMessage] { locked { $0.attached } }
    public var detached: Int { locked { $0.detached } }
    public var memory: [UInt8] { locked { $0.memory } }
    public var isByEpochs: Bool { locked { $0.throughEpoch == nil || $0.whole.last ?? .firstCopy >= $0.throughEpoch! } }
    public var promises: Int { locked { $0.promises } }
    /// At a level whose output is not held: disk writes that came after the first copy.
    public var writes: UInt64 { locked { $0.writes } }
    public var violations: [String] { locked { $0.violations } }

    // MARK: - The link

    public func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        locked { state in
            do {
                try take(header, body, link, &state)
            } catch {
                state.violations.append("\(node) got a \(header.type) frame that it cannot take: \(error)")
            }
        }
    }

    public func linkClosed(_ link: Link, error: LinkError?) {
        locked { state in
            if state.link === link { state.link = nil }
        }
        link.close()
    }

    private func take(_ header: FrameHeader, _ body: ByteBuffer, _ link: Link, _ state: inout State) throws {
        state.received.append(header.type)
        let epoch = Epoch(header.epoch)
        switch header.type {
        case .hello: begin(link, &state)
        case .offer: answer(try OfferMessage(body), link, &state)
        case .tuning: state.tunings.append(try TuningMessage(body).tuning)
        case .register: state.registers.append(try RegisterMessage(body).register)
        case .heartbeat:
            state.heartbeats += 1
            let beat = try body.withUnsafeReadableBytes { try Heartbeat(parsing: $0) }
            if beat.echo == Heartbeat.ask { link.send(controlFrame(Heartbeat(sent: 1, echo: beat.sent))) }
        case .goodbye:
            state.goodbyes.append(try GoodbyeMessage(body))
            if state.letsGo { link.send(GoodbyeMessage(kind: .unprotected, reason: "it was let go").frame) }
        case .released: state.released.append(epoch)
        case .synced: state.isSynced = true
        case .takeOver:
            goOn(try body.withUnsafeReadableBytes { try TakeOver(parsing: $0) }, link, &state)
        case .diskDigests:
            let question = try body.withUnsafeReadableBytes { try DiskDigests(parsing: $0) }
            // An image of zeroes would have other digests: all of the disk differs.
            let digests = [UInt8](repeating: 0, count: Int(question.count) * DiskDigestsReply.digestSize)
            digests.withUnsafeBytes {
                _ = link.send(
                    controlFrame(
                        DiskDigestsReply(
                            disk: question.disk, chunkSize: question.chunkSize, first: question.first, digests: $0)))
            }
        case .pages where epoch == .firstCopy: try apply(body, &state)
        case .promiseAsked:
            let asked = try body.withUnsafeReadableBytes { try PromiseAsked(parsing: $0) }
            state.promises += 1
            link.send(controlFrame(Promise(question: asked.question, term: asked.term)))
        case .attach:
            state.attached.append(try AttachMessage(body))
            let length = state.attached.last?.blocks.first?.length ?? 0
            state.memory = [UInt8](repeating: 0, count: state.refusal == nil ? Int(length) : 0)
            link.send(
                AttachedMessage(.memory, refusal: state.refusal, qemuPID: state.refusal == nil ? 2 : 0, baseBytes: 0)
                    .frame)
        case .detach:
            _ = try DetachMessage(body)
            state.detached += 1
            state.memory = []
        case .through: state.throughEpoch = epoch
        case .diskWrite where epoch == .firstCopy, .diskZero where epoch == .firstCopy: break
        case .diskWrite where epoch == state.throughEpoch, .diskZero where epoch == state.throughEpoch:
            if header.sequence != 0 {
                state.violations.append("a write of no checkpoint has number \(header.sequence)")
            }
            state.writes += 1
            Self.answerForWrites(state)
        case .pages, .deviceState, .output, .diskWrite, .diskZero: try stage(header, body, &state)
        case .checkpointEnd:
            try finish(epoch, try body.withUnsafeReadableBytes { try CheckpointEnd(parsing: $0) }, &state)
        default: state.violations.append("\(node) got a \(header.type) frame")
        }
    }

    private func begin(_ link: Link, _ state: inout State) {
        state.link = link
        state.connections += 1
        (state.staged, state.whole, state.digests, state.images, state.output) = ([:], [], [:], [:], [:])
        (state.acknowledged, state.isSynced, state.released) = (.firstCopy, false, [])
        (state.writes, state.throughEpoch) = (0, nil)
    }

    private static func answerForWrites(_ state: State) {
        guard state.isTaking, state.writes > 0 else { return }
        state.link?.send(controlFrame(DiskTaken(count: state.writes)))
    }

    private func answer(_ offer: OfferMessage, _ link: Link, _ state: inout State) {
        state.offers.append(offer)
        if !offer.session.level.holdsOutput { state.throughEpoch = Epoch(2) }
        switch state.answer {
        case .accepts:
            state.incarnation += 1
            state.memory = [UInt8](repeating: 0, count: Int(offer.blocks.first?.length ?? 0))
            link.send(
                AcceptMessage(
                    identity: StandbyIdentity(node: node, incarnation: state.incarnation),
                    qemuPID: state.holdsOutput ? 1 : 0, qemuVersion: "7.2.0", baseBytes: 0, heartbeatMilliseconds: 50,
                    verifies: false
                ).frame)
        case .refuses(let reason, let knows): link.send(RefuseMessage(because: reason, knows: knows).frame)
        case .fails(let reason): link.send(GoodbyeMessage(kind: .failed, reason: reason).frame)
        case .saysNothing: break
        case .hangsUp: link.close(LinkError(peer: FakeNodes.primary.description, .lost("by the test")))
        }
    }

    private func stage(_ header: FrameHeader, _ body: ByteBuffer, _ state: inout State) throws {
        let count = state.staged[header.epoch]?.count ?? 0
        if Int(header.sequence) != count || header.epoch == 0 {
            state.violations.append("frame \(header.sequence) of epoch \(header.epoch) came as number \(count)")
        }
        state.staged[header.epoch, default: []].append((header, body))
    }

    private func finish(_ epoch: Epoch, _ end: CheckpointEnd, _ state: inout State) throws {
        let frames = state.staged.removeValue(forKey: epoch.number) ?? []
        var digest = SHA256()
        for frame in frames {
            withUnsafeTemporaryAllocation(byteCount: FrameHeader.size, alignment: 8) { raw in
                frame.header.write(into: raw)
                digest.update(bufferPointer: UnsafeRawBufferPointer(raw))
            }
        }
        let whole = digest.finalize().withUnsafeBytes { CheckpointDigest($0) }
        if whole != end.digest || frames.count != Int(end.frameCount) || epoch != Epoch(UInt64(state.whole.count + 1)) {
            state.violations.append("checkpoint \(epoch) is not what the primary sent")
        }
        for frame in frames {
            switch frame.header.type {
            case .pages: try apply(frame.body, &state)
            case .output: state.output[epoch, default: []] += try Self.frames(frame.body)
            default: break
            }
        }
        state.whole.append(epoch)
        state.digests[epoch] = whole
        state.images[epoch] = state.memory
        switch state.acknowledging {
        case .atOnce: Self.acknowledge(epoch, whole, &state)
        case .onDemand: break
        case .withAnotherDigest: state.link?.send(controlFrame(Ack(digest: Self.otherDigest), epoch: epoch))
        }
    }

    private func apply(_ body: ByteBuffer, _ state: inout State) throws {
        var memory = state.memory
        state.memory = []
        defer { state.memory = memory }
        try memory.withUnsafeMutableBytes { target in
            try body.withUnsafeReadableBytes { bytes in
                _ = try decoder.decode(body: bytes) { $0 == FakeGuest.block ? target : nil }
            }
        }
    }

    private static func frames(_ body: ByteBuffer) throws -> [String] {
        try body.withUnsafeReadableBytes { bytes in
            let packets = try OutputFrame(parsing: bytes).packets
            var frames: [String] = []
            var position = 0
            while position + 4 <= packets.count {
                let length = Int(UInt32(bigEndian: packets.loadUnaligned(fromByteOffset: position, as: UInt32.self)))
                frames.append(String(decoding: packets[position + 4..<position + 4 + length], as: UTF8.self))
                position += 4 + length
            }
            return frames
        }
    }

    private static let otherDigest = [UInt8](repeating: 7, count: CheckpointDigest.size).withUnsafeBytes {
        CheckpointDigest($0)
    }

    private static func acknowledge(_ epoch: Epoch, _ digest: CheckpointDigest, _ state: inout State) {
        state.acknowledged = epoch
        state.link?.send(controlFrame(Ack(digest: digest), epoch: epoch))
    }

    private func goOn(_ request: TakeOver, _ link: Link, _ state: inout State) {
        state.takeOvers.append(request)
        switch state.takingOver {
        case .no: break
        case .declines(let reason):
            link.send(GoodbyeMessage(kind: .handedBack, reason: reason, staysStandby: true).frame)
        case .handsBack(let reason): link.send(GoodbyeMessage(kind: .handedBack, reason: reason).frame)
        case .yes:
            guard let vm = state.offers.last?.vm, var next = register.current(vm) ?? state.registers.last else {
                return
            }
            next.term = max(Term(next.term.number + 1), request.term)
            (next.owner, next.mode, next.session, next.standby) = (node, .solo, .none, nil)
            register.set(vm, next)
            link.send(RegisterMessage(next).frame)
        case .hangsUp: link.close(LinkError(peer: FakeNodes.primary.description, .lost("by the test")))
        }
    }
}

/// The nodes that there are, with their certificates, made once per process.
public enum FakeNodes {
    public static let primary = NodeName(unchecked: "alpha")
    public static let standby = NodeName(unchecked: "beta")
    public static let reserve = NodeName(unchecked: "gamma")

    static let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)

    static func identity(_ node: NodeName) -> TLSIdentity { identities[node]! }

    private static let identities: [NodeName: TLSIdentity] = {
        let scratch = NSTemporaryDirectory() + "/romulus-fakes-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        defer { try? FileManager.default.removeItem(atPath: scratch) }
        do {
            let authority = try CertificateAuthority.create(directory: scratch)
            var identities: [NodeName: TLSIdentity] = [:]
            for node in [primary, standby, reserve] {
                _ = try authority.issue(node: node)
                identities[node] = try TLSIdentity.load(directory: scratch, node: node)
            }
            return identities
        } catch {
            fatalError("no certificates for the tests: \(error)")
        }
    }()
}
