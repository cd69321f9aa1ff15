import ArgumentParser
import Model
import RomulusAPI

struct EventsVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events", abstract: "Show what happened, oldest first.",
        discussion: "With --output json one object is printed per line.")

    @Argument(help: "The VM's name. Default: all, and the agent itself.")
    var vm: VMName?

    @Flag(name: .shortAndLong, help: "Go on with each event as it happens, until interrupted.")
    var follow = false

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            if follow {
                try await options.client.follow(vm: vm) { event throws(APIError) in
                    try show(event)
                    return true
                }
                throw APIError(.agentUnreachable, "the agent stopped sending events")
            }
            var last: UInt64 = 0
            while true {
                let events = try await options.client.events(vm: vm, after: last)
                for event in events { try show(event) }
                guard let newest = events.last else { return }
                last = newest.id
            }
        }
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
