import Foundation
import LinuxSystem
import Literals
import Model
import NIOCore
import NIOPosix
import PKI
import Transport
import Wire

/// The side that is judged: accepts a link and beats on it as a session does that has nothing else to send.
enum DetectionPeer {
    static let order = "--detection-peer"
    static let heartbeat: UInt64 = 50_000_000

    static func makeIdentities(_ directory: String) throws {
        let authority = try CertificateAuthority.create(directory: directory)
        for name in ["alpha", "beta"] { _ = try authority.issue(node: try NodeName(checking: name)) }
    }

    static func identity(_ directory: String, _ name: String) throws -> TLSIdentity {
        try TLSIdentity.load(directory: directory, node: try NodeName(checking: name))
    }

    static func beat(_ link: Link) -> Bool {
        var sink = ByteSink(capacity: 64)
        sink.append(frame: Heartbeat(sent: MonotonicClock.now(), echo: 0), epoch: .firstCopy, sequence: 0)
        return link.send(ByteBuffer(bytes: sink.bytes))
    }

    /// Beats on `link` until it is closed, on a thread of its own.
    static func beats(_ link: Link) {
        Thread.detachNewThread {
            while beat(link) { MonotonicClock.sleep(until: MonotonicClock.now() + heartbeat) }
        }
    }

    /// - Parameter words: the directory of the certificates, the address, the port.
    static func run(_ words: [String]) async throws {
        _ = try await LinkListener.start(
            host: words[1], port: Int(words[2]) ?? 0, identity: try identity(words[0], "beta"), allowed: ["alpha"],
            group: MultiThreadedEventLoopGroup(numberOfThreads: 1), refused: { _ in },
            makeHandler: { link in
                beats(link)
                return Silent()
            })
        Bench.say("listens")
        while true { try await Task.sleep(for: .seconds(3600)) }
    }

    final class Silent: LinkHandler {
        func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {}
        func linkClosed(_ link: Link, error: LinkError?) {}
    }
}
