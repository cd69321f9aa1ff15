import Messages
import Model
import NIOCore
import RomulusAPI
import Synchronization
import Transport
import Wire

/// A guest was started where the register does not expect it: whether those that it names have anything of the VM left.
extension AgentCore {
    /// True when all of them answer that they hold nothing that could go on under that register.
    func isYielded(_ register: Register, of vm: VMName) async -> Bool {
        for node in register.others(than: node) {
            guard let reason = await reasonOf(node, against: YieldQuestion(vm: vm, register: register)) else {
                continue
            }
            log.info("\(node) does not yield \(vm): \(reason)")
            return false
        }
        note(
            vm, .asked,
            "the register of \(vm) (term \(register.term)) is yielded: nothing of the VM is left where it is named")
        return true
    }

    /// Nil when `peer` yields.
    private func reasonOf(_ peer: NodeName, against question: YieldQuestion) async -> String? {
        let hello = HelloMessage(
            node: configuration.node, software: "romulus \(Romulus.version)", purpose: .question, question: question)
        return switch await answer(of: peer.description, to: hello) {
        case .yielded(let register) where register == question.register: nil
        case .yielded, .known: "it spoke of something else"
        case .refused(let reason): reason
        }
    }

    /// Asks a peer one question, over a link of its own.
    func answer(of peer: String, to question: HelloMessage) async -> PeerAnswer {
        guard let address = configuration.peers[peer]?.address else {
            return .refused("it is no peer of this host")
        }
        let listener = AnswerListener()
        do throws(LinkError) {
            let link = try await LinkDialer.connect(
                host: address.host, port: address.port, identity: identity, expectedPeer: peer,
                timeout: .seconds(3), group: group, handler: listener)
            link.send(question.frame)
            let answer = await listener.answer(within: .seconds(3))
            link.close()
            return answer
        } catch {
            return .refused("\(error)")
        }
    }

    /// Why this host does not give up what that register gives it; nil when it holds nothing, and never will again under
    /// this register: an image that is gone does not come back (I13), and a guest is started under a term of its own.
    func reasonNotToYield(_ question: YieldQuestion, to asker: String) -> String? {
        let (vm, register) = (question.vm, question.register)
        let memory = store[vm]
        guard !isInHand(vm) else { return "\(node) has \(vm) in hand" }
        guard memory.guest == nil, memory.left?.isAlive != true else { return "a guest of \(vm) runs at \(node)" }
        // Who remembers less than the register says has lost its memory, and perhaps a guest that still runs.
        guard memory.local.seen.number + 1 >= register.term.number else {
            return "\(node) does not remember term \(register.term) of \(vm)"
        }
        if arbiter == nil, register.owner != NodeName(asker) { return "without an arbiter the operator decides" }
        return nil
    }
}

/// What a peer says to a question.
enum PeerAnswer: Sendable {
    case yielded(Register)
    case known([VMKnowledge])
    case refused(String)
}

/// Waits for the one frame that answers a question.
private final class AnswerListener: LinkHandler, Sendable {
    private let heard = Mutex<PeerAnswer?>(nil)

    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        do throws(SessionError) {
            switch header.type {
            case .hello: settle(.known(try HelloMessage(body).knowledge ?? []))
            case .register: settle(.yielded(try RegisterMessage(body).register))
            case .refuse: settle(.refused(try RefuseMessage(body).reason))
            default: break
            }
        } catch {
            settle(.refused(error.message))
        }
    }

    func linkClosed(_ link: Link, error: LinkError?) { settle(.refused("it closed the connection")) }

    private func settle(_ answer: PeerAnswer) {
        heard.withLock { if $0 == nil { $0 = answer } }
    }

    func answer(within limit: Duration) async -> PeerAnswer {
        let deadline = ContinuousClock.now + limit
        while ContinuousClock.now < deadline {
            if let answer = heard.withLock({ $0 }) { return answer }
            try? await Task.sleep(for: .milliseconds(10))
        }
        return .refused("it does not answer")
    }
}
