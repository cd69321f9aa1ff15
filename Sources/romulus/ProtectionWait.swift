import Model
import RomulusAPI

/// Waits until a VM is protected and shows on stderr how far it is: a bar on a terminal, else a line for each tenth.
struct ProtectionWait {
    let vm: VMName
    let options: AgentOptions

    /// The status with which waiting ended: protected. Throws when that does not come any more, or not in time.
    func run(from first: VMStatus) async throws(APIError) -> VMStatus {
        var shown = Shown()
        var last = first
        show(first, &shown)
        let deadline = options.timeout.map { ContinuousClock.now + .seconds($0) }
        defer { if shown.bar { Terminal.write("\n", to: 2) } }
        if first.state == .protected { return first }
        try await options.client.watch(vm, every: .milliseconds(200)) { status throws(APIError) in
            last = status
            show(status, &shown)
            switch status.state {
            case .protected: return false
            case .failed, .unprotected, .running, .waiting:
                let reason = status.desired?.reason ?? status.lastError ?? "no reason was given"
                throw APIError(.failed, "\(vm) is \(status.state.rawValue): \(reason)")
            case .connecting, .preparing, .syncing, .stalled, .handingOver, .frozen, .forked, .peerLost, .failingOver,
                .restarting:
                break
            }
            if let deadline, deadline < .now {
                throw APIError(
                    .timeout,
                    "\(vm) is still \(status.state.rawValue) after \(options.timeout ?? 0) s; it goes on in the background"
                )
            }
            return true
        }
        guard last.state == .protected else {
            throw APIError(
                .agentUnreachable, "the agent stopped telling about \(vm) while it was \(last.state.rawValue)")
        }
        return last
    }

    private struct Shown {
        var bar = false
        var state: ProtectionState?
        var tenth = -1
    }

    private func show(_ status: VMStatus, _ shown: inout Shown) {
        guard !options.printing.quiet else { return }
        if Terminal.stderrIsTerminal {
            Terminal.redrawLine(ProgressBar.line(status, columns: Terminal.columns))
            shown.bar = true
            return
        }
        let tenth = Int((status.sync?.ratio ?? 0) * 10)
        guard status.state != shown.state || tenth != shown.tenth else { return }
        shown.state = status.state
        shown.tenth = tenth
        Terminal.remark(ProgressBar.plain(status), options.printing)
    }
}
