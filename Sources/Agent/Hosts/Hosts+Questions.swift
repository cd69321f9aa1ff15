import Messages
import Model
import Transport

/// What a peer says to a question.
enum PeerAnswer: Sendable {
    case yielded(Register)
    case known([VMKnowledge])
    case refused(String)
}

/// Why a peer did not look at a guest.
struct CheckFailure: Error {
    var message: String
}

/// Questions to other hosts, each over a link of its own.
extension Hosts {
    /// So many fit into one frame.
    private static let vmsPerQuestion = 100

    /// What each peer that answers knows of these VMs, by its name. Takes some seconds where one is away.
    func knowledge(of vms: Set<VMName>) async -> [(peer: NodeName, knowledge: [VMKnowledge])] {
        await withTaskGroup(of: (peer: NodeName, knowledge: [VMKnowledge]).self) { tasks in
            for peer in names {
                tasks.addTask { (peer, await self.knowledge(at: peer, of: vms)) }
            }
            var answers: [(peer: NodeName, knowledge: [VMKnowledge])] = []
            for await answer in tasks { answers.append(answer) }
            return answers.sorted { $0.peer < $1.peer }
        }
    }

    private func knowledge(at peer: NodeName, of vms: Set<VMName>) async -> [VMKnowledge] {
        var known: [VMKnowledge] = []
        var left = vms.sorted()[...]
        while !left.isEmpty {
            let question = HelloMessage(
                node: node, software: Self.software, purpose: .question,
                vms: Array(left.prefix(Self.vmsPerQuestion)))
            guard case .known(let answer) = await self.answer(of: peer, to: question) else { break }
            known += answer
            left = left.dropFirst(Self.vmsPerQuestion)
        }
        return known
    }

    /// Nil when `peer` holds nothing that could go on under that register.
    func reason(of peer: NodeName, against question: YieldQuestion) async -> String? {
        let hello = HelloMessage(node: node, software: Self.software, purpose: .question, question: question)
        return switch await answer(of: peer, to: hello) {
        case .yielded(let register) where register == question.register: nil
        case .yielded, .known: "it spoke of something else"
        case .refused(let reason): reason
        }
    }

    private func answer(of peer: NodeName, to question: HelloMessage) async -> PeerAnswer {
        guard let host = self[peer] else { return .refused("it is no peer of this host") }
        let reply = PeerReply<PeerAnswer>(
            failed: { failure in
                switch failure {
                case .broken(let error): .refused(error.message)
                case .closed: .refused("it closed the connection")
                }
            },
            read: { (header, body) throws(SessionError) in
                switch header.type {
                case .hello: .known(try HelloMessage(body).knowledge ?? [])
                case .register: .yielded(try RegisterMessage(body).register)
                case .refuse: .refused(try RefuseMessage(body).reason)
                default: nil
                }
            })
        do throws(LinkError) {
            let link = try await dial(host, within: .seconds(3), reply)
            link.send(question.frame)
            let answer = await reply.wait(.seconds(3)) { reply.settle(.refused("it does not answer")) }
            link.close()
            return answer
        } catch {
            return .refused("\(error)")
        }
    }

    /// Has `peer` look whether it could be the standby of a guest.
    func check(_ peer: NodeName, _ message: CheckMessage) async -> Result<CheckedMessage, CheckFailure> {
        guard let host = self[peer] else {
            return .failure(CheckFailure(message: "it is not in the configuration"))
        }
        let reply = PeerReply<Result<CheckedMessage, CheckFailure>>(
            failed: { failure in
                switch failure {
                case .broken(let error): return .failure(CheckFailure(message: error.message))
                case .closed(let error):
                    let reason = error.map { "\($0)" } ?? "it closed the connection"
                    let text = "its agent gave no answer (an older version cannot be asked): \(reason)"
                    return .failure(CheckFailure(message: text))
                }
            },
            read: { (header, body) throws(SessionError) in
                switch header.type {
                case .checked: .success(try CheckedMessage(body))
                case .refuse: .failure(CheckFailure(message: try RefuseMessage(body).reason))
                default: nil
                }
            })
        do throws(LinkError) {
            let link = try await dial(host, within: .seconds(3), reply)
            hear(peer)
            link.send(HelloMessage(node: node, software: Self.software).frame)
            link.send(message.frame)
            defer { link.close() }
            return await reply.wait(.seconds(20)) { link.close() }
        } catch {
            return .failure(CheckFailure(message: "its agent cannot be asked: \(error)"))
        }
    }
}
