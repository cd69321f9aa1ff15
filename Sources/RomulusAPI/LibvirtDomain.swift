import Model

/// A domain of this host's libvirt, and how it can be reached for protection.
public struct LibvirtDomain: Codable, Hashable, Sendable {
    public var name: String
    public var uuid: String
    public var isRunning: Bool
    /// It has a definition that outlives its run.
    public var isPersistent: Bool
    /// libvirt starts it when the host comes up.
    public var autostarts: Bool
    /// The socket of the second monitor that it runs with; nil where it has none, or does not run.
    public var monitor: String?
    /// That which it is defined with, for its next start; nil where there is none.
    public var monitorOfNextStart: String?
    /// What the agent has of it under that name; nil where it does not know it.
    public var state: ProtectionState?

    public init(
        name: String, uuid: String, isRunning: Bool, isPersistent: Bool, autostarts: Bool, monitor: String?,
        monitorOfNextStart: String?, state: ProtectionState?
    ) {
        self.name = name
        self.uuid = uuid
        self.isRunning = isRunning
        self.isPersistent = isPersistent
        self.autostarts = autostarts
        self.monitor = monitor
        self.monitorOfNextStart = monitorOfNextStart
        self.state = state
    }

    enum CodingKeys: String, CodingKey {
        case name, uuid, monitor, state
        case isRunning = "running"
        case isPersistent = "persistent"
        case autostarts = "autostart"
        case monitorOfNextStart = "next_monitor"
    }
}

public struct LibvirtDomainList: Codable, Sendable {
    public var domains: [LibvirtDomain]

    public init(_ domains: [LibvirtDomain]) { self.domains = domains }
}

/// Give a domain a second monitor from its next start on, or take that back.
public struct LibvirtPrepareRequest: Codable, Hashable, Sendable {
    /// Its name, or its UUID.
    public var domain: String
    /// Nil is false.
    public var undo: Bool?

    public init(domain: String, undo: Bool? = nil) {
        self.domain = domain
        self.undo = undo
    }
}

/// Whether a VM may be started on this host by somebody else than Romulus.
public struct StartPermission: Codable, Hashable, Sendable {
    public var vm: VMName
    public var isAllowed: Bool
    /// Why, one sentence; with the way out where it is not allowed.
    public var reason: String

    public init(vm: VMName, isAllowed: Bool, reason: String) {
        self.vm = vm
        self.isAllowed = isAllowed
        self.reason = reason
    }

    enum CodingKeys: String, CodingKey {
        case vm, reason
        case isAllowed = "allowed"
    }
}
