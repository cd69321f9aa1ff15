import LinuxSystem
import Logging
import Messages
import Model
import NIOCore
import Pair
import Synchronization
import Transport
import Wire

/// The listening side of a link until its session exists: reads the greeting and the offer, has the replica prepared on
/// a thread of its own, answers, and from then on passes everything to the session.
final class IncomingLink: LinkHandler, Sendable {
    private struct State {
        var greeted = false
        var preparing = false
        /// The link is no session's.
        var isSecondPath = false
        var session: StandbyShell?
        var closed: LinkError??
    }

    private let state = Mutex(State())
    private let node: NodeName
    private let secondPath: SecondPath?
    private let log: Logger
    private let judge: @Sendable (YieldQuestion, _ asker: NodeName) -> String?
    private let tell: @Sendable ([VMName]) -> [VMKnowledge]
    private let check: @Sendable (CheckMessage, _ peer: NodeName) -> CheckedMessage
    private let prepare: @Sendable (OfferMessage, Link, _ order: UInt64) throws(SessionError) -> StandbyShell
    /// Which of this agent's links it is, in the order in which they were opened.
    private let order = IncomingLink.links.add(1, ordering: .relaxed).newValue
    private static let links = Atomic<UInt64>(0)

    /// `prepare` makes the replica and its session, or says why not; it may take seconds and is called off the event
    /// loop, as is `check`. A link that is for heartbeats only goes to `secondPath`. `judge` says why a register is not yielded;
    /// nil when it is. `tell` says what this host knows of VMs.
    init(
        node: NodeName, secondPath: SecondPath?, log: Logger,
        judge: @escaping @Sendable (YieldQuestion, _ asker: NodeName) -> String?,
        tell: @escaping @Sendable ([VMName]) -> [VMKnowledge],
        check: @escaping @Sendable (CheckMessage, _ peer: NodeName) -> CheckedMessage,
        prepare: @escaping @Sendable (OfferMessage, Link, _ order: UInt64) throws(SessionError) -> StandbyShell
    ) {
        self.node = node
        self.secondPath = secondPath
        self.log = log
        self.judge = judge
        self.tell = tell
        self.check = check
        self.prepare = prepare
    }

    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        let (session, isSecondPath) = state.withLock { ($0.session, $0.isSecondPath) }
        if let session { return session.link(link, received: header, body: body) }
        if isSecondPath {
            secondPath?.link(link, received: header, body: body)
            return
        }
        do throws(SessionError) {
            switch header.type {
            case .hello:
                let hello = try HelloMessage(body)
                if hello.purpose == .heartbeats, state.withLock({ !$0.greeted }) {
                    state.withLock { $0.isSecondPath = true }
                    secondPath?.adopt(link)
                    break
                }
                if hello.purpose == .question {
                    answer(hello, link)
                    break
                }
                log.info("\(link.peerNode) connected", metadata: ["software": "\(hello.software)"])
                state.withLock { $0.greeted = true }
            case .heartbeat:
                break
            case .offer:
                guard state.withLock({ $0.greeted && !$0.preparing }) else {
                    throw SessionError(.protocolBroken, "an offer came before the greeting, or a second one")
                }
                let offer = try OfferMessage(body)
                state.withLock { $0.preparing = true }
                begin(offer, link)
            case .check:
                guard state.withLock({ $0.greeted && !$0.preparing }) else {
                    throw SessionError(.protocolBroken, "a check came before the greeting, or a second one")
                }
                let message = try CheckMessage(body)
                state.withLock { $0.preparing = true }
                answer(message, link)
            default:
                throw SessionError(.protocolBroken, "a \(header.type) frame came before a session was agreed on")
            }
        } catch {
            log.warning("\(link.peerName): \(error)")
            refuse(error.message, link)
        }
    }

    func linkClosed(_ link: Link, error: LinkError?) {
        let (session, isSecondPath) = state.withLock { state in
            state.closed = .some(error)
            return (state.session, state.isSecondPath)
        }
        session?.linkClosed(link, error: error)
        if isSecondPath { secondPath?.linkClosed(link, error: error) }
    }

    private func answer(_ hello: HelloMessage, _ link: Link) {
        if let vms = hello.vms {
            link.send(
                HelloMessage(
                    node: node, software: Hosts.software, purpose: .question, knowledge: tell(vms)
                ).frame)
            link.close()
            return
        }
        guard let question = hello.question else { return refuse("nothing was asked", link) }
        if let reason = judge(question, link.peerNode) { return refuse(reason, link) }
        link.send(RegisterMessage(question.register).frame)
        link.close()
    }

    private func begin(_ offer: OfferMessage, _ link: Link) {
        do throws(SystemError) {
            _ = try NamedThread.start("prepare") { [self] in
                do throws(SessionError) {
                    let session = try prepare(offer, link, order)
                    let closed = state.withLock { state in
                        state.session = session
                        return state.closed
                    }
                    link.send(session.acceptance)
                    // The primary may have gone away while its replica was being made.
                    if let closed { session.linkClosed(link, error: closed) }
                } catch {
                    log.warning("\(link.peerName) asked for a standby of \(offer.vm): \(error)")
                    refuse(error.message, knows: error.knows, link)
                }
            }
        } catch {
            refuse("no thread for it: \(error)", link)
        }
    }

    private func answer(_ message: CheckMessage, _ link: Link) {
        do throws(SystemError) {
            _ = try NamedThread.start("check") { [self] in
                link.send(check(message, link.peerNode).frame)
                link.close()
            }
        } catch {
            refuse("no thread for it: \(error)", link)
        }
    }

    private func refuse(_ reason: String, knows: Register? = nil, _ link: Link) {
        link.send(RefuseMessage(because: reason, knows: knows).frame)
        link.close()
    }
}
