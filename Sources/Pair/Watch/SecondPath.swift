import LinuxSystem
import Messages
import Model
import NIOCore
import Protocol
import Shipping
import Synchronization
import Transport
import Wire

/// Heartbeats between this agent and a peer's over another network than the sessions' link, so that a dead link can be
/// told from a dead host. It carries nothing else, and all that is believed because of it is who asks first.
///
/// Its connections are links like any other: TLS 1.3, both certificates checked. Either side may dial, or both; one that is
/// heard is enough. One object serves all sessions with the peer.
public final class SecondPath: LinkHandler, Sendable {
    /// What the agent is told, from any thread.
    public enum Report: Sendable {
        case up
        case down(String)
        /// From a heartbeat to its answer, in nanoseconds.
        case roundTrip(UInt64)
    }

    private struct Connection {
        let link: Link
        let isDialled: Bool
        var judge: SilenceJudge
        var isHeard = true
    }

    private struct State {
        var connections: [Connection] = []
        /// There is a path, or was one: from then on its absence means something.
        var isKnown: Bool
        var isUp = false
        var isDialling = false
        var isStopped = false
        var nextDial: UInt64 = 0
        var thread: HeartbeatThread?

        /// What the path became, when that is another than before.
        mutating func update() -> Bool? {
            let isHeard = connections.contains(where: \.isHeard)
            guard isHeard != isUp else { return nil }
            isUp = isHeard
            return isHeard
        }
    }

    public typealias Dial = @Sendable (any LinkHandler) async throws(LinkError) -> Link

    private let peer: NodeName
    private let limits: SilenceJudge.Limits
    private let interval: Int
    private let greeting: ByteBuffer
    private let dial: Dial?
    private let report: @Sendable (Report) -> Void
    private let state: Mutex<State>

    /// Between two attempts to connect, in nanoseconds.
    private static let dialPeriod: UInt64 = 1_000_000_000

    /// - Parameters:
    ///   - dial: connects to the peer's second address; nil where none is configured and only the peer may dial.
    ///   - interval: between heartbeats, in milliseconds; the peer's is expected to be like it or shorter.
    public init(
        to peer: NodeName, node: NodeName, software: String, interval: Int, floor: Int, ceiling: Int, dial: Dial?,
        report: @escaping @Sendable (Report) -> Void
    ) {
        self.peer = peer
        self.interval = interval
        self.dial = dial
        self.report = report
        limits = SilenceJudge.Limits(floor: floor, ceiling: ceiling, interval: interval, peerInterval: interval)
        greeting = HelloMessage(node: node, software: software, purpose: .heartbeats).frame
        state = Mutex(State(isKnown: dial != nil))
    }

    /// Whether the peer is heard over this path; nil where there is none and never was.
    public var isHeard: Bool? { state.withLock { $0.isKnown ? $0.isUp : nil } }

    /// Begins to dial, where there is somebody to be dialled.
    public func start() throws(SystemError) {
        if dial != nil { try beginToBeat() }
    }

    private func beginToBeat() throws(SystemError) {
        guard state.withLock({ $0.thread == nil && !$0.isStopped }) else { return }
        let thread = try HeartbeatThread(peer.description, milliseconds: interval, borne: 5 * interval) { [weak self] in
            self?.beat($0) ?? 0
        }
        let extra = state.withLock { state -> HeartbeatThread? in
            guard state.thread == nil, !state.isStopped else { return thread }
            state.thread = thread
            return nil
        }
        extra?.stop()
    }

    public func stop() {
        let links = state.withLock { state in
            state.isStopped = true
            state.thread?.stop()
            return state.connections.map(\.link)
        }
        for link in links { link.close() }
    }

    /// A connection that the peer made, and named so. Called on the link's event loop.
    public func adopt(_ link: Link) {
        add(link, isDialled: false)
        do throws(SystemError) {
            try beginToBeat()
        } catch {
            link.close(LinkError(peer: link.peerName, .lost("there is no thread for its heartbeats: \(error)")))
        }
    }

