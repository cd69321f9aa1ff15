import Model

/// How far the maintenance of a host is.
public struct MaintenanceStatus: Codable, Hashable, Sendable {
    public enum State: String, Codable, Hashable, Sendable, CaseIterable {
        case off
        /// VMs are being moved away.
        case emptying
        /// No protected VM is here: the host may be switched off.
        case empty
        /// Maintenance is over; VMs that it moved away are on their way back.
        case returning
    }

    /// A VM that is not yet where maintenance wants it, or cannot be moved.
    public struct VM: Codable, Hashable, Sendable {
        public var name: VMName
        /// It is not protected, so it stays here until it is or somebody moves it.
        public var stays: Bool
        /// One sentence.
        public var reason: String

        public init(name: VMName, stays: Bool, reason: String) {
            self.name = name
            self.stays = stays
            self.reason = reason
        }
    }

    public var node: NodeName
    public var state: State
    /// What is left to do, or cannot be done.
    public var vms: [VM]
    /// What was moved away and comes back when maintenance ends.
    public var moved: [VMName]

    public init(node: NodeName, state: State, vms: [VM], moved: [VMName]) {
        self.node = node
        self.state = state
        self.vms = vms
        self.moved = moved
    }
}
