import Agent
import ArgumentParser
import Foundation
import RomulusAPI
import ServiceLifecycle

/// The agent of one host, or a witness.
@main
struct Romulusd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "romulusd", abstract: "The Romulus agent: one per host, for any number of VMs; or a witness.",
        version: Romulus.version, subcommands: [DiskServerCommand.self])

    @Option(name: .long, help: "The configuration file.")
    var config = Configuration.defaultPath

    @Flag(name: .long, help: "Check the configuration file, say what is wrong with it, and end.")
    var checkConfig = false

    @Flag(name: .long, help: "Print a configuration file with every key, and end.")
    var printSample = false

    @Flag(name: .long, help: "Print the table of all keys as the manual has it, and end.")
    var printSettings = false

    func run() async throws {
        if printSample || printSettings {
            print(printSample ? Configuration.sampleFile : Configuration.settingsTable, terminator: "")
            return
        }
        if checkConfig {
            let (text, isGood) = Configuration.report(path: config)
            print(text)
            throw isGood ? ExitCode.success : ExitCode.failure
        }
        do {
            let configuration = try Configuration.load(path: config)
            try configuration.checkHost(path: config)
            let log = AgentLog.make(level: configuration.logLevel)
            let program: any Service
            if let witness = try WitnessProgram(configuration: configuration, log: log) {
                program = witness
            } else {
                program = try AgentProgram(configuration: configuration, log: log)
            }
            try await ServiceGroup(
                configuration: ServiceGroupConfiguration(
                    services: [program], gracefulShutdownSignals: [.sigterm, .sigint], logger: log)
            ).run()
        } catch {
            FileHandle.standardError.write(Data("romulusd: \(error)\n".utf8))
            throw ExitCode.failure
        }
    }
}
