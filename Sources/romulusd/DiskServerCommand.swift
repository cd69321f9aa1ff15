import ArgumentParser
import Foundation
import Storage

/// The process of one disk at level component: started by an agent, and by nobody else.
struct DiskServerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "disk-server", abstract: "Serve one disk of a guest; started by the agent.", shouldDisplay: false)

    @Argument(help: "What to serve, and where, as JSON.")
    var plan: String

    func run() throws {
        do {
            let plan = try JSONDecoder().decode(ServedPlan.self, from: Data(plan.utf8))
            try DiskServer(plan).run()
        } catch {
            FileHandle.standardError.write(Data("\(error)\n".utf8))
            throw ExitCode.failure
        }
    }
}
