import ArgumentParser
import Model
import RomulusAPI

struct GoOnVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "go-on", abstract: "Decide that this host's copy of a guest runs on, alone.",
        discussion: """
            For a VM that is frozen, forked or handing_over without an arbiter: your answer is the word that the other \
            host does not run it, or that its history is to be given up.
            """)

    @Argument(help: "The VM's name.")
    var vm: VMName

    @Flag(name: .shortAndLong, help: "Do not ask: I made sure of the other host.")
    var yes = false

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await Decision(vm: vm, decision: .goOn, isConfirmed: yes, options: options).run {
            "\(vm) is \($0.state.rawValue) here and is to run on alone, from what it is now. If \($0.peerName) runs it too, two"
                + " histories exist and one of them has to be given up."
        }
    }
}
