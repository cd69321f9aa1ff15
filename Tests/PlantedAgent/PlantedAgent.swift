import Agent
import Foundation
import Pair
import ServiceLifecycle
import Storage

/// The agent with a fault planted in it, named by `ROMULUS_PLANTED_FAULT`: what the verifiers of the tests must find.
/// It is part of no installation.
@main
struct PlantedAgent {
    static func main() async throws {
        let arguments = CommandLine.arguments
        if arguments.count == 3, arguments[1] == "disk-server" {
            return try DiskServer(JSONDecoder().decode(ServedPlan.self, from: Data(arguments[2].utf8))).run()
        }
        guard let flag = arguments.firstIndex(of: "--config"), flag + 1 < arguments.count,
            let name = ProcessInfo.processInfo.environment["ROMULUS_PLANTED_FAULT"],
            let fault = PlantedFaults(name: name)
        else {
            FileHandle.standardError.write(Data("romulusd-planted: --config FILE and ROMULUS_PLANTED_FAULT\n".utf8))
            exit(64)
        }
        let configuration = try Configuration.load(path: arguments[flag + 1])
        let log = AgentLog.make(level: configuration.logLevel)
        let program = try AgentProgram(configuration: configuration, planted: fault, log: log)
        try await ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [program], gracefulShutdownSignals: [.sigterm, .sigint], logger: log)
        ).run()
    }
}
