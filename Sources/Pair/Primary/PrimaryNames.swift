import Model

/// The agent's part in a primary's duty, which does not change.
package struct PrimaryNames: Sendable {
    var vm: VMName
    /// The standby that the operator named.
    var standby: NodeName
    /// The arbiter's name; nil where there is none.
    var arbiter: String?
    /// The operator named the guest: a first session that fails is told, and not tried again.
    var isNamed: Bool
    /// The guest was resumed here by this agent.
    var tookOver: Bool

    package init(_ vm: VMName, standby: NodeName, arbiter: String?, isNamed: Bool, tookOver: Bool) {
        self.vm = vm
        self.standby = standby
        self.arbiter = arbiter
        self.isNamed = isNamed
        self.tookOver = tookOver
    }
}
