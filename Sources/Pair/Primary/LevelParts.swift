import Hypervisor
import KernelGate
import Leases
import Model
import Protocol

/// The gate before the guest's NICs and the lease that keeps it open, at a level whose output is not held; and the other parts of
/// a level, as a shell attaches them.
enum LevelParts {
    /// Speaks for the guest from here on.
    static func attend(_ shell: PrimaryShell) {
        var attendant = Leases.Attendant()
        attendant.askStandby = { [weak shell] question, term in
            let link = shell?.state.withLock { $0.duty.connection.linkDown == nil ? $0.parts.link : nil }
            link?.send(PrimaryMessage.askPromise(question: question, term).frame)
        }
        attendant.mayRun = { [weak shell] in shell?.tell { $0.mayRun() } }
        attendant.guarded = { [weak shell] in shell?.tell { $0.hear(.attached(.gate)) } }
        attendant.unguardable = { [weak shell] reason in
            if let shell { failToGuard(reason, shell) }
        }
        attendant.report = { [weak shell] text in shell?.report(.event(.state, text)) }
        shell.custody.leases?.attend(shell.options.vm, attendant)
    }

    /// What is to be attached for a level while the guest runs. Called with the session's lock held; its end is told later.
    static func attach(_ part: DialMachine.Part, _ state: inout PrimaryShell.State, of shell: PrimaryShell) {
        switch part {
        case .gate: guardOutput(of: state.guest, shell)
        // The way through the other host is taken where a NIC's output is held.
        case .detour: later(shell) { $0.hear(.attached(.detour)) }
        case .disks, .memory, .hold: state.orders.dial = .attach(part)
        }
    }

    static func detach(_ part: DialMachine.Part, _ state: inout PrimaryShell.State, of shell: PrimaryShell) {
        switch part {
        case .gate:
            shell.custody.leases?.unguard(shell.options.vm)
            later(shell) { $0.hear(.detached(.gate)) }
        case .detour: later(shell) { $0.hear(.detached(.detour)) }
        case .disks, .memory, .hold: state.orders.dial = .detach(part)
        }
    }

    private static func guardOutput(of guest: GuestDescription?, _ shell: PrimaryShell) {
        do throws(SessionError) {
            shell.custody.leases?.guardOutput(of: shell.options.vm, before: try guest?.gatedLinks() ?? [])
        } catch {
            failToGuard(error.message, shell)
        }
    }

    private static func later(
        _ shell: PrimaryShell, _ happened: @escaping @Sendable (inout PrimaryDuty) -> [PrimaryDuty.Output]
    ) {
        onDecisionQueue { [weak shell] in shell?.tell(happened) }
    }

    private static func failToGuard(_ reason: String, _ shell: PrimaryShell) {
        later(shell) { duty in
            if case .attaching(.gate)? = duty.dial?.step { return duty.hear(.attachFailed(.gate, reason)) }
            return duty.fail(SessionError(.system, "the output of the guest cannot be gated: \(reason)"))
        }
    }

    /// Why the guest cannot be had at a level whose output is not held; nil when it can, and at the others.
    static func obstacle(to level: Level, _ guest: GuestDescription, _ leases: Leases?) -> String? {
        guard !level.holdsOutput else { return nil }
        guard let leases else {
            return "level \(level.rawValue) needs an arbiter: without one nothing confirms the lease of its output"
        }
        do throws(SessionError) {
            return leases.obstacle(to: try guest.gatedLinks())
        } catch {
            return error.message
        }
    }
}

extension GuestDescription {
    /// The devices through which it sends. Throws where the kernel of this host sees no such device.
    func gatedLinks() throws(SessionError) -> [GatedLink] {
        var links: [GatedLink] = []
        for nic in nics where nic.netdev != nil {
            guard nic.backend == "tap", let interface = nic.interface, let link = try? GatedLink(interface) else {
                throw SessionError(
                    .refused,
                    "NIC \(nic.name) (netdev \(nic.netdev ?? ""), \(nic.backend)) is on no tap whose name is known, and a gate"
                        + " stands before taps only: give it a tap, or protect at level system")
            }
            links.append(link)
        }
        return links
    }
}
