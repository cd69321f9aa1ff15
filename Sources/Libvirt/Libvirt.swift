import LinuxSystem
import Synchronization

/// The domains of a libvirt daemon, and what Romulus needs them to be defined with. Speaks to the daemon only when it is asked
/// something; libvirt's client library is loaded then.
///
/// Owns: a connection for each question. May call: libvirt.so.0 through `CLibvirt`, LinuxSystem. Knows nothing of QMP.
public final class Libvirt: Sendable {
    public let uri: String
    /// Where QEMU makes the sockets of second monitors; it must let QEMU's user make files there.
    private let monitorDirectory: String
    private let open = Mutex(OpenQuestions())

    /// The daemon answers within this, or counts as stuck; in nanoseconds.
    private static let patience: UInt64 = 10_000_000_000

    /// Those that the daemon has not answered yet.
    private struct OpenQuestions {
        private var last: UInt64 = 0
        /// When each was asked.
        private var asked: [UInt64: UInt64] = [:]

        /// Nil where one waits beyond the daemon's patience already.
        mutating func begin() -> UInt64? {
            let now = MonotonicClock.now()
            guard !asked.values.contains(where: { now > $0 + Libvirt.patience }) else { return nil }
            last += 1
            asked[last] = now
            return last
        }

        mutating func end(_ question: UInt64) { asked[question] = nil }
    }

    public init(uri: String, monitorDirectory: String) {
        self.uri = uri
        self.monitorDirectory = monitorDirectory
    }

    /// One domain as an operator needs to see it.
    public struct DomainState: Hashable, Sendable {
        public var name: String
        public var uuid: String
        public var isRunning: Bool
        /// It has a definition that outlives its run.
        public var isPersistent: Bool
        public var autostarts: Bool
        /// The socket of the second monitor that it runs with; nil where it has none, or does not run.
        public var monitor: String?
        /// That which it is defined with, for its next start; nil likewise.
        public var monitorOfNextStart: String?
    }

    // MARK: - Questions. All of them block, for as long as the patience is.

    /// All domains, by name.
    public func domains() throws(LibvirtError) -> [DomainState] {
        try ask { (connection) throws(LibvirtError) in
            try connection.domains().map(Self.state).sorted { $0.name < $1.name }
        }
    }

    /// Has the domain of that name or UUID be started with a second monitor from its next start on, or without one again. What
    /// runs now is not touched. Returns what it is then.
    public func prepare(_ name: String, isUndone: Bool) throws(LibvirtError) -> DomainState {
        try ask { [monitorDirectory] (connection) throws(LibvirtError) in
            let domain = try connection.domain(name)
            guard domain.isPersistent, let xml = domain.xml(isOfNextStart: true) else {
                throw LibvirtError(
                    .refused,
                    "the domain \(domain.name) has no persistent definition, which is what this would change: add the second monitor to"
                        + " the XML that it is created from (docs/LIBVIRT.md)")
            }
            guard SecondMonitor(in: SecondMonitor.removed(from: xml)) == nil else {
                throw LibvirtError(
                    .refused,
                    "the domain \(domain.name) has a chardev “romulus” that was written by hand: take it out with “virsh edit” first"
                )
            }
            let wanted = SecondMonitor(path: "\(monitorDirectory)/\(domain.name).qmp")
            let changed = isUndone ? SecondMonitor.removed(from: xml) : wanted.added(to: xml)
            guard let changed else {
                throw LibvirtError(.failed, "libvirt's definition of \(domain.name) does not end with </domain>")
            }
            guard changed != xml else { return Self.state(domain) }
            let defined = try connection.define(changed)
            let state = Self.state(defined)
            guard state.monitorOfNextStart == (isUndone ? nil : wanted.path) else {
                throw LibvirtError(
                    .failed,
                    "libvirt took the definition of \(domain.name) without its second monitor: see “virsh dumpxml”")
            }
            return state
        }
    }

    private static func state(_ domain: Domain) -> DomainState {
        let isRunning = domain.isActive
        let now = isRunning ? domain.xml(isOfNextStart: false).flatMap { SecondMonitor(in: $0)?.path } : nil
        let isPersistent = domain.isPersistent
        let next = isPersistent ? domain.xml(isOfNextStart: true).flatMap { SecondMonitor(in: $0)?.path } : nil
        return DomainState(
            name: domain.name, uuid: domain.uuid, isRunning: isRunning, isPersistent: isPersistent,
            autostarts: domain.autostarts, monitor: now, monitorOfNextStart: next)
    }

    /// Asks on a thread of its own, which a daemon that never answers keeps: then nothing more is asked until it does.
    private func ask<Answer: Sendable>(
        _ question: @escaping @Sendable (borrowing Connection) throws(LibvirtError) -> Answer
    ) throws(LibvirtError) -> Answer {
        guard let number = open.withLock({ $0.begin() }) else { throw stuck }
        let outcome = Monitor<Result<Answer, LibvirtError>?>(nil)
        do throws(SystemError) {
            _ = try NamedThread.start("libvirt") { [self, uri] in
                let answer: Result<Answer, LibvirtError>
                do throws(LibvirtError) {
                    answer = .success(try question(try Connection(uri)))
                } catch {
                    answer = .failure(error)
                }
                open.withLock { $0.end(number) }
                outcome.change { $0 = answer }
            }
        } catch {
            open.withLock { $0.end(number) }
            throw LibvirtError(.failed, "libvirt cannot be asked: \(error)")
        }
        guard let answer = outcome.wait(nanoseconds: Self.patience, for: { $0 }) else { throw stuck }
        return try answer.get()
    }

    private var stuck: LibvirtError {
        LibvirtError(
            .unreachable, "libvirt at \(uri) does not answer: look at its daemon (“systemctl status libvirtd”)")
    }
}
