import ArgumentParser
import Model
import RomulusAPI

struct LibvirtVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "libvirt", abstract: "Look at this host's domains of libvirt, and prepare them for protection.",
        discussion:
            "docs/LIBVIRT.md tells what a domain needs, and what libvirt's own commands do while it is protected.",
        subcommands: [LibvirtListVerb.self, LibvirtPrepareVerb.self, LibvirtMayStartVerb.self, LibvirtAllowVerb.self])
}

struct LibvirtListVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Show libvirt's domains, and whether they can be protected as they run.")

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let domains = try await options.client.libvirtDomains()
            switch options.printing.output {
            case .json: try Terminal.json(LibvirtDomainList(domains))
            case .table: Terminal.result(LibvirtText.list(domains, colour: Terminal.colour))
            }
        }
    }
}

struct LibvirtPrepareVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prepare", abstract: "Give a domain a second monitor, from its next start on.",
        discussion: """
            Adds a monitor for Romulus to the domain's persistent definition (“virsh dumpxml --inactive” shows it). What runs now \
            is not touched: shut the domain down and start it once. A reboot within the guest is no start.
            """)

    @Argument(help: "The domain's name or UUID.")
    var domain: String

    @Flag(help: "Take the second monitor out of the definition again.")
    var undo = false

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let found = try await options.client.prepareLibvirt(
                LibvirtPrepareRequest(domain: domain, undo: undo ? true : nil))
            switch options.printing.output {
            case .json: try Terminal.json(found)
            case .table:
                Terminal.result(LibvirtText.prepared(found) + "\n")
            }
        }
    }
}

struct LibvirtMayStartVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "may-start",
        abstract: "Tell whether a VM may be started on this host by somebody else than Romulus.",
        discussion: """
            libvirt's hook asks this before each start of a domain. Exit status: 0 it may; 5 it must not, as it runs or may run at \
            another host.
            """)

    @Argument(help: "The VM's name.")
    var vm: VMName

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let permission = try await options.client.startPermission(of: vm)
            switch options.printing.output {
            case .json: try Terminal.json(permission)
            case .table:
                if permission.isAllowed {
                    Terminal.result(permission.reason + "\n")
                } else {
                    Terminal.complain(permission.reason)
                }
            }
            if !permission.isAllowed { throw ExitCode(5) }
        }
    }
}

struct LibvirtAllowVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "allow", abstract: "Let a VM be started on this host, although another one may run it.",
        discussion: "This is your word that no other host runs it. It counts for five minutes.")

    @Argument(help: "The VM's name.")
    var vm: VMName

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let permission = try await options.client.allowStart(of: vm)
            switch options.printing.output {
            case .json: try Terminal.json(permission)
            case .table: Terminal.result(permission.reason + "\n")
            }
        }
    }
}
