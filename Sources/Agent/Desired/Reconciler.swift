import Foundation
import Messages
import Model
import Pair
import RomulusAPI
import Synchronization

/// Protects what should be protected, whenever its QEMU is there.
///
/// It begins sessions and nothing else: who may run a guest, and who is its standby, is decided within them.
final class Reconciler: Sendable {
    /// What is done for one VM.
    private struct Pursuit {
        var backOff = BackOff(first: 2_000_000_000, most: 300_000_000_000)
        var nextTry: ContinuousClock.Instant?
        /// What stands in the way.
        var reason: String?
        /// There was nothing to protect at the last look.
        var isWaiting = false
        /// Another host that has the VM's guest, and what it says of it.
        var holder: (node: String, says: String)?
        /// The register that stands against it, as the last try learnt it.
        var contested: Register?
        /// The monitor that the failures are of.
        var monitor: MonitorFile?
        /// A look at the monitor, or a session that began by itself, is under way.
        var isTrying = false
        var protectedSince: ContinuousClock.Instant?
        /// What the journal has of the tries so far.
        var told: Set<String> = []

        mutating func beginAnew() {
            backOff.reset()
            nextTry = nil
            told = []
        }
    }

    /// Between two looks, while something is to be protected that is not.
    private static let period = Duration.milliseconds(500)
    /// Between two looks while all is well: an agent with idle guests shall be idle itself.
    private static let restPeriod = Duration.seconds(1)
    /// What was protected for so long failed for a reason of its own.
    private static let lasting = Duration.seconds(60)
    private static let toldMax = 64
    /// Between two questions to the other hosts about VMs that wait here, and about those that are left alone by the
    /// operator's word.
    private static let questionPeriod = Duration.seconds(10)
    private static let restQuestionPeriod = Duration.seconds(60)

    /// What other hosts were asked last.
    private struct Questions {
        var isAsking = false
        var askedAt: ContinuousClock.Instant?
        var about: Set<VMName> = []
    }

    private let pursuits = Mutex<[VMName: Pursuit]>([:])
    private let questions = Mutex(Questions())

    /// Does what there is to do, until the task is cancelled.
    func run(for core: AgentCore) async {
        while !Task.isCancelled {
            let isRestful = core.knownVMs.map { look(at: $0, core) }.allSatisfy(\.self)
            askOthers(core)
            try? await Task.sleep(for: isRestful ? Self.restPeriod : Self.period)
        }
    }

    /// Returns false while the VM should be protected and nothing is under way.
    private func look(at vm: VMName, _ core: AgentCore) -> Bool {
        guard let request = core.wanted(vm) else {
            pursuits.withLock { $0[vm] = nil }
            core.dropWaiting(vm)
            return true
        }
        guard !core.isInHand(vm) else { return true }
        let options: PrimaryOptions
        do throws(APIError) {
            options = try core.primaryOptions(request)
        } catch {
            fail(vm, error.message, core)
            return true
        }
        guard !core.maintenance.isOn else {
            wait(vm, "\(core.node) is in maintenance", options, core)
            return true
        }
        guard let file = MonitorFile(options.qmpPath) else {
            wait(vm, core.guests.absence(at: options.qmpPath), options, core)
            return false
        }
        guard begin(vm, file) else { return false }
        Task { await attempt(vm, options, core) }
        return false
    }

    /// True when it is to be tried now.
    private func begin(_ vm: VMName, _ file: MonitorFile) -> Bool {
        pursuits.withLock { pursuits in
            var pursuit = pursuits[vm] ?? Pursuit()
            defer { pursuits[vm] = pursuit }
            guard !pursuit.isTrying else { return false }
            if pursuit.monitor != file { pursuit.beginAnew() }
            pursuit.monitor = file
            pursuit.isWaiting = false
            pursuit.holder = nil
            if let next = pursuit.nextTry, next > .now { return false }
            pursuit.isTrying = true
            return true
        }
    }

    private func attempt(_ vm: VMName, _ options: PrimaryOptions, _ core: AgentCore) async {
        let path = options.qmpPath
        // Where there is no thread for it the session itself says what is wrong.
        let found = (try? await offPool { () throws(APIError) in core.guests.look(at: path) }) ?? .ready
        switch found {
        case .absent(let reason):
            pursuits.withLock { $0[vm]?.isTrying = false }
            wait(vm, reason, options, core)
        case .unusable(let reason): fail(vm, reason, core)
        case .ready:
            // Where it waited before, they were asked a moment ago.
            if !wasAsked(vm) { await ask([vm], core) }
            guard core.wanted(vm) != nil, !core.isInHand(vm) else {
                pursuits.withLock { $0[vm]?.isTrying = false }
                return
            }
            var options = options
            if let register = pursuits.withLock({ $0[vm]?.contested }), await core.isYielded(register, of: vm) {
                options.yielded = register
            }
            do throws(APIError) {
                _ = try core.startPrimary(options, origin: .wanted)
            } catch {
                fail(vm, error.message, core)
            }
        }
    }

    /// There is nothing to protect now, and that is no failure.
    private func wait(_ vm: VMName, _ reason: String, _ options: PrimaryOptions, _ core: AgentCore) {
        let isNews = pursuits.withLock { pursuits in
            defer {
                pursuits[vm, default: Pursuit()].reason = reason
                pursuits[vm]?.isWaiting = true
            }
            return pursuits[vm]?.reason != reason
        }
        core.showWaiting(vm, options)
        if isNews { core.note(vm, .state, "\(vm) is to be protected and waits: \(reason)") }
    }

