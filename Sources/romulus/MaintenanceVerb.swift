import ArgumentParser
import Model
import RomulusAPI

struct MaintenanceVerb: AsyncParsableCommand {
    enum Change: String, ExpressibleByArgument, CaseIterable { case on, off }

    static let configuration = CommandConfiguration(
        commandName: "maintenance", abstract: "Empty this host of protected VMs, or take them back.",
        discussion: """
            on: VMs that are protected here are switched over to their standbys, and this host is nobody's standby any \
            more. off: it is a standby again, and what was moved away comes back as soon as it is protected. Without an \
            argument, tells how far it is.
            """)

    @Argument(help: "on or off; nothing to look.")
    var change: Change?

    @Flag(help: "Wait until the host is empty, or everything that was moved away is back.")
    var wait = false

    @Flag(help: "With off: leave the VMs where they are.")
    var stay = false

    @OptionGroup var options: AgentOptions

    func validate() throws {
        if stay, change != .off { throw ValidationError("--stay goes with “off”") }
        if wait, change == nil { throw ValidationError("--wait goes with “on” or “off”") }
    }

    func run() async throws {
        try await reportingErrors {
            let client = options.client
            guard let change else { return try show(try await client.maintenance()) }
            var status = try await client.setMaintenance(MaintenanceRequest(isOn: change == .on, stay: stay))
            let deadline = options.timeout.map { ContinuousClock.now + .seconds($0) }
            while wait, status.state == .emptying || status.state == .returning {
                if let deadline, deadline < .now {
                    try show(status)
                    throw APIError(
                        .timeout,
                        "\(status.node) is still \(status.state.rawValue) after \(options.timeout ?? 0) s; it goes on in the background"
                    )
                }
                try? await Task.sleep(for: .milliseconds(200))
                status = try await client.maintenance()
            }
            try show(status)
        }
    }

    private func show(_ status: MaintenanceStatus) throws {
        switch options.printing.output {
        case .json: try Terminal.json(status)
        case .table: Terminal.result(MaintenanceText.text(status))
        }
    }
}
