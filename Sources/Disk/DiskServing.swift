import Foundation
import Hypervisor
import LinuxSystem
import Logging
import Model
import Shipping
import Storage

/// Where the servers of a guest's disks live on this host, and how they are to serve.
public struct ServingPlaces: Sendable {
    /// Sockets and logs.
    public var directory: String
    /// How long a disk may take for a request, in milliseconds.
    public var boundMilliseconds: Int

    public init(directory: String, boundMilliseconds: Int) {
        self.directory = directory
        self.boundMilliseconds = boundMilliseconds
    }

    func diskSocket(_ index: UInt16) -> String { "\(directory)/disk-\(index).nbd" }
    func controlSocket(_ index: UInt16) -> String { "\(directory)/disk-\(index).control" }
}

/// The process that serves one disk, as the agent sees it. One that ends without having been told to is started anew: QEMU asks
/// it again what was under way.
final class DiskServing: Sendable {
    private static let patience: UInt64 = 10_000_000_000

    private struct State {
        var child: ChildProcess?
        var line: ControlLine?
        var report = ServedReport()
        var answers: [ServedLine] = []
        var isLocked = false
        var isAlone = false
        var isEnding = false
    }

    private let plan: ServedPlan
    private let logPath: String
    private let server: NBDServer
    private let log: Logger
    private let changed: @Sendable (ServedReport) -> Void
    private let state = Monitor(State())
    private let ordering = Monitor(())

    var path: String { plan.diskSocket }
    var report: ServedReport { state.look(\.report) }

    /// Starts it.
    /// - Parameters:
    ///   - server: where requests for the standby go.
    ///   - changed: called with each report, on a thread of this.
    init(
        _ plan: ServedPlan, through server: NBDServer, log: Logger, changed: @escaping @Sendable (ServedReport) -> Void
    ) throws(SessionError) {
        self.plan = plan
        self.server = server
        self.log = log
        self.changed = changed
        logPath = plan.diskSocket.replacingOccurrences(of: ".nbd", with: ".log")
        do {
            try startProcess(plan)
            _ = try NamedThread.start("disk-control") { [self] in hear() }
            try pair()
        } catch {
            end()
            throw SessionError(.storage, "no process can serve \(plan.path): \(error)")
        }
    }

    private func startProcess(_ plan: ServedPlan) throws {
        try FileManager.default.createDirectory(
            atPath: (logPath as NSString).deletingLastPathComponent, withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o711])
        let output = try OwnedDescriptor.open(logPath, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND)
        // This very program, also when its file was replaced by a newer one.
        let encoder = JSONEncoder()
        encoder.outputFormatting = .withoutEscapingSlashes
        var start = ChildProcess.Plan([
            "/proc/self/exe", "disk-server", String(decoding: try encoder.encode(plan), as: UTF8.self),
        ])
        start.output = output.number
        start.errorOutput = output.number
        start.hasSession = true
        plan.removeSockets()
        let child = try ChildProcess(start)
        state.change { $0.child = child }
        let deadline = MonotonicClock.now() + Self.patience
        while true {
            if let connection = try? LocalSocket.connect(to: plan.controlSocket) {
                let line = ControlLine(connection)
                state.change { $0.line = line }
                return
            }
            if let ending = child.ending {
                let words = (try? String(contentsOfFile: logPath, encoding: .utf8)) ?? ""
                throw SessionError(
                    .storage, "its process \(ending): \(words.trimmingCharacters(in: .whitespacesAndNewlines))")
            }
            guard MonotonicClock.now() < deadline else {
                throw SessionError(.storage, "its process did not answer within 10 s")
            }
            waitReadable([child.exitDescriptor], nanoseconds: 2_000_000)
        }
    }

    /// Requests for the standby come to us from here on.
    private func pair() throws {
        let pair = try DescriptorPair.sockets()
        try server.serve(try pair.first.duplicate())
        try order(.pair, descriptor: pair.second.number)
    }

    /// Returns when it is carried out.
    func order(_ order: ServedOrder, descriptor: Int32? = nil) throws(SessionError) {
        let failure = ordering.look { _ -> String? in
            let line = state.change { state in
                state.answers = []
                return state.line
            }
            guard let line, line.send(order, descriptor: descriptor) else { return "its process is gone" }
            let answer = state.wait(nanoseconds: Self.patience) { state in
                state.answers.isEmpty ? nil : state.answers.removeFirst()
            }
            guard let answer else { return "its process did not answer within 10 s" }
            return answer.failure
        }
        if let failure { throw SessionError(.storage, failure) }
        switch order {
        case .lock, .unlock: state.change { $0.isLocked = order == .lock }
        case .alone: state.change { $0.isAlone = true }
        default: break
        }
    }

    private func hear() {
        while true {
            while let line = state.look(\.line)?.nextLine() {
                let isNews = state.change { state -> Bool in
                    if line.isAnswer { state.answers.append(line) }
                    defer { state.report = line.report }
                    return state.report != line.report
                }
                if isNews { changed(line.report) }
            }
            guard !state.look(\.isEnding), startAnew() else { return }
        }
    }

    /// Its process ended by itself. False when no other takes its place.
    private func startAnew() -> Bool {
        let (report, isLocked, isAlone, child) = state.look { ($0.report, $0.isLocked, $0.isAlone, $0.child) }
        child?.kill()
        log.error("the process that served \(plan.path) \(child?.ending?.description ?? "ended"): it is started anew")
        var next = plan
        if !report.isWhole { next.lost = report.lost ?? "what it lacked is not known any more" }
        do {
            try startProcess(next)
            _ = try NamedThread.start("disk-anew") { [self] in
                do {
                    if isLocked { try order(.lock) }
                    if isAlone { try order(.alone) } else { try pair() }
                } catch {
                    log.error("\(plan.path) is not served: \(error)")
                }
            }
            return true
        } catch {
            log.error("\(plan.path) is not served any more: \(error)")
            return false
        }
    }

    /// Ends it at once: the guest's device was turned away from it, or the guest is gone.
    func end() {
        let (child, line) = state.change { state in
            state.isEnding = true
            return (state.child, state.line)
        }
        line?.hangUp()
        child?.kill()
        plan.removeSockets()
    }
}
