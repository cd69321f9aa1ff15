import Hypervisor
import Logging
import Model

/// Guests of QEMU processes on this host, found by their monitors' sockets.
public struct QEMUGuests: GuestSource, GuestSurvey {
    public init() {}

    public func open(
        _ vm: VMName, at address: String, log: Logger, elsewhere: (GuestDescription) -> [String]
    ) throws(SessionError) -> any Guest {
        try GuestHandle(vm: vm, qmpPath: address, log: log, elsewhere: elsewhere)
    }

    public func look(at address: String) -> GuestSight {
        do throws(QMPError) {
            let monitor = try QMPConnection(path: address)
            let status = try monitor.execute("query-status")["status"]?.string ?? ""
            if ["inmigrate", "postmigrate", "shutdown"].contains(status) {
                return .absent("the QEMU at \(address) has no guest that runs (\(status))")
            }
            return .ready
        } catch {
            switch error.reason {
            case .noSuchPath, .refused, .closed: return .absent(absence(at: address))
            default: return .unusable("\(error)")
            }
        }
    }

    public func absence(at address: String) -> String { "no QEMU listens at \(address): the VM does not run here" }

    public func examine(
        at address: String
    ) throws(SessionError) -> (description: GuestDescription?, refusals: [String]) {
        do throws(QMPError) {
            let (description, refusals) = GuestInspector.examine(try QMPConnection(path: address))
            return (description, refusals.map(\.message))
        } catch {
            throw SessionError(.refused, "\(error)")
        }
    }

    public func search(for name: String, _ manager: GuestManager?) -> GuestSearch {
        QEMUSearch.choose(name, manager, among: QEMUSearch.running()) { address in
            if case .ready = look(at: address) { true } else { false }
        }
    }
}
