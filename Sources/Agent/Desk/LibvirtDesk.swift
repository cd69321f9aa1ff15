import Libvirt
import Model
import RomulusAPI

/// What operators ask of this host's libvirt through the agent.
struct LibvirtDesk: Sendable {
    private let libvirt: Libvirt
    private let roster: Roster

    init(_ configuration: Configuration, _ roster: Roster) {
        let place = configuration.libvirt
        libvirt = Libvirt(uri: place.uri, monitorDirectory: place.monitorDirectory)
        self.roster = roster
    }

    func domains() async throws(APIError) -> [LibvirtDomain] {
        try await ask { (libvirt) throws(LibvirtError) in try libvirt.domains() }.map(report)
    }

    func prepare(_ request: LibvirtPrepareRequest) async throws(APIError) -> LibvirtDomain {
        report(
            try await ask { (libvirt) throws(LibvirtError) in
                try libvirt.prepare(request.domain, isUndone: request.undo ?? false)
            })
    }

    private func ask<Answer: Sendable>(
        _ question: @escaping @Sendable (Libvirt) throws(LibvirtError) -> Answer
    ) async throws(APIError) -> Answer {
        try await offPool { [libvirt] () throws(APIError) in
            do throws(LibvirtError) {
                return try question(libvirt)
            } catch {
                switch error.reason {
                case .noSuchDomain: throw APIError(.noSuchVM, error.message)
                case .refused, .notInstalled: throw APIError(.refused, error.message)
                case .unreachable, .failed: throw APIError(.failed, error.message)
                }
            }
        }
    }

    private func report(_ domain: Libvirt.DomainState) -> LibvirtDomain {
        let record = VMName(domain.name).flatMap { roster[$0] }
        return LibvirtDomain(
            name: domain.name, uuid: domain.uuid, isRunning: domain.isRunning, isPersistent: domain.isPersistent,
            autostarts: domain.autostarts, monitor: domain.monitor, monitorOfNextStart: domain.monitorOfNextStart,
            state: record?.state)
    }
}
