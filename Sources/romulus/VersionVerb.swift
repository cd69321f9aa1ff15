import ArgumentParser
import RomulusAPI

struct VersionVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "version", abstract: "Show the versions of this program and of the agent.")

    private struct Versions: Encodable {
        let romulus: String
        /// Absent when there is no agent to ask.
        let romulusd: String?
    }

    @OptionGroup var options: AgentOptions

    func run() async throws {
        var agent: String?
        do {
            agent = try await options.client.health().version
        } catch {
            Terminal.remark("romulus: \(error.message)", options.printing)
        }
        switch options.printing.output {
        case .json: try Terminal.json(Versions(romulus: Romulus.version, romulusd: agent))
        case .table: Terminal.result("romulus \(Romulus.version)\nromulusd \(agent ?? "-")\n")
        }
    }
}
