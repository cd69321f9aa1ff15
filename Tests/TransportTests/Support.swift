import Foundation
import Literals
import Model
import NIOCore
import NIOPosix
import PKI
import Synchronization
import Transport
import Wire

/// The authorities and nodes of all tests, made once; their files live only while they are made.
enum World {
    static let identities: [String: TLSIdentity] = {
        var template = Array("/tmp/romulus-transport-\(getpid())-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { fatalError("mkdtemp: \(String(cString: strerror(errno)))") }
        let root = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        defer { try? FileManager.default.removeItem(atPath: root) }
        do {
            let past = Date.now.addingTimeInterval(-10 * 86400)
            let authority = try CertificateAuthority.create(directory: root + "/one", now: past)
            var result: [String: TLSIdentity] = [:]
            for name in ["alpha", "beta"] {
                let node = try NodeName(checking: name)
                _ = try authority.issue(node: node)
                result[name] = try TLSIdentity.load(directory: root + "/one", node: node)
            }
            let old = try NodeName(checking: "old")
            _ = try authority.issue(node: old, days: 1, now: past)
            result["old"] = try TLSIdentity.load(directory: root + "/one", node: old, now: past)
            let other = try CertificateAuthority.create(directory: root + "/two")
            let alpha = try NodeName(checking: "alpha")
            _ = try other.issue(node: alpha)
            result["stranger"] = try TLSIdentity.load(directory: root + "/two", node: alpha)
            return result
        } catch {
            fatalError("\(error)")
        }
    }()

    static func identity(_ name: String) -> TLSIdentity { identities[name]! }
    static var alpha: TLSIdentity { identity("alpha") }
    static var beta: TLSIdentity { identity("beta") }
}

/// Event loops of one test.
func withGroup<Result>(
    threads: Int = 2, _ body: (MultiThreadedEventLoopGroup) async throws -> Result
) async throws -> Result {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: threads)
    do {
        let result = try await body(group)
        try await group.shutdownGracefully()
        return result
    } catch {
        try? await group.shutdownGracefully()
        throw error
    }
}

/// Values from any thread to a waiting test, in order.
final class Mailbox<Value: Sendable>: Sendable {
    private struct State {
        var values: [Value] = []
        var waiting: CheckedContinuation<Value, Never>?
    }
    private let state = Mutex(State())

    func put(_ value: Value) {
        let waiting = state.withLock { state -> CheckedContinuation<Value, Never>? in
            if let waiting = state.waiting.take() { return waiting }
            state.values.append(value)
            return nil
        }
        waiting?.resume(returning: value)
    }

    func take() async -> Value {
        await withCheckedContinuation { continuation in
            let value = state.withLock { state -> Value? in
                if !state.values.isEmpty { return state.values.removeFirst() }
                state.waiting = continuation
                return nil
            }
            if let value { continuation.resume(returning: value) }
        }
    }

    var count: Int { state.withLock { $0.values.count } }
}

/// A handler that keeps what it hears.
final class Recorder: LinkHandler {
    let frames = Mailbox<(header: FrameHeader, body: ByteBuffer)>()
    let closed = Mailbox<LinkError?>()
    private let onFrame: @Sendable (Link, FrameHeader, ByteBuffer) -> Void
    private let inside = Atomic<Bool>(false)

    init(onFrame: @escaping @Sendable (Link, FrameHeader, ByteBuffer) -> Void = { _, _, _ in }) {
        self.onFrame = onFrame
    }

    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        if inside.exchange(true, ordering: .relaxed) { fatalError("a handler was entered twice") }
        frames.put((header, body))
        onFrame(link, header, body)
        inside.store(false, ordering: .relaxed)
    }

    func linkClosed(_ link: Link, error: LinkError?) {
        if inside.load(ordering: .relaxed) { fatalError("linkClosed within another call") }
        closed.put(error)
    }
}

extension LinkOptions {
    /// Ends no handshake because the machine is busy: what a test sees of a visitor is what the visitor did.
    static var patient: LinkOptions {
        var options = LinkOptions()
        options.handshakeTimeout = .seconds(60)
        return options
    }
}

/// A listener on a port of its own, what it refused and the links that it accepted.
struct Host {
    let listener: LinkListener
    let refused: Mailbox<LinkError>
    let links: Mailbox<Link>

    static func start(
        _ group: MultiThreadedEventLoopGroup, identity: TLSIdentity = World.beta, allowed: Set<NodeName> = ["alpha"],
        options: LinkOptions = .patient, handler: Recorder = Recorder()
    ) async throws -> Host {
        let refused = Mailbox<LinkError>()
        let links = Mailbox<Link>()
        let listener = try await LinkListener.start(
            host: "127.0.0.1", port: 0, identity: identity, allowed: allowed, group: group, options: options,
            refused: { refused.put($0) },
            makeHandler: { link in
                links.put(link)
                return handler
            })
        return Host(listener: listener, refused: refused, links: links)
    }

    func dial(
        _ group: MultiThreadedEventLoopGroup, identity: TLSIdentity = World.alpha, expected: NodeName = "beta",
        timeout: Duration = .seconds(20), options: LinkOptions = LinkOptions(), connections: Int = 1,
        handler: Recorder = Recorder()
    ) async throws(LinkError) -> Link {
        try await LinkDialer.connect(
            host: "127.0.0.1", port: listener.port, identity: identity, expectedPeer: expected, timeout: timeout,
            group: group, options: options, connections: connections, handler: handler)
    }
}

/// The cause with which `body` failed; nil when it did not fail.
func cause(_ body: () async throws(LinkError) -> Link) async -> LinkError.Cause? {
    do throws(LinkError) {
        let link = try await body()
        link.close()
        return nil
    } catch {
        return error.cause
    }
}

/// A frame with right checksums, also of another version of the protocol.
func frame(
    _ type: FrameType, version: UInt8 = FrameHeader.version, epoch: UInt64 = 0, sequence: UInt32 = 0,
    body: [UInt8] = []
) -> ByteBuffer {
    var bytes = [UInt8](repeating: 0, count: FrameHeader.size)
    let header = FrameHeader(
        type: type, flags: 0, length: UInt32(body.count), epoch: epoch, sequence: sequence,
        bodyCRC: body.withUnsafeBytes { crc32c($0) })
    bytes.withUnsafeMutableBytes { raw in
        header.write(into: raw)
        raw[4] = version
        let checksum = crc32c(UnsafeRawBufferPointer(rebasing: raw[..<28]))
        raw.storeBytes(of: checksum.littleEndian, toByteOffset: 28, as: UInt32.self)
    }
    return ByteBuffer(bytes: bytes + body)
}

/// The same bytes for the same seed.
struct Generator: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1 }
    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }
    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
}

/// Runs `body` on a thread of its own, as the pipeline does; its error, or nil.
func onThread(_ body: @escaping @Sendable () throws -> Void) -> Mailbox<(any Error)?> {
    let done = Mailbox<(any Error)?>()
    Thread.detachNewThread {
        do {
            try body()
            done.put(nil)
        } catch {
            done.put(error)
        }
    }
    return done
}

extension Link {
    /// Waits for room and queues the frame, as the pipeline's threads do.
    func sendBlocking(_ frame: ByteBuffer) throws(LinkError) {
        waitForRoom(frame.readableBytes)
        try enqueue(frame)
    }
}
