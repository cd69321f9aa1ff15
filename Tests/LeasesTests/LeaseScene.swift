import KernelGate
import Leases
import LinuxSystem
import Literals
import Logging
import Model
import Protocol
import Synchronization
import TestBed

let web = VMName(unchecked: "web")
let db = VMName(unchecked: "db")
let millisecond: UInt64 = 1_000_000

extension LeaseTiming {
    /// Asked often, and never over within a test.
    static let patient = LeaseTiming(length: 60_000 * millisecond, interval: 5 * millisecond, margin: 0, drift: 0)
    /// Soon over.
    static let brief = LeaseTiming(
        length: 100 * millisecond, interval: 5 * millisecond, margin: 10 * millisecond, drift: 0)
}

/// What an attendant was told.
final class Told: Sendable {
    enum Word: Equatable, Sendable {
        case askStandby(UInt64, Term)
        case promise(UInt64, Term)
        case mayRun
        case guarded
        case unguardable(String)
        case report(String)
    }

    private let list = Mutex<[Word]>([])
    var words: [Word] { list.withLock { $0 } }
    func add(_ word: Word) { list.withLock { $0.append(word) } }

    /// All but the questions to the standby.
    var news: [Word] { words.filter { if case .askStandby = $0 { false } else { true } } }
    var questions: Int { words.count - news.count }
    func count(of word: Word) -> Int { words.count { $0 == word } }
    func reports(with text: String) -> Int {
        words.count { if case .report(let said) = $0 { said.contains(text) } else { false } }
    }

    var attendant: Leases.Attendant {
        var attendant = Leases.Attendant()
        attendant.askStandby = { self.add(.askStandby($0, $1)) }
        attendant.promise = { self.add(.promise($0, $1)) }
        attendant.mayRun = { self.add(.mayRun) }
        attendant.guarded = { self.add(.guarded) }
        attendant.unguardable = { self.add(.unguardable($0)) }
        attendant.report = { self.add(.report($0)) }
        return attendant
    }
}

/// Leases of the host alpha with an arbiter and a gate in memory; `web` has an attendant.
struct LeaseScene {
    let arbiter = TestArbiter()
    let maker: Maker
    let told = Told()
    let log = Lines()
    let leases: Leases

    /// Makes gates, each time the same unless it is told otherwise.
    final class Maker: Sendable {
        private struct State {
            var barrier: TestBarrier
            var failure: KernelGateError?
            var made = 0
        }

        private let state: Mutex<State>
        init(_ barrier: TestBarrier, _ failure: KernelGateError?) {
            state = Mutex(State(barrier: barrier, failure: failure))
        }

        var barrier: TestBarrier { state.withLock { $0.barrier } }
        /// How often a gate was asked for.
        var made: Int { state.withLock { $0.made } }
        func use(_ barrier: TestBarrier) { state.withLock { $0.barrier = barrier } }

        func make() throws(KernelGateError) -> any OutputBarrier {
            let (barrier, failure) = state.withLock { state in
                state.made += 1
                return (state.barrier, state.failure)
            }
            if let failure { throw failure }
            return barrier
        }
    }

    init(
        _ timing: LeaseTiming = .patient, left: [VMName: [GatedLink]] = [:], failure: KernelGateError? = nil
    ) throws {
        let maker = Maker(TestBarrier(left), failure)
        self.maker = maker
        leases = try Leases(
            node: "alpha", arbiter: arbiter, timing: timing,
            log: Logger(label: "leases") { [log] _ in Lines.Handler(lines: log) },
            makeGate: { () throws(KernelGateError) in try maker.make() })
        leases.attend(web, told.attendant)
    }

    var barrier: TestBarrier { maker.barrier }

    /// The arbiter names this host at that term, which it goes on under.
    func goOn(at term: Term = Term(4), _ vm: VMName = web) {
        arbiter.appoint("alpha", at: term)
        leases.handle(.won(term, .goingOn), of: vm)
    }

    /// The gate stands before `web`, open.
    func guardWeb() async throws {
        let before = told.count(of: .guarded)
        goOn()
        leases.guardOutput(of: web, before: [try GatedLink("tap1")])
        try await waitUntil("the gate's opening") { told.count(of: .guarded) == before + 1 }
    }

    /// The same, and another one before `db`, which `other` speaks for.
    func guardBoth(_ other: Told) async throws {
        leases.attend(db, other.attendant)
        try await guardWeb()
        leases.handle(.won(Term(4), .goingOn), of: db)
        leases.guardOutput(of: db, before: [try GatedLink("tap2")])
        try await waitUntil("the other gate's opening") { other.words.contains(.guarded) }
    }

    func waitUntil(_ what: String, _ isSo: () -> Bool) async throws {
        try await eventually(what, within: .seconds(20)) { isSo() ? true : nil }
    }

    /// Waits until all that was handed in by now is handled.
    func settle() async throws {
        let last = Told()
        let probe = VMName(unchecked: "probe")
        leases.attend(probe, last.attendant)
        leases.handle(.standsBy(Term(1)), of: probe)
        leases.handle(.promiseAsked(question: 1, Term(1)), of: probe)
        try await waitUntil("the handling of all that came") { !last.words.isEmpty }
    }
}

/// What was logged.
final class Lines: Sendable {
    private let list = Mutex<[String]>([])
    var all: [String] { list.withLock { $0 } }

    struct Handler: LogHandler {
        let lines: Lines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.debug

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) { lines.list.withLock { $0.append("\(event.level): \(event.message)") } }
    }
}
