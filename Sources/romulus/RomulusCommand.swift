import ArgumentParser
import RomulusAPI

/// `romulus`: the operator's hand on an agent. One file per verb; what is printed and how an agent is asked lives in
/// `RomulusAPI`, certificates in `PKI`. Owns nothing but the terminal.
@main
struct RomulusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "romulus",
        abstract: "Protect running virtual machines against the loss of their host.",
        discussion: """
            Asks the agent of this host (romulusd) over its unix socket. Exit status: 0 done; 1 failed; 2 and 3 see \
            “romulus help status”; 4 no such VM or peer; 5 refused; 6 timeout; 7 no agent; 8 see “romulus help verify”; 64 wrong usage.
            """,
        version: Romulus.version,
        subcommands: [
            CheckVerb.self, ProtectVerb.self, TuneVerb.self, UnprotectVerb.self, ListVerb.self, StatusVerb.self,
            TopVerb.self, ForecastVerb.self, VerifyVerb.self, SwitchoverVerb.self, DialVerb.self,
            RejoinVerb.self,
            FailoverVerb.self,
            MaintenanceVerb.self, GoOnVerb.self, GiveUpVerb.self, EventsVerb.self, WhyVerb.self,
            StandbyCommandVerb.self, LibvirtVerb.self,
            PKIVerb.self, VersionVerb.self,
        ])

    static func main() async {
        await main(inOrder(Array(CommandLine.arguments.dropFirst())))
    }

    /// Options that every verb has may stand before the verb too; the parser wants them behind it.
    static func inOrder(_ arguments: [String]) -> [String] {
        var rest = arguments[...]
        var moved: [String] = []
        while let word = rest.first {
            let name = word.split(separator: "=", maxSplits: 1).first.map(String.init) ?? word
            guard ["--socket", "--output", "-o", "--json", "--timeout", "--quiet", "-q"].contains(name) else { break }
            moved.append(rest.removeFirst())
            let takesValue = !["--json", "--quiet", "-q"].contains(name) && !word.contains("=")
            if takesValue, let value = rest.popFirst() { moved.append(value) }
        }
        let end = rest.firstIndex(of: "--") ?? rest.endIndex
        return Array(rest[..<end]) + moved + Array(rest[end...])
    }
}
