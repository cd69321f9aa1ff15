import ArgumentParser
import Model
import RomulusAPI

struct GiveUpVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "give-up", abstract: "Decide that this host's copy of a guest is ended.",
        discussion: """
            For a VM that is frozen or forked without an arbiter, when the other host's copy is the one to stay. The QEMU \
            here is killed; what only it has is lost.
            """)

    @Argument(help: "The VM's name.")
    var vm: VMName

    @Flag(name: .shortAndLong, help: "Do not ask: the other host's copy is the one to stay.")
    var yes = false

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await Decision(vm: vm, decision: .giveUp, isConfirmed: yes, options: options).run {
            "\(vm) is \($0.state.rawValue) here. Its QEMU here is killed and what only it has is lost; \($0.peerName) has to have"
                + " the copy that is to stay."
        }
    }
}
