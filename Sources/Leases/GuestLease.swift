import KernelGate
import LinuxSystem
import Model
import Protocol
import Registers

/// The lease of one VM, and the gate before its guest. On the leases' thread only.
final class GuestLease {
    private struct Reading {
        var task: Task<Void, Never>
        var askedAt: UInt64
    }

    /// So many readings of the register are under way at most, whatever the arbiter does with those that are given up.
    private static let readingsMax = 16

    private let vm: VMName
    var attendant: Leases.Attendant?
    private let setting: LeaseSetting
    private var machine: LeaseMachine
    /// Before what the gate is to stand once it can be opened; nil when nobody waits for that.
    private var awaited: [GatedLink]?
    /// The attendant was told that the gate stands.
    private var isGuarded = false
    /// When the gate is tried to be taken away again.
    private var removesAt: UInt64?
    private var readings: [UInt64: Reading] = [:]
    /// It was reported that the kernel does not do what it is asked for.
    private var isInTrouble = false

    init(_ vm: VMName, _ setting: LeaseSetting) {
        self.vm = vm
        self.setting = setting
        machine = LeaseMachine(timing: setting.timing, seed: .random(in: 1 ... .max))
    }

    /// Somebody here wants the gate before the guest.
    var isAsked: Bool { isGuarded || awaited != nil }

    /// When `doWhatIsDue` has something to do, by CLOCK_BOOTTIME; nil for never.
    var nextTimer: UInt64? { [machine.nextTimer, removesAt].compactMap(\.self).min() }

    func doWhatIsDue() {
        if let due = machine.nextTimer, due <= BootClock.now() { handle(.timer) }
        if let due = removesAt, due <= BootClock.now() { takeAway() }
    }

    /// Nobody waits for answers any more.
    func giveUp() {
        for reading in readings.values { reading.task.cancel() }
    }

    func handle(_ event: LeaseMachine.Event) {
        for action in machine.handle(event, at: BootClock.now()) { perform(action) }
    }

    private func perform(_ action: LeaseMachine.Action) {
        switch action {
        case .ask(.arbiter, let question): read(question)
        case .ask(.standby, let question): if let term = machine.term { attendant?.askStandby(question, term) }
        case .promise(let question, let term): attendant?.promise(question, term)
        case .open(let deadline): open(until: deadline)
        case .renew(let deadline): renew(until: deadline)
        case .close: close()
        case .mayRun: attendant?.mayRun()
        case .report(let text): report(text)
        }
    }

    private func report(_ text: String) {
        if let attendant { attendant.report(text) } else { setting.log.notice("\(vm): \(text)") }
    }

    // MARK: - The arbiter

    /// Has the register read. An answer is worth nothing after the lease's length: longer readings are given up.
    private func read(_ question: UInt64) {
        let now = BootClock.now()
        for reading in readings.values where reading.askedAt + setting.timing.length <= now { reading.task.cancel() }
        guard readings.count < Self.readingsMax else { return }
        let task = Task.detached(priority: .high) { [vm, arbiter = setting.arbiter, inbox = setting.inbox] in
            let reading = await arbiter.read(vm)
            inbox.put(.of(vm, .reading(question: question, reading)))
        }
        readings[question] = Reading(task: task, askedAt: now)
    }

    func answered(_ question: UInt64, _ reading: RegisterReading) {
        readings[question] = nil
        guard case .value(let register?) = reading else { return }
        guard register.owner != setting.node else { return handle(.confirmed(question: question, register.term)) }
        let isNews = machine.term.map { $0 < register.term } ?? false
        handle(.denied(register.term))
        if isNews { attendant?.denied(register) }
    }

    // MARK: - The gate

    func guardOutput(before links: [GatedLink]) {
        awaited = links
        guard case .open(_, let deadline) = machine.state, deadline > BootClock.now() else { return }
        put(before: links, until: deadline)
    }

    func unguard() {
        awaited = nil
        isGuarded = false
        takeAway()
    }

    /// The gate, where it stands before this guest.
    private var standing: (any OutputBarrier)? {
        guard let gate = setting.gate.made, gate.guests[vm] != nil else { return nil }
        return gate
    }

    private func open(until deadline: UInt64) {
        if let awaited { return put(before: awaited, until: deadline) }
        attempt { gate throws(KernelGateError) in
            if try gate.open(vm, until: deadline) { endTrouble() } else { beginTrouble(tooLate) }
        }
    }

    private func renew(until deadline: UInt64) {
        if let awaited { return put(before: awaited, until: deadline) }
        attempt { gate throws(KernelGateError) in
            switch try gate.renew([vm: deadline])[vm] {
            case .renewed: endTrouble()
            case .hadShut: handle(.hadShut)
            case .overdue, nil: beginTrouble(tooLate)
            }
        }
    }

    private func close() {
        attempt { gate throws(KernelGateError) in try gate.close(vm) }
    }

    private var tooLate: String {
        "this host was too slow: the lease of \(vm) had run out before the kernel was asked to keep its gate open"
    }

    /// Asks the gate for something, if it stands before this guest.
    private func attempt(_ ask: (any OutputBarrier) throws(KernelGateError) -> Void) {
        guard let gate = standing else { return lose() }
        do throws(KernelGateError) {
            try ask(gate)
        } catch {
            guard error == .vanished else { return beginTrouble("\(error)") }
            setting.gate.forget()
            lose()
        }
    }

    /// Nothing holds the guest back, where something should. Other guests' leases find that out by themselves.
    private func lose() {
        guard isGuarded else { return }
        isGuarded = false
        attendant?.unguardable("\(KernelGateError.vanished)")
    }

    /// Puts the gate there and opens it, back to back: what the guest sends in between is lost.
    private func put(before links: [GatedLink], until deadline: UInt64) {
        if links.isEmpty {
            // What a guest without NICs sends nobody hears.
            takeAway()
            awaited = nil
            attendant?.guarded()
            return
        }
        var isNew = false
        do throws(KernelGateError) {
            let gate = try setting.gate.get()
            isNew = gate.guests[vm] == nil
            try gate.install(vm, before: links)
            if try gate.open(vm, until: deadline) {
                isGuarded = true
                removesAt = nil
                awaited = nil
                endTrouble()
                attendant?.guarded()
            } else if isNew {
                // The lease has run out meanwhile. Nothing rests on this gate yet; the next confirmation puts it there.
                takeAway()
            }
        } catch {
            awaited = nil
            if error == .vanished { setting.gate.forget() }
            if isNew { takeAway() }
            attendant?.unguardable("\(error)")
        }
    }

    /// Takes the gate away, and goes on trying: a guest that nothing may hold back must not stay silent.
    private func takeAway() {
        removesAt = nil
        guard let gate = standing else { return endTrouble() }
        do throws(KernelGateError) {
            try gate.remove(vm)
            endTrouble()
        } catch {
            if error == .vanished { return setting.gate.forget() }
            removesAt = BootClock.now() + setting.timing.interval
            beginTrouble("\(error)")
        }
    }

    /// Said once, as the lease is renewed twice a second.
    private func beginTrouble(_ text: String) {
        guard !isInTrouble else { return }
        isInTrouble = true
        report(text)
    }

    private func endTrouble() {
        // What is to be taken away is kept open until it is gone.
        guard isInTrouble, removesAt == nil else { return }
        isInTrouble = false
        report("the kernel does again what it is asked for the gate of \(vm)")
    }
}
