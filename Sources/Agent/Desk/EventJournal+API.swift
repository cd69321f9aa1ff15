import Foundation
import Journal
import Model
import RomulusAPI

/// The journal in the words of the API.
extension EventJournal {
    /// The form that `AgentService.events` asks for.
    public func events(_ query: EventQuery, wait: Duration = .zero) async throws(APIError) -> [Event] {
        var asked = JournalQuery(vm: query.vm)
        asked.kinds = query.kinds
        asked.since = query.since.map { Int64(min(max($0.timeIntervalSince1970, 0) * 1e9, 9e18)) }
        asked.after = query.after
        asked.limit = query.limit
        asked.newest = query.newest
        do {
            return try await events(asked, wait: wait).map { Event($0) }
        } catch {
            throw APIError(.failed, error.description)
        }
    }

    /// The form that `AgentService.explanation` asks for; `node` is the name of this host.
    public func explanation(of vm: VMName, node: NodeName) async throws(APIError) -> Explanation {
        let chain: [JournalEvent]
        do {
            chain = try await lastChain(of: vm)
        } catch {
            throw APIError(.failed, error.description)
        }
        guard !chain.isEmpty else {
            throw APIError(
                .noSuchVM,
                "the journal of \(node) has no decision about “\(vm)”: “romulus events” shows what it has")
        }
        return Explanation(vm: vm, node: node, events: chain.map { Event($0) })
    }
}

extension Event {
    init(_ event: JournalEvent) {
        self.init(
            id: event.id, time: Date(timeIntervalSince1970: Double(event.time.wall) / 1e9),
            bootID: event.time.bootID, bootNanoseconds: event.time.boot, vm: event.vm, epoch: event.epoch?.number,
            term: event.term?.number, kind: event.kind, message: event.text, cause: event.cause)
    }
}
