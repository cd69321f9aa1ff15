import Model

/// What an agent can be asked to do. The HTTP server in front of it adds nothing but the transport, so that every
/// rule about VMs lives behind this protocol.
///
/// All functions may be called at any time, from any task and several at once; an `APIError` is what the caller gets to
/// read. `protect`, `unprotect` and `failover` answer as soon as the request is accepted or refused: the work goes on
/// and shows in the status.
public protocol AgentService: Sendable {
    func health() async throws(APIError) -> Health

    /// All VMs that this agent knows, in any order.
    func list() async throws(APIError) -> [VMStatus]

    func status(of vm: VMName) async throws(APIError) -> VMStatus

    /// The last `limit` epochs of a VM, with the model of their cost.
    func epochs(of vm: VMName, limit: Int) async throws(APIError) -> EpochList

    /// Watches a guest that nobody protects for a while, and tells what protecting it would cost.
    func forecast(_ request: ForecastRequest) async throws(APIError) -> Forecast

    /// Everything that stands in the way of protecting a VM, at both hosts.
    func check(_ request: CheckRequest) async throws(APIError) -> CheckReport

    /// Begins to protect a VM.
    func protect(_ request: ProtectRequest) async throws(APIError) -> VMStatus

    /// Changes what the epochs of a protected VM are like, from the next one on.
    func tune(_ request: TuneRequest) async throws(APIError) -> VMStatus

    /// Ends protection; returns when the guest runs untouched, with what the VM's status is then.
    func unprotect(_ request: UnprotectRequest) async throws(APIError) -> VMStatus

    /// Compares the replica of a protected VM with its guest, page by page. `progress` is called now and then, from any thread,
    /// with what is known so far. A task that is cancelled ends it.
    func verify(
        _ request: VerifyRequest, _ progress: @escaping @Sendable (Verification) -> Void
    ) async throws(APIError) -> Verification

    /// Begins a failover to the standby.
    func failover(_ request: FailoverRequest) async throws(APIError) -> VMStatus

    /// Moves the guest to the other host of its pair without losing anything; returns when that began, or with
    /// `waitMilliseconds` when the guest runs there.
    func switchover(_ request: SwitchoverRequest) async throws(APIError) -> VMStatus

    /// Turns the dial; returns when that began, or with `waitMilliseconds` when the level is in force.
    func dial(_ request: DialRequest) async throws(APIError) -> VMStatus
    /// Begins to copy to the disks that were lost at this host what they lack.
    func rejoin(_ vm: VMName) async throws(APIError) -> VMStatus

    /// What only the operator can say of a guest that is `frozen`, `forked` or `handing_over` without an arbiter.
    func decide(_ request: DecisionRequest) async throws(APIError) -> VMStatus

    /// Whether this host is being emptied, and how far that is.
    func maintenance() async throws(APIError) -> MaintenanceStatus

    func setMaintenance(_ request: MaintenanceRequest) async throws(APIError) -> MaintenanceStatus

    /// The events that `query` asks for, oldest first. When there is none yet, waits up to `wait` for one and then
    /// answers with what there is.
    func events(_ query: EventQuery, wait: Duration) async throws(APIError) -> [Event]

    /// The last chain of decisions about a VM, also of one that the agent has nothing to do with any more.
    func explanation(of vm: VMName) async throws(APIError) -> Explanation

    /// The standby's command line as shell text.
    func standbyCommand(_ request: StandbyCommandRequest) async throws(APIError) -> String

    /// The domains of this host's libvirt.
    func libvirtDomains() async throws(APIError) -> [LibvirtDomain]

    /// Changes what a domain is started with from its next start on.
    func prepareLibvirt(_ request: LibvirtPrepareRequest) async throws(APIError) -> LibvirtDomain

    /// Whether somebody else may start the VM here.
    func startPermission(of vm: VMName) async throws(APIError) -> StartPermission

    /// The operator says that no other host runs the VM: it may be started here for five minutes.
    func allowStart(of vm: VMName) async throws(APIError) -> StartPermission

    /// All figures in Prometheus text format 0.0.4.
    func metrics() async throws(APIError) -> String
}
