import ArgumentParser
import Glibc
import Model
import RomulusAPI

extension VMName: ExpressibleByArgument {
    public init?(argument: String) {
        self.init(argument)
    }
}

extension NodeName: ExpressibleByArgument {
    public init?(argument: String) {
        self.init(argument)
    }
}

/// How results are printed.
enum OutputForm: String, ExpressibleByArgument, CaseIterable {
    case table, json
}

/// What every verb that prints understands.
struct OutputOptions: ParsableArguments {
    @Option(
        name: [.customShort("o"), .customLong("output")], help: "Print results for people (table) or programs (json).")
    private var form = OutputForm.table

    @Flag(help: "The same as --output json.")
    private var json = false

    var output: OutputForm { json ? .json : form }

    @Flag(name: .shortAndLong, help: "Print results and errors only, no progress and no remarks.")
    var quiet = false
}

/// What every verb that asks the agent understands.
struct AgentOptions: ParsableArguments {
    @OptionGroup var printing: OutputOptions

    @Option(help: "The agent's socket. Default: $ROMULUS_SOCKET, else \(Romulus.defaultSocket).")
    var socket: String?

    @Option(help: "Give up after this many seconds. Default: 30 for an answer; with --wait for all of it: none.")
    var timeout: Double?

    func validate() throws {
        if let timeout, !(timeout > 0 && timeout <= 86_400) {
            throw ValidationError("--timeout takes seconds, above 0 and up to 86400")
        }
    }

    private var answerSeconds: Double { timeout ?? 30 }

    var client: AgentClient { AgentClient(socket: socketPath, timeout: .seconds(min(answerSeconds, 3600))) }

    /// How long the agent is to wait before it answers that something is done; nil where it is not to.
    func waitMilliseconds(_ wait: Bool) -> Int? {
        wait ? Int(min(answerSeconds * 1000, Double(WaitRange.milliseconds.upperBound))) : nil
    }

    private var socketPath: String {
        if let socket { return socket }
        if let value = getenv("ROMULUS_SOCKET"), value.pointee != 0 { return String(cString: value) }
        return Romulus.defaultSocket
    }
}

/// Runs what a verb does and turns an `APIError` into a line on stderr and the exit status that belongs to it.
func reportingErrors(_ body: () async throws -> Void) async throws {
    do {
        try await body()
    } catch let error as APIError {
        Terminal.complain(error.message)
        throw ArgumentParser.ExitCode(error.code.exitStatus.rawValue)
    }
}
