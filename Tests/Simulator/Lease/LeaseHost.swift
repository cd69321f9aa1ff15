import Model
import Protocol

/// A host's CLOCK_BOOTTIME: nanoseconds that pass at a speed of their own. The world's time is in microseconds.
struct SimClock {
    /// Parts of a million of true speed.
    private(set) var rate: Int
    private var base: Int
    private var since: Int

    init(rate: Int, reading: Int, at now: Int) {
        self.rate = rate
        base = reading
        since = now
    }

    func read(_ now: Int) -> UInt64 { UInt64(base + (now - since) * rate / 1000) }

    /// How many microseconds it takes until the clock reads `target`.
    func delay(until target: UInt64, _ now: Int) -> Int {
        let reading = read(now)
        return target <= reading ? 0 : Int(target - reading) * 1000 / rate + 1
    }

    /// A time service changes the speed.
    mutating func steer(_ rate: Int, _ now: Int) {
        (base, since) = (Int(read(now)), now)
        self.rate = rate
    }
}

/// The kernel's side of one gate: timeouts in ticks of the host's clock, transactions that happen or do not.
struct SimKernelGate {
    /// Nanoseconds.
    var tick: UInt64
    private var openUntil: UInt64 = 0
    private var ticketUntil: UInt64 = 0

    init(tick: UInt64) { self.tick = tick }

    enum Request {
        case open, renew
    }

    private func ticks(_ reading: UInt64) -> UInt64 { reading / tick * tick }

    func isOpen(_ reading: UInt64) -> Bool { ticks(reading) < openUntil }

    mutating func drawTicket(_ reading: UInt64) { ticketUntil = ticks(reading) + 50_000_000 }

    enum Answer {
        case done, hadShut, late
    }

    mutating func carryOut(
        _ request: Request, milliseconds: UInt64, _ reading: UInt64, mutant: LeaseMutant?
    ) -> Answer {
        if ticks(reading) >= ticketUntil, mutant != .withoutTicket { return .late }
        if request == .renew, !isOpen(reading) { return .hadShut }
        ticketUntil = 0
        if request == .renew, mutant == .renewsByAdding { return .done }
        openUntil = mutant == .gateInTheAgent ? .max : ticks(reading) + milliseconds * 1_000_000 / tick * tick
        return .done
    }

    mutating func close() { openUntil = 0 }
}

/// What an agent has yet to do, in this order; it may stand still before each.
enum LeaseStep {
    case action(LeaseMachine.Action)
    /// The clock is read after the ticket was drawn.
    case compute(SimKernelGate.Request, until: UInt64, attempts: Int)
    case request(SimKernelGate.Request, until: UInt64, milliseconds: UInt64, attempts: Int)
    case claim(expecting: LeaseRegister, LeaseRegister, LeaseMachine.Claim, nonce: UInt64)
    case read(question: UInt64)
    case tellStandby(LeaseRegister)
    case fence
}

struct LeaseRegister: Equatable {
    var term: Term
    var owner: HostIndex
    var standby: HostIndex?
}

/// What reaches an agent.
enum LeaseMessage {
    case reading(question: UInt64, LeaseRegister)
    case applied(nonce: UInt64, LeaseRegister)
    case conflict(nonce: UInt64, LeaseRegister)
    case promiseAsked(question: UInt64, Term)
    case promise(question: UInt64, Term)
    case standsBy(LeaseRegister)
    /// The standby is none of this term's.
    case unpaired(Term)
    case fenced
    case takeOver
    case look
}

final class LeaseHost {
    let index: HostIndex
    var clock: SimClock
    var gate: SimKernelGate
    /// How far the clock that is set by hand is off, for a mutant.
    var wallOffset: UInt64 = 0
    /// The guest runs here.
    var hasGuest = false
    var isPowered = true
    /// Counts the agent's lives; nothing of an earlier one is carried out.
    var life = 0
    var isUp = false
    var stalledUntil = 0
    /// A fault that waits for the next request to the kernel.
    var stallAtRequest: (microseconds: Int, dies: Bool)?
    var diesAfterRequest = false
    var machine: LeaseMachine
    var steps: [LeaseStep] = []
    var isStepping = false
    /// The register as last told, read or won.
    var known: LeaseRegister?
    var isAdopting = false
    /// The compare-and-set that is under way.
    var claim: (nonce: UInt64, expecting: LeaseRegister, new: LeaseRegister, kind: LeaseMachine.Claim, at: Int)?
    var heardAt = 0
    /// For mutants: when each question was asked, and the newest.
    var asked: [UInt64: UInt64] = [:]
    var newest: [LeaseMachine.Source: UInt64] = [:]

    init(_ index: HostIndex, clock: SimClock, tick: UInt64, timing: LeaseTiming) {
        self.index = index
        self.clock = clock
        gate = SimKernelGate(tick: tick)
        machine = LeaseMachine(timing: timing, seed: 0)
    }
}
