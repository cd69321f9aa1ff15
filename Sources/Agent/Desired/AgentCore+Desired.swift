import Foundation
import LinuxSystem
import Model
import Pair
import RomulusAPI
import Telemetry

/// What should be protected, and the rows of VMs of which nothing runs here.
extension AgentCore {
    /// VMs that this host may have something to do with.
    var knownVMs: Set<VMName> {
        Set(configuration.vms.keys).union(store.vms).union(state.withLock { Array($0.vms.keys) })
    }

    /// What is to be asked for whenever the VM's QEMU is there; nil when nothing is to happen by itself.
    func wanted(_ vm: VMName) -> ProtectRequest? { configuration.wanted(vm, store[vm].word) }

    func desired(_ vm: VMName) -> DesiredReport {
        guard wanted(vm) != nil else { return DesiredReport(protect: .manual) }
        return reconciler.report(vm)
    }

    /// Whether a session, a replica that is being made, or a forecast has the VM.
    func isInHand(_ vm: VMName) -> Bool {
        state.withLock { state in
            state.vms[vm]?.isActive ?? false || state.preparing.contains(vm) || state.watched.contains(vm)
        }
    }

    /// Keeps the operator's word, durably; nil takes the last one back. `saidAt` is when it was said.
    func keep(_ word: Word?, of vm: VMName, saidAt: Date = Date()) throws(APIError) {
        guard store[vm].word != word || word == .unprotect else { return }
        do throws(SystemError) {
            try store.update(vm) { memory in
                memory.word = word
                memory.wordSaidAt = saidAt
                // What comes next under that name may be another VM.
                if word == .unprotect { memory.identity = nil }
            }
        } catch {
            throw APIError(.failed, "what was said about \(vm) cannot be kept, so nothing was done: \(error)")
        }
    }

    /// The VM is protected: who its standby is, and that it should be where the operator asked for it, is kept.
    func keepStandby(of vm: VMName) {
        // A session must not wait for the disk, and says who its standby is outside of its report.
        onDecisionQueue { [self] in
            let (request, part) = state.withLock { ($0.vms[vm]?.request, $0.vms[vm]?.part) }
            do {
                if let request { try keep(Word(protecting: request), of: vm) }
                guard case .primary(let session)? = part, let guest = store[vm].guest else { return }
                let standby = session.standby
                guard guest.standby != standby else { return }
                try store.update(vm) { memory in
                    memory.guest?.reserve = ([guest.standby] + (guest.reserve ?? [])).filter { $0 != standby }
                    memory.guest?.standby = standby
                }
            } catch {
                note(vm, .error, "\(error)")
            }
        }
    }

    // MARK: - Rows

    /// Shows a VM that should be protected and has no QEMU here.
    func showWaiting(_ vm: VMName, _ options: PrimaryOptions) {
        change(vm, options) { record in
            guard record.state != .waiting else { return }
            record.enter(.waiting, since: Date())
            record.pid = nil
            record.metrics.role.set("")
        }
    }

    /// Shows a VM that should be protected and cannot be.
    func showFailed(_ vm: VMName, _ reason: String) {
        change(vm, nil) { record in
            record.enter(.failed, since: Date())
            record.lastError = reason
        }
    }

    /// Its row, which is made where there is none, unless it is in hand meanwhile.
    private func change(_ vm: VMName, _ options: PrimaryOptions?, _ body: (inout VMRecord) -> Void) {
        let isKnown = state.withLock { state in
            guard let record = state.vms[vm] else { return false }
            if !record.isActive, !state.preparing.contains(vm) { body(&state.vms[vm, default: record]) }
            return true
        }
        if !isKnown { make(vm, options, body) }
    }

    private func make(_ vm: VMName, _ options: PrimaryOptions?, _ body: (inout VMRecord) -> Void) {
        let configured = configuration.vms[vm]
        let peer =
            options?.standby.description ?? configured?.standby ?? configuration.peers.keys.sorted().first ?? ""
        var record = VMRecord(
            name: vm, part: .none, role: .primary, peer: peer,
            level: options?.level ?? configured?.level ?? configuration.defaults.level,
            term: store[vm].local.register?.term ?? Term(0),
            tuning: options?.tuning ?? EpochTuning(epochMilliseconds: configuration.defaults.epochMilliseconds),
            metrics: metrics(of: vm, peer: peer), qmp: options?.qmpPath ?? configured?.qmp, pid: nil,
            state: .unprotected)
        record.identity = store[vm].identity
        record.metrics.level.set(record.level.rawValue)
        body(&record)
        state.withLock { state in
            if state.vms[vm] == nil, !state.preparing.contains(vm) { state.vms[vm] = record }
        }
    }

    /// Nobody wants it protected any more: its row goes, where that is all that there was.
    func dropWaiting(_ vm: VMName) {
        state.withLock { state in
            guard let record = state.vms[vm], !record.isActive, record.state == .waiting else { return }
            record.metrics.remove()
            state.vms[vm] = nil
        }
    }
}
