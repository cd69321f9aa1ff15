import Hypervisor
import Model
import RomulusAPI

/// Where the monitor of a VM is: as asked, as configured, or as found by the VM's name among the guests that run here.
struct GuestFinder: Sendable {
    let configuration: Configuration
    let guests: any GuestSurvey

    /// The monitor, and the name that the VM goes by: it may have been asked for by its UUID.
    func find(
        _ vm: VMName, _ asked: String?, by manager: GuestManager? = nil
    ) async throws(APIError) -> (vm: VMName, monitor: String) {
        if let address = asked ?? (manager == nil ? configuration.vms[vm]?.qmp : nil) { return (vm, address) }
        let guests = guests
        switch try await offPool({ () throws(APIError) in guests.search(for: vm.description, manager) }) {
        case .found(let address, let name):
            guard let name = VMName(name) else {
                throw APIError(
                    .badRequest,
                    "“\(name)” cannot be the name of a VM here (letters, digits, dots, dashes and underscores): choose one, and say"
                        + " where its monitor is: --qmp \(address)")
            }
            return (name, address)
        case .none:
            throw APIError(
                .noSuchVM,
                "no QEMU on \(configuration.node) runs \(manager.map { "a domain of \($0.rawValue)" } ?? "a guest")"
                    + " called \(vm): start it, or say where its monitor is: --qmp PATH, or “qmp” in the configuration")
        case .unusable(let reason): throw APIError(.refused, reason)
        }
    }
}
