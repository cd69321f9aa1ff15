import Model
import Protocol
import RomulusAPI

/// What the operator said last about protecting a VM. It holds over restarts, until the next word.
struct Word: Codable, Equatable, Sendable {
    var protect: Desire
    /// What was asked for, where the word is `always`.
    var request: ProtectRequest?

    static let unprotect = Word(protect: .manual)

    /// A claim was the word for one moment: what the register says later is another matter.
    init(protecting request: ProtectRequest) {
        protect = .always
        self.request = request
        self.request?.claim = nil
        // An image that is gone later is not made again without a word.
        self.request?.createImage = nil
    }

    private init(protect: Desire) {
        self.protect = protect
    }
}

extension Configuration {
    /// What is to be asked for whenever the VM's QEMU is there; nil when nothing is to happen by itself.
    func wanted(_ vm: VMName, _ word: Word?) -> ProtectRequest? {
        if word?.protect == .manual { return nil }
        let request = word?.request
        switch vms[vm]?.protect {
        case .manual?: return nil
        case .always?: return request ?? ProtectRequest(vm: vm)
        case nil:
            guard defaults.reprotection == .automatic else { return nil }
            let isComplete = vms[vm].map { $0.qmp != nil && !$0.standbys.isEmpty } ?? false
            return request ?? (isComplete ? ProtectRequest(vm: vm) : nil)
        }
    }

    /// How long a standby of the VM may be lost, in seconds, before another one is asked.
    func replaceAfter(of vm: VMName) -> Int { vms[vm]?.replaceAfter ?? defaults.replaceAfter }

    /// How long its guest's agent may not answer; 0: it is not asked.
    func agentSilence(of vm: VMName) -> Int { vms[vm]?.agentSilenceSeconds ?? defaults.agentSilenceSeconds }

    /// When the VM falls by itself to a lower level.
    func degrade(of vm: VMName) -> DegradeMachine.Settings {
        let degrade = defaults.degrade
        return DegradeMachine.Settings(
            floor: (vms[vm]?.degrade ?? degrade.policy).floor, after: UInt64(degrade.afterMilliseconds) * 1_000_000,
            targetAfter: UInt64(degrade.targetSeconds) * 1_000_000_000,
            retry: UInt64(degrade.retrySeconds) * 1_000_000_000)
    }

    /// Whether a lost standby of the VM is replaced without being asked to.
    func reprotection(of vm: VMName) -> PrimaryMachine.Reprotection {
        vms[vm]?.protect == .always ? .automatic : defaults.reprotection
    }
}

extension ProtectRequest {
    /// What was changed since stays so.
    mutating func take(_ change: TuneRequest) {
        epochMilliseconds = change.epochMilliseconds ?? epochMilliseconds
        if change.noTarget == true || change.goal != nil {
            (targetLatency, targetOverhead) = (change.targetLatency, change.targetOverhead)
        }
        pauseBudget = change.pauseBudget ?? pauseBudget
        linkCapMegabits = change.linkCapMegabits ?? linkCapMegabits
    }
}
