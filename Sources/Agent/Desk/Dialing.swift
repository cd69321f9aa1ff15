import LinuxSystem
import Model
import Pair
import Protocol
import RomulusAPI

/// Turns of the dial that the operator asks for.
package struct Dialing: Sendable {
    let hasArbiter: Bool
    let words: Words
    private var roster: Roster { words.roster }
    private var chronicle: Chronicle { words.chronicle }

    func turn(_ request: DialRequest) async throws(APIError) -> VMStatus {
        let record = try roster.record(of: request.vm)
        let session: PrimaryShell
        do throws(APIError) {
            session = try admit(request, record)
        } catch {
            chronicle.note(request.vm, .refused, "the dial was not turned: \(error.message)")
            throw error
        }
        chronicle.note(request.vm, .request, "level \(request.level.rawValue) was asked for")
        if let refusal = session.dial(to: request.level) {
            chronicle.note(request.vm, .refused, "the dial was not turned: \(refusal)")
            throw APIError(.refused, "\(request.vm) stays at level \(record.level.rawValue): \(refusal)")
        }
        try remember(request.level, of: request.vm)
        guard let wait = request.waitMilliseconds else { return try roster.record(of: request.vm).status() }
        _ = await roster.changes.wait(until: .now + .milliseconds(wait)) { !session.isTurning }
        let status = try roster.record(of: request.vm).status()
        guard session.isTurning || status.level != request.level else { return status }
        guard session.isTurning else {
            let reason = status.dial?.reason ?? status.lastError ?? "no reason given"
            throw APIError(.failed, "\(request.vm) stays at level \(status.level.rawValue): \(reason)")
        }
        throw APIError(
            .timeout,
            "\(request.vm) is not at level \(request.level.rawValue) after \(wait) ms; it is still being turned to it, see"
                + " “romulus status \(request.vm)”")
    }

    /// What was asked for stays so over restarts, as far as it was by hand.
    private func remember(_ level: Level, of vm: VMName) throws(APIError) {
        roster.change(vm) { $0.request?.level = level }
        do throws(SystemError) {
            if words.store[vm].degradedFrom != nil { try words.store.update(vm) { $0.degradedFrom = nil } }
        } catch {
            throw APIError(.failed, "level \(level.rawValue) of \(vm) cannot be kept: \(error)")
        }
        guard var word = words.store[vm].word, word.request != nil else { return }
        word.request?.level = level
        try words.keep(word, of: vm)
    }

    /// Has what they lack copied to the disks of the guest that were lost at this host.
    func rejoin(_ vm: VMName) async throws(APIError) -> VMStatus {
        let record = try roster.record(of: vm)
        guard case .primary(let session) = record.part else {
            throw APIError(.refused, "the guest of \(vm) does not run here: rejoin its disk where it does")
        }
        chronicle.note(vm, .request, "its lost disks were asked to rejoin")
        if let refusal = try await offPool({ LostDisks(of: session).rejoin() }) {
            throw APIError(.refused, "no disk of \(vm) rejoins: \(refusal)")
        }
        return try roster.record(of: vm).status()
    }

    private func admit(_ request: DialRequest, _ record: VMRecord) throws(APIError) -> PrimaryShell {
        let vm = request.vm
        guard hasArbiter || request.level.holdsOutput else {
            throw APIError(
                .refused,
                "level “\(request.level.rawValue)” needs an arbiter, which confirms that the output of \(vm) may leave")
        }
        switch record.part {
        case .primary(let session): return session
        case .standby: throw APIError(.refused, "the guest of \(vm) runs at \(record.peerName): turn its dial there")
        case .none:
            throw APIError(.refused, "\(vm) is \(record.state.rawValue) here: protect it at the level that you want")
        }
    }
}
