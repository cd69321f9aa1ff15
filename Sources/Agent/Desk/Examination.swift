import Hypervisor
import Messages
import Model
import Pair
import RomulusAPI
import Standby

/// What can be told of protecting a VM before it is: asked at both hosts, with nothing changed at either.
struct Examination: Sendable {
    let configuration: Configuration
    let hosts: Hosts
    let roster: Roster
    let drivers: Drivers

    /// Whether the VM could be protected.
    func check(_ request: CheckRequest) async throws(APIError) -> CheckReport {
        // A VM that is known goes by its name already.
        var (vm, monitor) = (request.vm, request.qmp)
        if roster[vm] == nil {
            let found = try await drivers.finder.find(vm, monitor)
            (vm, monitor) = (found.vm, found.monitor)
        }
        let peer = try hosts.usualPeer(request.standby ?? configuration.vms[vm]?.standby)
        var report = CheckReport(vm: vm, standby: peer, problems: [], notes: [])
        let here = configuration.node
        let (guest, refusals) = try await guest(of: vm, monitor)
        report.problems += refusals.map { CheckReport.Finding(host: here, text: $0) }
        report.notes += (guest?.notes ?? []).map { CheckReport.Finding(host: here, text: $0) }
        guard let peer else {
            report.notes.append(
                CheckReport.Finding(host: here, text: "no standby was asked: name one with --standby HOST"))
            return report
        }
        guard let guest else { return report }
        let message = CheckMessage(
            vm: vm, guest: guest, createsImages: request.createImage ?? false,
            level: configuration.vms[vm]?.level ?? configuration.defaults.level)
        switch await hosts.check(peer, message) {
        case .success(let answer):
            report.problems += answer.problems.map { CheckReport.Finding(host: peer, text: $0) }
            report.notes += answer.notes.map { CheckReport.Finding(host: peer, text: $0) }
        case .failure(let failure):
            report.problems.append(CheckReport.Finding(host: peer, text: failure.message))
        }
        return report
    }

    /// What runs behind the VM's monitor, and why it cannot be protected.
    private func guest(
        of vm: VMName, _ qmp: String?
    ) async throws(APIError) -> (description: GuestDescription?, refusals: [String]) {
        let known = roster[vm]
        switch known?.part {
        case .primary(let session):
            if let found = session.guest { return (found, []) }
        case .standby:
            throw APIError(.refused, "\(vm) does not run here but at \(known?.peerName ?? "another host"): ask there")
        case nil, .some(.none): break
        }
        let path = try await drivers.finder.find(vm, qmp ?? known?.qmp).monitor
        return try await offPool { [drivers] () throws(APIError) in try drivers.examine(path) }
    }

    /// How a standby of the VM would be started here, as shell text.
    func standbyCommand(_ request: StandbyCommandRequest) async throws(APIError) -> String {
        let known = request.vm.flatMap { roster[$0] }
        if request.qmp == nil, let known, case .standby(let session) = known.part {
            return session.command.text
        }
        let guest: GuestDescription
        if let known, case .primary(let session) = known.part, let found = session.guest {
            guest = found
        } else {
            let path = try await monitor(of: request.vm, request.qmp ?? known?.qmp)
            guest = try await offPool { [drivers] () throws(APIError) in try drivers.inspect(path) }
        }
        return try drivers.standbyCommand(request.vm ?? VMName(guest.guestName) ?? Self.unnamed, guest)
    }

    private func monitor(of vm: VMName?, _ asked: String?) async throws(APIError) -> String {
        if let vm { return try await drivers.finder.find(vm, asked).monitor }
        guard let asked else { throw APIError(.badRequest, "name a VM, or its monitor with --qmp PATH") }
        return asked
    }

    /// Stands for a VM that has no name yet in the paths of a printed command line.
    private static let unnamed = VMName("vm").unsafelyUnwrapped
}
