import Model

/// The paths of the API. `/v1` stays as long as old clients would understand what is sent.
public enum Paths {
    public static let version = "/v1"
    public static let health = version + "/health"
    public static let vms = version + "/vms"
    public static let events = version + "/events"
    public static let standbyCommand = version + "/standby-command"
    public static let maintenance = version + "/maintenance"
    public static let libvirtDomains = version + "/libvirt/domains"
    public static let libvirtPrepare = version + "/libvirt/prepare"
    public static let metrics = "/metrics"

    public static func vm(_ vm: VMName) -> String { "\(vms)/\(vm)" }
    public static func protect(_ vm: VMName) -> String { "\(vms)/\(vm)/protect" }
    public static func check(_ vm: VMName) -> String { "\(vms)/\(vm)/check" }
    public static func tune(_ vm: VMName) -> String { "\(vms)/\(vm)/tune" }
    public static func unprotect(_ vm: VMName) -> String { "\(vms)/\(vm)/unprotect" }
    public static func failover(_ vm: VMName) -> String { "\(vms)/\(vm)/failover" }
    public static func rejoin(_ vm: VMName) -> String { "\(vms)/\(vm)/rejoin" }
    public static func dial(_ vm: VMName) -> String { "\(vms)/\(vm)/dial" }
    public static func switchover(_ vm: VMName) -> String { "\(vms)/\(vm)/switchover" }
    public static func decide(_ vm: VMName) -> String { "\(vms)/\(vm)/decide" }
    public static func why(_ vm: VMName) -> String { "\(vms)/\(vm)/why" }
    public static func epochs(_ vm: VMName) -> String { "\(vms)/\(vm)/epochs" }
    public static func forecast(_ vm: VMName) -> String { "\(vms)/\(vm)/forecast" }
    public static func verify(_ vm: VMName) -> String { "\(vms)/\(vm)/verify" }
    public static func startPermission(_ vm: VMName) -> String { "\(vms)/\(vm)/start-permission" }
    public static func watch(_ vm: VMName) -> String { "\(vms)/\(vm)/watch" }
}
