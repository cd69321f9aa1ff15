import KernelGate
import Model

/// What the leases' thread does: it alone has the VMs' leases.
final class LeaseThread {
    private let setting: LeaseSetting
    private var leases: [VMName: GuestLease] = [:]

    init(_ setting: LeaseSetting) { self.setting = setting }

    /// Returns when the inbox is closed.
    func run() {
        while let letters = setting.inbox.take(by: leases.values.compactMap(\.nextTimer).min()) {
            for letter in letters { handle(letter) }
            for lease in leases.values { lease.doWhatIsDue() }
        }
        for lease in leases.values { lease.giveUp() }
    }

    private func handle(_ letter: LeaseInbox.Letter) {
        switch letter {
        case .of(let vm, let news):
            let lease = lease(of: vm)
            switch news {
            case .attendant(let attendant): lease.attendant = attendant
            case .event(let event): lease.handle(event)
            case .reading(let question, let reading): lease.answered(question, reading)
            case .guardOutput(let links): lease.guardOutput(before: links)
            case .unguard: lease.unguard()
            }
        case .sweep(let kept): sweep(keeping: kept)
        }
    }

    private func lease(of vm: VMName) -> GuestLease {
        if let known = leases[vm] { return known }
        let new = GuestLease(vm, setting)
        leases[vm] = new
        return new
    }

    private func sweep(keeping kept: Set<VMName>) {
        let gate: any OutputBarrier
        do throws(KernelGateError) {
            gate = try setting.gate.get()
        } catch {
            // Who may not make a gate has left none, and is told so when one is needed.
            if !error.isOfThisHost { setting.log.warning("gates that may be left are not looked after: \(error)") }
            return
        }
        for vm in gate.guests.keys.sorted() where !kept.contains(vm) {
            let lease = lease(of: vm)
            guard !lease.isAsked else { continue }
            setting.log.notice(
                "an earlier run of this agent had left a gate for \(vm), whose guest is not in hand: it is taken away")
            lease.unguard()
        }
    }
}

extension KernelGateError {
    /// No gate can be made here at all.
    fileprivate var isOfThisHost: Bool {
        switch self {
        case .notPermitted, .unavailable: true
        default: false
        }
    }
}
