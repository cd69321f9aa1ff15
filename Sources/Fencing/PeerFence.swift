import Glibc
import LinuxSystem
import Model
import Synchronization

/// The fence command of one peer: run for all VMs that wait for it, never twice at once, only while nothing is heard of
/// the peer, and with growing pauses while it fails. Nothing is remembered of a run once its answer was given.
public final class PeerFence: Sendable {
    /// What is told to the journal: for which VM (nil when none waits any more), and what happened.
    public enum News: Sendable, Equatable {
        case started
        case ended(Ending)
    }

    /// How a run ended, or why there was none.
    public enum Ending: Sendable, Equatable {
        case confirmed
        case failed(String)
        case tookTooLong
        /// The peer gave a sign of life: it is not fenced, or its fencing says nothing.
        case heard
    }

    struct Asking: Sendable {
        var role: FencingRole
        var reason: String
        var askedAt: UInt64
        var answer: @Sendable (Ending) -> Void
    }

    private struct State {
        var askings: [VMName: Asking] = [:]
        var isAtWork = false
        /// When the peer last gave a sign of life that no session's link counted.
        var heardAt: UInt64 = 0
        var failures = 0
        var failedAt: UInt64 = 0
        var notBefore: UInt64 = 0
    }

    /// Between two runs after a failure, in nanoseconds: doubling from one to the other.
    static let pauseMin: UInt64 = 5_000_000_000
    static let pauseMax: UInt64 = 300_000_000_000

    public let peer: NodeName
    private let node: NodeName
    private let command: FenceCommand
    private let silence: UInt64
    private let pauseMin: UInt64
    private let lastHeard: @Sendable () -> UInt64
    private let tell: @Sendable (VMName?, News, _ text: String) -> Void
    private let state = Mutex(State())

    /// - Parameters:
    ///   - silenceMilliseconds: how long nothing may have been heard of the peer before its command is started.
    ///   - lastHeard: when a session last heard something of the peer, by `MonotonicClock`; called on a thread of this
    ///     object, without a lock.
    ///   - tell: called on that thread, too.
    public init(
        _ peer: NodeName, command: FenceCommand, from node: NodeName, silenceMilliseconds: Int,
        pauseMilliseconds: Int? = nil, lastHeard: @escaping @Sendable () -> UInt64,
        tell: @escaping @Sendable (VMName?, News, _ text: String) -> Void
    ) {
        self.peer = peer
        self.node = node
        self.command = command
        silence = UInt64(silenceMilliseconds) * 1_000_000
        pauseMin = pauseMilliseconds.map { UInt64($0) * 1_000_000 } ?? Self.pauseMin
        self.lastHeard = lastHeard
        self.tell = tell
    }

    /// Wants the peer off. `answer` is called once, on a thread of this object, unless `stop` comes first or another
    /// asking of the same VM takes the place of this one.
    public func ask(
        for vm: VMName, as role: FencingRole, reason: String, answer: @escaping @Sendable (Ending) -> Void
    ) {
        let begins = state.withLock { state in
            state.askings[vm] = Asking(role: role, reason: reason, askedAt: MonotonicClock.now(), answer: answer)
            defer { state.isAtWork = true }
            return !state.isAtWork
        }
        guard begins else { return }
        do throws(SystemError) {
            _ = try NamedThread.start("fence-\(peer)") { [self] in work() }
        } catch {
            let asking = state.withLock { state in
                state.isAtWork = false
                return state.askings.removeValue(forKey: vm)
            }
            // Whoever asks may hold what the answer needs.
            Task.detached { asking?.answer(.failed("\(error)")) }
        }
    }

    /// The VM does not wait any more. A command that runs is left to end: half a fencing helps nobody.
    public func stop(for vm: VMName) { state.withLock { _ = $0.askings.removeValue(forKey: vm) } }

    /// The peer gave a sign of life: a connection to it or from it was made.
    public func hear() { state.withLock { $0.heardAt = MonotonicClock.now() } }

    // MARK: - The thread

    private enum Step {
        case rest
        case wait(UInt64)
        case answer([VMName: Asking])
        case run([VMName: Asking])
    }

