import Foundation
import Hypervisor
import Messages
import Model
import Pair
import Protocol
import RomulusAPI
import Synchronization

/// Protects what should be protected, whenever its QEMU is there.
///
/// It begins sessions and nothing else: who may run a guest, and who is its standby, is decided within them.
final class Reconciler: Sendable {
    /// Between two looks, while something is to be protected that is not.
    private static let period = Duration.milliseconds(500)
    /// Between two looks while all is well: an agent with idle guests shall be idle itself.
    private static let restPeriod = Duration.seconds(1)
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

    private let words: Words
    private let pursuits: Pursuits
    private let roster: Roster
    private let hosts: Hosts
    private let sessions: Sessions
    private let maintenance: MaintenanceMemory
    private let guests: any GuestSurvey
    private let chronicle: Chronicle
    private let questions = Mutex(Questions())

    init(
        words: Words, pursuits: Pursuits, hosts: Hosts, sessions: Sessions, maintenance: MaintenanceMemory,
        guests: any GuestSurvey
    ) {
        self.words = words
        self.pursuits = pursuits
        self.hosts = hosts
        self.sessions = sessions
        self.maintenance = maintenance
        self.guests = guests
        roster = words.roster
        chronicle = words.chronicle
    }

    /// Does what there is to do, until the task is cancelled.
    func run() async {
        while !Task.isCancelled {
            let isRestful = words.knownVMs.map { look(at: $0) }.allSatisfy(\.self)
            askOthers()
            try? await Task.sleep(for: isRestful ? Self.restPeriod : Self.period)
        }
    }

    /// Returns false while the VM should be protected and nothing is under way.
    private func look(at vm: VMName) -> Bool {
        guard let request = words.wanted(vm) else {
            pursuits.drop(vm)
            // Its row goes, where that is all that there was.
            roster.remove(vm) { !$0.isActive && $0.state == .waiting }
            return true
        }
        guard !roster.isInHand(vm) else { return true }
        let options: PrimaryOptions
        do throws(APIError) {
            options = try sessions.options(request)
        } catch {
            fail(vm, error.message)
            return true
        }
        guard !maintenance.isOn else {
            wait(vm, "\(hosts.node) is in maintenance", options)
            return true
        }
        guard let file = MonitorFile(options.qmpPath) else {
            wait(vm, guests.absence(at: options.qmpPath), options)
            return false
        }
        guard pursuits.begin(vm, file) else { return false }
        Task { await attempt(vm, options) }
        return false
    }

    private func attempt(_ vm: VMName, _ options: PrimaryOptions) async {
        let (path, guests) = (options.qmpPath, guests)
        // Where there is no thread for it the session itself says what is wrong.
        let found = (try? await offPool { () throws(APIError) in guests.look(at: path) }) ?? .ready
        switch found {
        case .absent(let reason):
            pursuits.giveUpTry(vm)
            wait(vm, reason, options)
        case .unusable(let reason): fail(vm, reason)
        case .ready:
            // Where it waited before, they were asked a moment ago.
            if !wasAsked(vm) { await ask([vm]) }
            guard words.wanted(vm) != nil, !roster.isInHand(vm) else { return pursuits.giveUpTry(vm) }
            var options = options
            if let register = pursuits.contested(vm), await isYielded(register, of: vm) {
                options.yielded = register
            }
            do throws(APIError) {
                _ = try sessions.begin(options, origin: .wanted)
            } catch {
                fail(vm, error.message)
            }
        }
    }

    // MARK: - What is shown where there is no session

    /// There is nothing to protect now, and that is no failure.
    private func wait(_ vm: VMName, _ reason: String, _ options: PrimaryOptions) {
        let isNews = pursuits.wait(vm, reason)
        roster.changeRow(
            vm, make: { row(vm, options) },
            { record in
                guard record.state != .waiting else { return }
                record.enter(.waiting, since: Date())
                record.pid = nil
                record.metrics.role.set("")
            })
        if isNews { chronicle.note(vm, .state, "\(vm) is to be protected and waits: \(reason)") }
    }

    /// It was tried, or cannot be, before there was a session.
    private func fail(_ vm: VMName, _ reason: String) {
        let isNews = pursuits.fail(vm, reason)
        roster.changeRow(
            vm, make: { row(vm, nil) },
            { record in
                record.enter(.failed, since: Date())
                record.lastError = reason
            })
        if isNews { chronicle.note(vm, .refused, "\(vm) is to be protected: \(reason)") }
    }

    private func row(_ vm: VMName, _ options: PrimaryOptions?) -> VMRecord {
        let configuration = words.configuration
        let configured = configuration.vms[vm]
        let memory = words.store[vm]
        let peer = options?.standby ?? configured?.standby ?? hosts.names.first
        var record = VMRecord(
            name: vm, part: .none, role: .primary, peer: peer,
            level: options?.level ?? configured?.level ?? configuration.defaults.level,
            term: memory.local.register?.term ?? Term(0),
            tuning: options?.tuning ?? EpochTuning(epochMilliseconds: configuration.defaults.epochMilliseconds),
            metrics: roster.metrics(of: vm, peer: peer), qmp: options?.qmpPath ?? configured?.qmp, pid: nil,
            state: .unprotected)
        record.identity = memory.identity
        record.metrics.level.set(record.level.rawValue)
        return record
    }

    // MARK: - What other hosts know

    /// Asks the other hosts now and then who has the VMs that wait here, and what was said of them there.
    private func askOthers() {
        let waiting = pursuits.waiting
        let silenced = words.silencedVMs
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
            await ask(waiting.union(silenced))
            questions.withLock { $0.isAsking = false }
        }
    }

    private func ask(_ vms: Set<VMName>) async {
        questions.withLock { $0.about = vms }
        let answers = await hosts.knowledge(of: vms)
        for vm in vms {
            var known: [(peer: NodeName, knowledge: VMKnowledge)] = []
            for (peer, answer) in answers { known += answer.filter { $0.vm == vm }.map { (peer, $0) } }
            words.follow(about: vm, known)
            let holder = known.first { $0.knowledge.guest != nil }
            pursuits.noteHolder(vm, holder.map { ($0.peer, $0.knowledge.guest ?? "") })
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

    /// A guest was started where the register does not expect it: true when all that it names answer that they hold nothing
    /// that could go on under that register.
    private func isYielded(_ register: Register, of vm: VMName) async -> Bool {
        for node in register.others(than: hosts.node) {
            guard let reason = await hosts.reason(of: node, against: YieldQuestion(vm: vm, register: register)) else {
                continue
            }
            chronicle.log.info("\(node) does not yield \(vm): \(reason)")
            return false
        }
        chronicle.note(
            vm, .asked,
            "the register of \(vm) (term \(register.term)) is yielded: nothing of the VM is left where it is named")
        return true
    }
}