    /// It was tried, or cannot be, before there was a session.
    private func fail(_ vm: VMName, _ reason: String, _ core: AgentCore) {
        let isNews = pursuits.withLock { pursuits in
            var pursuit = pursuits[vm] ?? Pursuit()
            defer { pursuits[vm] = pursuit }
            pursuit.isTrying = false
            defer { pursuit.reason = reason }
            if let next = pursuit.nextTry, next > .now { return false }
            pursuit.nextTry = .now + .nanoseconds(Int64(pursuit.backOff.fail()))
            return pursuit.reason != reason
        }
        core.showFailed(vm, reason)
        if isNews { core.note(vm, .refused, "\(vm) is to be protected: \(reason)") }
    }

    // MARK: - What other hosts know

    /// Asks the other hosts now and then who has the VMs that wait here, and what was said of them there.
    private func askOthers(_ core: AgentCore) {
        let waiting = pursuits.withLock { Set($0.filter(\.value.isWaiting).keys) }
        let silenced = core.silencedVMs
        let isDue = questions.withLock { questions in
            guard !questions.isAsking, !waiting.isEmpty || !silenced.isEmpty else { return false }
            let period = waiting.isEmpty ? Self.restQuestionPeriod : Self.questionPeriod
            let isOld = questions.askedAt.map { ContinuousClock.now - $0 > period } ?? true
            guard isOld || !waiting.isSubset(of: questions.about) else { return false }
            questions.isAsking = true
            return true
        }
        guard isDue else { return }
        Task {
            await ask(waiting.union(silenced), core)
            questions.withLock { $0.isAsking = false }
        }
    }

    private func ask(_ vms: Set<VMName>, _ core: AgentCore) async {
        questions.withLock { $0.about = vms }
        let answers = await core.askPeers(about: vms)
        for vm in vms {
            var known: [(peer: String, knowledge: VMKnowledge)] = []
            for (peer, answer) in answers { known += answer.filter { $0.vm == vm }.map { (peer, $0) } }
            core.followWord(about: vm, known)
            let holder = known.first { $0.knowledge.guest != nil }
            pursuits.withLock { pursuits in
                guard pursuits[vm]?.isWaiting == true else { return }
                pursuits[vm]?.holder = holder.map { ($0.peer, $0.knowledge.guest ?? "") }
            }
        }
        questions.withLock { $0.askedAt = .now }
    }

    /// Whether the other hosts were asked about the VM a moment ago.
    private func wasAsked(_ vm: VMName) -> Bool {
        questions.withLock { questions in
            guard let askedAt = questions.askedAt, questions.about.contains(vm) else { return false }
            return ContinuousClock.now - askedAt < Self.questionPeriod * 2
        }
    }

    // MARK: - What sessions tell

    /// The VM's session reached what is wanted.
    func noteProtected(_ vm: VMName) {
        pursuits.withLock { pursuits in
            pursuits[vm, default: Pursuit()].protectedSince = .now
            pursuits[vm]?.reason = nil
            pursuits[vm]?.contested = nil
            pursuits[vm]?.told = []
        }
    }

    /// The VM's session is over. `failure` says why, when that was not in order; `qmp` is its monitor.
    func noteEnded(_ vm: VMName, _ failure: String?, qmp: String) {
        let file = MonitorFile(qmp)
        pursuits.withLock { pursuits in
            var pursuit = pursuits[vm] ?? Pursuit()
            defer { pursuits[vm] = pursuit }
            pursuit.isTrying = false
            pursuit.reason = failure
            let lasted = pursuit.protectedSince.map { ContinuousClock.now - $0 } ?? .zero
            pursuit.protectedSince = nil
            if pursuit.monitor != file || lasted > Self.lasting || failure == nil { pursuit.beginAnew() }
            pursuit.monitor = file
            if failure != nil { pursuit.nextTry = .now + .nanoseconds(Int64(pursuit.backOff.fail())) }
        }
    }

    /// The VM's session was refused, because that register gives the VM to others.
    func noteContested(_ vm: VMName, _ register: Register) {
        pursuits.withLock { $0[vm, default: Pursuit()].contested = register }
    }

    /// Whether the journal does not have it yet: what each try says alike is told once.
    func isNews(_ vm: VMName, _ message: String) -> Bool {
        pursuits.withLock { pursuits in
            guard let pursuit = pursuits[vm], pursuit.isTrying, pursuit.told.count < Self.toldMax else { return true }
            return pursuits[vm]?.told.insert(message).inserted ?? true
        }
    }

    /// Whether a session of the VM, should there be one, began by itself.
    func isPursuing(_ vm: VMName) -> Bool { pursuits.withLock { $0[vm]?.isTrying ?? false } }

    /// What is done for a VM that should be protected, and what stands in the way.
    func report(_ vm: VMName) -> DesiredReport {
        pursuits.withLock { pursuits in
            guard let pursuit = pursuits[vm] else { return DesiredReport(protect: .always) }
            let left = pursuit.nextTry.map { $0 - .now }
            let next = left.flatMap { $0 > .zero ? Date() + Double($0.components.seconds) : nil }
            let reason = pursuit.holder.map { "its guest is at \($0.node): \($0.says)" } ?? pursuit.reason
            return DesiredReport(
                protect: .always, reason: reason, nextTry: next, failures: pursuit.backOff.failures,
                elsewhere: pursuit.holder?.node)
        }
    }
}
