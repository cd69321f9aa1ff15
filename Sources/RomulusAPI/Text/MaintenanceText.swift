import Model

/// The maintenance of a host, as `romulus maintenance` prints it.
public enum MaintenanceText {
    public static func text(_ status: MaintenanceStatus) -> String {
        let state =
            switch status.state {
            case .off: "\(status.node) is not in maintenance"
            case .emptying: "\(status.node) is being emptied"
            case .empty: "\(status.node) is empty: no protected VM is here"
            case .returning: "\(status.node) takes back what was moved away"
            }
        var lines = [state]
        lines += status.vms.map { "  \($0.name): \(Table.oneLine($0.reason))" }
        if !status.moved.isEmpty {
            lines.append("  moved away: \(status.moved.map(\.description).joined(separator: ", "))")
        }
        return lines.joined(separator: "\n") + "\n"
    }
}
