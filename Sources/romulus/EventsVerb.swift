import ArgumentParser
import FoundationEssentials
import Model
import RomulusAPI

struct EventsVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events", abstract: "Show what happened, oldest first.",
        discussion: """
            Shows the newest 200 events, or with --since all from then on. With --output json one object is printed per \
            line. “romulus why VM” tells the last chain of decisions in sentences.
            """)

    @Argument(help: "The VM's name. Default: all, and the agent itself.")
    var vm: VMName?

    @Option(help: "Only from then on: \(SinceText.forms).")
    var since: String?

    @Option(help: "Only events of this kind, such as promoted; may be repeated.")
    var kind: [String] = []

    @Option(help: "Only the newest N, 1 to 1000.")
    var limit: Int?

    @Flag(name: .shortAndLong, help: "Go on with each event as it happens, until interrupted.")
    var follow = false

    @OptionGroup var options: AgentOptions

    /// How many are shown when nothing says how many.
    static let usualLimit = 200

    func validate() throws {
        if let since, SinceText.date(since) == nil {
            throw ValidationError("--since takes \(SinceText.forms), not “\(since)”")
        }
        if let limit, !EventQuery.limitRange.contains(limit) {
            throw ValidationError("--limit takes 1 to 1000")
        }
        for kind in kind where kind.isEmpty || kind.contains(",") {
            throw ValidationError("--kind takes one word, such as promoted; repeat it for more")
        }
    }

    func run() async throws {
        try await reportingErrors {
            let client = options.client
            var query = EventQuery(
                vm: vm, kinds: kind.map { EventKind(rawValue: $0) }, since: since.flatMap { SinceText.date($0) })
            var count = 0
            if let limit = limit ?? (since == nil ? Self.usualLimit : nil) {
                query.limit = limit
                query.newest = true
                try show(await client.events(query), &query, &count)
                query.limit = EventQuery.limitRange.upperBound
            } else {
                while case let events = try await client.events(query), !events.isEmpty {
                    try show(events, &query, &count)
                }
            }
            if count == 0, let unknown = query.kinds.first(where: { !EventKind.known.contains($0) }) {
                let known = EventKind.known.map(\.rawValue).joined(separator: ", ")
                Terminal.remark("no event is of the kind “\(unknown)”; the kinds are \(known)", options.printing)
            }
            guard follow else { return }
            try await client.follow(query) { event throws(APIError) in
                try show(event)
                return true
            }
            throw APIError(.agentUnreachable, "the agent stopped sending events")
        }
    }

    /// Shows what came and lets `query` go on behind it.
    private func show(_ events: [Event], _ query: inout EventQuery, _ count: inout Int) throws(APIError) {
        for event in events { try show(event) }
        query.after = events.last?.id ?? query.after
        count += events.count
    }

    private func show(_ event: Event) throws(APIError) {
        switch options.printing.output {
        case .table: Terminal.result(StatusText.event(event, colour: Terminal.colour))
        case .json:
            do {
                try Terminal.json(event, pretty: false)
            } catch {
                throw APIError(.failed, "the event cannot be written as JSON: \(error)")
            }
        }
    }
}
