import ArgumentParser
import FoundationEssentials
import Model
import RomulusAPI

struct TopVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top", abstract: "Watch what protection costs, epoch by epoch.",
        discussion: """
            One line for each VM of this host, and the last epochs of one of them with what the model says beside. Keys: q \
            or Ctrl-C quits, the arrows (or j and k) choose the VM.
            """)

    @Argument(help: "The VM whose epochs are shown. Default: the first one.")
    var vm: VMName?

    @Flag(help: "Look once, which takes a second, and end.")
    var once = false

    @Option(help: "Seconds between two looks, 0.1 to 60.")
    var interval = 1.0

    @OptionGroup var options: AgentOptions

    func validate() throws {
        guard (0.1...60).contains(interval) else { throw ValidationError("--interval takes 0.1 to 60 seconds") }
    }

    func run() async throws {
        try await reportingErrors {
            let watcher = TopWatcher(client: options.client, chosen: vm)
            if once {
                _ = try await watcher.look()
                try await Task.sleep(for: .seconds(interval))
                try show(try await watcher.look())
            } else if options.printing.output == .json {
                while true {
                    try show(try await watcher.look(), pretty: false)
                    try await Task.sleep(for: .seconds(interval))
                }
            } else {
                guard Terminal.stdoutIsTerminal, Terminal.stdinIsTerminal else {
                    throw APIError(.badRequest, "there is no terminal to draw on: give --once, or --json")
                }
                try await draw(watcher)
            }
        }
    }

    private func show(_ look: TopLook, pretty: Bool = true) throws {
        switch options.printing.output {
        case .json: try Terminal.json(look, pretty: pretty)
        case .table:
            Terminal.result(
                TopText.screen(look, columns: Terminal.columns, rows: Self.printedRows, colour: Terminal.colour))
        }
    }

    /// What is printed once is as long as a small terminal is high.
    private static let printedRows = 24

    private func draw(_ watcher: TopWatcher) async throws {
        let screen = try TerminalScreen()
        defer { screen.restore() }
        for await key in screen.keys(every: interval) {
            switch key {
            case .quit: return
            case .up: await watcher.choose(-1)
            case .down: await watcher.choose(1)
            case .none: break
            }
            let look = try await watcher.look()
            screen.draw(
                TopText.screen(look, columns: screen.columns, rows: screen.rows, colour: Terminal.colour))
        }
    }
}

/// Asks the agent, and remembers what the last look was.
actor TopWatcher {
    private let client: AgentClient
    private var chosen: VMName?
    private var names: [VMName] = []
    private var base: TopBase?

    /// More epochs than this fit on no screen.
    private static let epochsMax = 64

    init(client: AgentClient, chosen: VMName?) {
        self.client = client
        self.chosen = chosen
    }

    func look() async throws(APIError) -> TopLook {
        let health = try await client.health()
        let statuses = try await client.list()
        names = statuses.map(\.name).sorted()
        let time = Date()
        var epochs: EpochList?
        if let vm = chosen ?? names.first { epochs = try await client.epochs(of: vm, limit: Self.epochsMax) }
        defer { base = TopBase(time: time, health: health, statuses: statuses) }
        return TopLook(time: time, health: health, statuses: statuses, epochs: epochs, before: base)
    }

    /// The VM so many places further down.
    func choose(_ step: Int) {
        guard !names.isEmpty else { return }
        let now = chosen.flatMap { names.firstIndex(of: $0) } ?? 0
        chosen = names[min(max(now + step, 0), names.count - 1)]
    }
}