    private func add(_ link: Link, isDialled: Bool) {
        let judge = SilenceJudge(limits, now: MonotonicClock.now())
        let (replaced, change) = state.withLock { state in
            // A peer that connects again has lost the connection before, or has no business with two.
            let replaced = state.connections.filter { $0.isDialled == isDialled }
            state.connections.removeAll { $0.isDialled == isDialled }
            state.connections.append(Connection(link: link, isDialled: isDialled, judge: judge))
            state.isKnown = true
            return (replaced, state.update())
        }
        for connection in replaced { connection.link.close() }
        if change != nil { report(.up) }
    }

    // MARK: - Frames, on the link's event loop

    public func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        guard header.type == .heartbeat else {
            // The other side's greeting needs no answer; anything else does not belong here.
            if header.type != .hello { link.close() }
            return
        }
        guard
            let beat = try? body.withUnsafeReadableBytes({ (bytes) throws(WireError) in try Heartbeat(parsing: bytes) })
        else { return link.close() }
        let now = MonotonicClock.now()
        if beat.echo == 0 {
            link.send(controlFrame(Heartbeat(sent: now, echo: beat.sent)))
        } else if beat.echo < now {
            report(.roundTrip(now - beat.echo))
        }
    }

    public func linkClosed(_ link: Link, error: LinkError?) {
        remove(link, because: error.map { "\($0)" } ?? "it was closed")
    }

    private func remove(_ link: Link, because reason: String) {
        let change = state.withLock { state in
            state.connections.removeAll { $0.link === link }
            return state.update()
        }
        if change != nil { report(.down(reason)) }
    }

    // MARK: - Beating

    private func beat(_ isDue: Bool) -> UInt64 {
        let now = MonotonicClock.now()
        let (links, due, dials) = state.withLock { state in
            let dials =
                dial != nil && !state.isDialling && now >= state.nextDial
                && !state.connections.contains(where: \.isDialled)
            if dials {
                state.isDialling = true
                state.nextDial = now + Self.dialPeriod
            }
            return (state.connections.map(\.link), state.connections.map(\.judge.due).min() ?? .max, dials)
        }
        for link in links {
            if isDue { link.send(controlFrame(Heartbeat(sent: now, echo: 0))) }
            link.look { [weak self] in self?.judge($0, of: link) }
        }
        if dials { connect() }
        return due
    }

    private func connect() {
        Task { [weak self] in
            guard let self else { return }
            let link = await dialled()
            let isStopped = state.withLock { state in
                state.isDialling = false
                return state.isStopped
            }
            guard let link else { return }
            guard !isStopped else { return link.close() }
            add(link, isDialled: true)
            // A link that was closed before it was added told so already.
            if !link.send(greeting) { remove(link, because: "it was closed at once") }
        }
    }

    /// What is wrong with the path shows in its state; it is tried again each second.
    private func dialled() async -> Link? {
        guard let dial else { return nil }
        do throws(LinkError) { return try await dial(self) } catch { return nil }
    }

    private func judge(_ sight: LinkSight, of link: Link) {
        let (change, isLost) = state.withLock { state -> (Bool?, Bool) in
            guard let index = state.connections.firstIndex(where: { $0.link === link }) else { return (nil, false) }
            state.connections[index].judge.look(at: sight.now, newest: sight.newest, gap: sight.gap)
            let judge = state.connections[index].judge
            state.connections[index].isHeard = judge.verdict() != .silent
            // Made anew once it is beyond hope, so that it is heard again as soon as its network is.
            return (state.update(), judge.silence > 2 * limits.ceiling)
        }
        switch change {
        case true?: report(.up)
        case false?: report(.down("nothing was received within \(limits.ceiling / 1_000_000) ms"))
        case nil: break
        }
        if isLost { link.close(LinkError(peer: link.peerName, .lost("it fell silent"))) }
    }
}