    private func work() {
        while true {
            switch next() {
            case .rest: return
            case .wait(let nanoseconds): MonotonicClock.sleep(until: MonotonicClock.now() + nanoseconds)
            case .answer(let askings):
                give(.heard, to: askings, "\(peer) is heard again: its fence command is not run")
            case .run(let askings): run(askings)
            }
        }
    }

    private func next() -> Step {
        let heardBySessions = lastHeard()
        return state.withLock { state in
            guard !state.askings.isEmpty else {
                state.isAtWork = false
                return .rest
            }
            let now = MonotonicClock.now()
            let heard = max(heardBySessions, state.heardAt)
            // A new silence is not made to wait for what failed in an earlier one.
            if heard > state.failedAt { (state.failures, state.notBefore) = (0, 0) }
            let answered = state.askings.filter { $0.value.askedAt < heard }
            guard answered.isEmpty else {
                for vm in answered.keys { state.askings[vm] = nil }
                return .answer(answered)
            }
            let due = max(state.askings.values.map(due(of:)).min() ?? now, state.notBefore, heard + silence)
            // Signs of life and `stop` are looked for meanwhile.
            return now < due ? .wait(min(due - now, 20_000_000)) : .run(state.askings)
        }
    }

    private func due(of asking: Asking) -> UInt64 {
        asking.askedAt + UInt64(command.delayMilliseconds ?? asking.role.defaultDelayMilliseconds) * 1_000_000
    }

    private func run(_ first: [VMName: Asking]) {
        let startedAt = MonotonicClock.now()
        let vms = first.keys.sorted()
        let reason = vms.first.flatMap { first[$0]?.reason } ?? ""
        for vm in vms {
            tell(vm, .started, "the fence command of \(peer) was started: \(reason)")
        }
        let environment = [
            "PATH": getenv("PATH").map { String(cString: $0) } ?? "/usr/sbin:/usr/bin:/sbin:/bin",
            "ROMULUS_NODE": node.description, "ROMULUS_PEER": peer.description,
            "ROMULUS_VM": vms.map(\.description).joined(separator: " "), "ROMULUS_REASON": reason,
        ]
        let (outcome, output) = FenceRun.run(command, environment: environment)
        let heardBySessions = lastHeard()
        let (ending, waiting) = state.withLock { state -> (Ending, [VMName: Asking]) in
            let waiting = state.askings
            state.askings = [:]
            let ending: Ending
            switch outcome {
            // What it confirmed was true of a host that is there again.
            case .confirmed where max(heardBySessions, state.heardAt) > startedAt: ending = .heard
            case .confirmed: ending = .confirmed
            case .failed(let reason): ending = .failed(reason)
            case .tookTooLong: ending = .tookTooLong
            }
            if ending == .confirmed || ending == .heard {
                (state.failures, state.notBefore) = (0, 0)
            } else {
                let pause = min(pauseMin << UInt64(min(state.failures, 6)), Self.pauseMax)
                state.failures += 1
                state.failedAt = MonotonicClock.now()
                state.notBefore = state.failedAt + pause
            }
            return (ending, waiting)
        }
        let took = (MonotonicClock.now() - startedAt) / 1_000_000
        give(ending, to: waiting, sentence(ending, took) + (output.isEmpty ? "" : " (it said: \(output))"))
    }

    private func sentence(_ ending: Ending, _ took: UInt64) -> String {
        switch ending {
        case .confirmed: "\(peer) is confirmed off: its fence command ended well after \(took) ms"
        case .failed(let reason): "\(peer) is not confirmed off: \(reason)"
        case .tookTooLong:
            "\(peer) is not confirmed off: its command took longer than \(command.timeoutMilliseconds) ms and was killed"
        case .heard: "\(peer) was heard while its fence command ran: that it ended well after \(took) ms says nothing"
        }
    }

    private func give(_ ending: Ending, to askings: [VMName: Asking], _ text: String) {
        if askings.isEmpty { tell(nil, .ended(ending), text) }
        for (vm, asking) in askings.sorted(by: { $0.key < $1.key }) {
            tell(vm, .ended(ending), text)
            asking.answer(ending)
        }
    }
}
