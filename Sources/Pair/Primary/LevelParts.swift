import Hypervisor
import KernelGate
import Leases
import LinuxSystem
import Messages
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
        attendant.denied = { [weak shell] register in shell?.handle(.peerRegister(register)) }
        attendant.report = { [weak shell] text in shell?.report(.event(.state, text)) }
        shell.custody.leases?.attend(shell.options.vm, attendant)
    }

    /// What is to be attached for a level while the guest runs. Called with the session's lock held; its end is told later.
    static func attach(_ part: DialMachine.Part, _ state: inout PrimaryShell.State, of shell: PrimaryShell) {
        switch part {
        case .gate: guardOutput(of: state.guest, shell)
        case .detour: attachDetour(&state, of: shell)
        case .disks, .served, .memory, .hold: state.orders.dial = .attach(part)
        }
    }

    static func detach(_ part: DialMachine.Part, _ state: inout PrimaryShell.State, of shell: PrimaryShell) {
        switch part {
        case .gate:
            shell.custody.leases?.unguard(shell.options.vm)
            later(shell) { $0.hear(.detached(.gate)) }
        case .detour:
            if let carry = state.parts.carry.take() {
                carry.stop()
                state.parts.link?.send(DetachMessage(.detour).frame)
            }
            later(shell) { $0.hear(.detached(.detour)) }
        case .disks, .served, .memory, .hold: state.orders.dial = .detach(part)
        }
    }

    private static func guardOutput(of guest: GuestDescription?, _ shell: PrimaryShell) {
        do throws(SessionError) {
            shell.custody.leases?.guardOutput(of: shell.options.vm, before: try guest?.gatedLinks() ?? [])
        } catch {
            failToGuard(error.message, shell)
        }
    }

    private static func attachDetour(_ state: inout PrimaryShell.State, of shell: PrimaryShell) {
        let reason: String
        if let guest = state.guest, let link = state.parts.link, let uplinks = shell.custody.uplinks,
            state.duty.connection.canCarry
        {
            do throws(SystemError) {
                state.parts.carry = try PrimaryCarry(shell, guest, uplinks, to: state.duty.choice.current, over: link)
                return
            } catch {
                reason = "\(error)"
            }
        } else if shell.custody.uplinks == nil {
            reason = "this agent watches no uplinks"
        } else {
            reason = "the agent of \(state.duty.choice.current) is older and does not know how: update it"
        }
        later(shell) { $0.hear(.attachFailed(.detour, reason)) }
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
    static func obstacle(to level: Level, _ guest: GuestDescription, _ custody: Custody) -> String? {
        guard !level.holdsOutput else { return nil }
        if level.parts.contains(.served), let obstacle = guest.obstacleToServing { return obstacle }
        guard let leases = custody.leases else {
            return "level \(level.rawValue) needs an arbiter: without one nothing confirms the lease of its output"
        }
        do throws(SessionError) {
            if let obstacle = leases.obstacle(to: try guest.gatedLinks()) { return obstacle }
            return level.parts.contains(.detour) ? PrimaryCarry.obstacle(guest, custody.uplinks) : nil
        } catch {
            return error.message
        }
    }
}

extension GuestDescription {
    /// Why its disks cannot be served by a process of ours; nil when they can.
    fileprivate var obstacleToServing: String? {
        for disk in disks where disk.isReplicated {
            guard disk.format == "raw", ["file", "host_device"].contains(disk.storage) else {
                return
                    "disk \(disk.name) is a \(disk.format) image on \(disk.storage ?? "nothing"), and at level component"
                    + " disks are raw images in files or on block devices: convert it (qemu-img convert -O raw), or"
                    + " protect at level restart or system"
            }
            if disk.qdev == nil { return "disk \(disk.name) is used by no device: it cannot be had at level component" }
        }
        return nil
    }

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
