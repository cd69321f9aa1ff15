import Glibc
import Hypervisor
import LinuxSystem

/// How long the parts of a resume took, in nanoseconds.
public struct ResumeTimings: Hashable, Sendable, Codable {
    /// Handing QEMU the stream's socket.
    public var prepare: UInt64 = 0
    /// Writing the stream.
    public var stream: UInt64 = 0
    /// From the stream's last byte to the guest running.
    public var load: UInt64 = 0
    public var total: UInt64 { prepare &+ stream &+ load }

    public init() {}
}

/// The QEMU of a standby: started beforehand, waiting for its state, or started to boot its guest. Used by one thread at a time.
public final class StandbyProcess {
    /// Its monitor; the caller may use it between the calls made here.
    public let monitor: QMPConnection
    /// It has its state, and stands still: so an earlier run of the agent left it.
    public let isLoaded: Bool
    private let child: LoggedProcess
    /// Our end of the socket from which QEMU is to load its state; nil once it was told to.
    private var stream: OwnedDescriptor?

    public var pid: Int32 { child.pid }
    /// For `poll`: readable once QEMU has ended.
    public var exitDescriptor: Int32 { child.exitDescriptor }

    /// Starts QEMU and waits until it answers. It lives on when this object goes away: end it with `kill`.
    ///
    /// - Parameters:
    ///   - arguments: The program and its arguments, with `-incoming defer` and `-qmp unix:PATH,server=on,wait=off`.
    ///   - monitorPath: PATH. A standby that an earlier agent left waiting there is ended; any other QEMU is an error.
    ///   - logPath: What QEMU prints goes there; the file is begun anew.
    public init(
        arguments: [String], workingDirectory: String = "/", monitorPath: String, logPath: String,
        timeout: Duration = .seconds(20)
    ) throws(StandbyError) {
        try Self.endLeftover(monitorPath)
        isLoaded = false
        child = try LoggedProcess(arguments: arguments, workingDirectory: workingDirectory, logPath: logPath)
        let deadline = ContinuousClock.now + timeout
        do throws(StandbyError) {
            monitor = try Self.connect(child, monitorPath, until: deadline)
            try prepareToLoad()
        } catch {
            child.kill()
            throw error
        }
    }

    /// Starts a QEMU that stands still (`-S`) until `run` and waits for no state; the rest as above.
    init(standing command: StandbyCommand, logPath: String, timeout: Duration = .seconds(20)) throws(StandbyError) {
        try Self.endLeftover(command.monitorPath, standing: command.arguments)
        isLoaded = false
        child = try LoggedProcess(
            arguments: command.arguments, workingDirectory: command.workingDirectory, logPath: logPath)
        do throws(StandbyError) {
            monitor = try Self.connect(child, command.monitorPath, until: ContinuousClock.now + timeout)
        } catch {
            child.kill()
            throw error
        }
    }

    /// Takes up the standby that an earlier run of the agent started and never let run: it waits for its state, or has it.
    public init(adopting pid: Int32, monitorPath: String, logPath: String) throws(StandbyError) {
        child = try LoggedProcess(adopting: pid, logPath: logPath)
        let status: String
        (monitor, status) = try Self.look(at: pid, monitorPath, amid: ["inmigrate", "paused"])
        isLoaded = status == "paused"
        if !isLoaded { try prepareToLoad() }
    }

    /// Ends the QEMU that an earlier run of the agent started and never let run: it waits for its state, has it, or was to boot
    /// its guest, of which that run may not have written down the process. Any other stays as it is.
    static func endLeftover(_ pid: Int32, _ waiting: StandbyCommand) {
        let path = waiting.monitorPath
        guard let found = try? QMPConnection(path: path, timeout: .seconds(1)).peer.pid else { return }
        let isBooting = ProcessFacts(pid: found).arguments == ColdStart.command(waiting).arguments
        guard found == pid || isBooting, let child = try? LoggedProcess(adopting: found, logPath: "/dev/null"),
            (try? look(at: found, path, amid: ["inmigrate", "paused", "prelaunch"])) != nil
        else { return }
        child.kill()
    }

    /// The monitor of that process, and its status, which is one of those given.
    private static func look(
        at pid: Int32, _ path: String, amid statuses: [String]
    ) throws(StandbyError) -> (QMPConnection, String) {
        let (monitor, status): (QMPConnection, String)
        do throws(QMPError) {
            monitor = try QMPConnection(path: path)
            status = try monitor.execute("query-status")["status"]?.string ?? ""
        } catch {
            throw StandbyError(.monitor(error))
        }
        guard monitor.peer.pid == pid, statuses.contains(status) else {
            throw StandbyError(.occupied(path: path, pid: monitor.peer.pid, status: status))
        }
        return (monitor, status)
    }

    /// What can be said before the state is there. `stop` takes back that QEMU starts the guest by itself after the load
    /// (softmmu/runstate.c `autostart`, monitor/qmp-cmds.c `qmp_stop`); the events tell when it is loaded. A socket of the
    /// same name from an earlier run of the agent is replaced (monitor/fds.c `qmp_getfd`).
    private func prepareToLoad() throws(StandbyError) {
        let sockets = try Self.sockets()
        var size: Int32 = 1 << 20
        setsockopt(sockets.first.number, SOL_SOCKET, SO_SNDBUF, &size, 4)
        let capabilities: [JSONValue] = ["x-ignore-shared", "events"].map { ["capability": $0, "state": true] }
        do throws(QMPError) {
            try monitor.awaitReplies(
                try monitor.send(
                    [
                        QMPCommand("getfd", ["fdname": .string(Self.streamName)]), QMPCommand("stop"),
                        QMPCommand("migrate-set-capabilities", ["capabilities": .array(capabilities)]),
                    ], descriptors: [sockets.second.number]))
        } catch {
            throw StandbyError(.monitor(error))
        }
        stream = sockets.takeFirst()
    }

    private static let streamName = "romulus-resume"

    private static func sockets() throws(StandbyError) -> DescriptorPair {
        do throws(SystemError) {
            let sockets = try DescriptorPair.sockets()
            try sockets.first.setNonBlocking(true)
            return sockets
        } catch {
            throw StandbyError(.system(call: "socketpair", errno: error.errno))
        }
    }

    /// - Parameter arguments: of one that stands before its start, which an agent was killed too early to write down.
    private static func endLeftover(_ path: String, standing arguments: [String] = []) throws(StandbyError) {
        var running: (pid: Int32, status: String)?
        do throws(QMPError) {
            let monitor = try QMPConnection(path: path, timeout: .seconds(1))
            let status = try monitor.execute("query-status")["status"]?.string ?? ""
            // Opened while the connection lives, so that the number cannot have come to mean another process.
            let isOurs =
                status == "inmigrate"
                || (status == "prelaunch" && ProcessFacts(pid: monitor.peer.pid).arguments == arguments)
            if isOurs, let process = try? PidDescriptor(monitor.peer.pid) {
                try? process.kill()
                _ = try? process.waitForExit(timeout: 5_000_000_000)
            } else {
                running = (monitor.peer.pid, status)
            }
        } catch {
            switch error.reason {
            case .noSuchPath, .refused, .closed: break
            default: throw StandbyError(.monitor(error))
            }
        }
        if let running { throw StandbyError(.occupied(path: path, pid: running.pid, status: running.status)) }
        unlink(path)
    }

    private static func connect(
        _ child: LoggedProcess, _ path: String, until deadline: ContinuousClock.Instant
    ) throws(StandbyError) -> QMPConnection {
        while true {
            do throws(QMPError) {
                return try QMPConnection(path: path, timeout: ContinuousClock.now.duration(to: deadline))
            } catch {
                // QEMU's sockets close a moment before it is gone.
                if error.reason == .closed { child.waitForExit(timeout: 1_000_000_000) }
                if let how = child.ending { throw StandbyError(.died(how: how, words: child.lastWords)) }
                switch error.reason {
                case .noSuchPath, .refused: break
                default: throw StandbyError(.monitor(error))
                }
                if ContinuousClock.now >= deadline {
                    throw StandbyError(.timedOut("no monitor at \(path). \(child.lastWords)"))
                }
                // QEMU makes the socket some time after its start; there is nothing to wait on before.
                _ = poll(nil, 0, 2)
            }
        }
    }

    /// Nil while QEMU runs, else how it ended and its last words.
    public var ending: String? {
        child.ending.map { how in
            let words = child.lastWords
            return words.isEmpty ? how : "\(how): \(words)"
        }
    }

    /// Ends QEMU at once and waits until it is gone.
    public func kill() {
        monitor.close()
        child.kill()
    }

    /// Throws what makes this QEMU another machine than the one described: machine type, vCPUs, devices, RAM blocks.
    public func verify(against guest: GuestDescription) throws(StandbyError) {
        let problem: String?
        do throws(QMPError) {
            problem = try MachineComparison.difference(monitor, guest)
        } catch {
            throw failure(error)
        }
        if let problem { throw StandbyError(.mismatch(problem)) }
    }

    /// The NIC here that is the primary's `nic`, which has a netdev. A netdev without an id has a name that each QEMU makes up
    /// (`#net050`); the NICs are named alike.
    public func nic(like nic: GuestNIC) throws(StandbyError) -> GuestNIC {
        let own: [GuestNIC]
        do throws(QMPError) {
            var inspection = Inspection(monitor: monitor)
            own = try inspection.listNICs()
        } catch {
            throw failure(error)
        }
        guard let found = own.first(where: { $0.name == nic.name }), found.netdev != nil else {
            throw StandbyError(.mismatch("without a netdev for NIC \(nic.name)"))
        }
        return found
    }

    /// The blocks as `resume` wants them, in the primary's order, with those found blank that this QEMU has not touched
    /// since its start. To be called once, before the resume, as it takes some milliseconds.
    public func resumeBlocks(_ guest: GuestDescription) throws(StandbyError) -> [ResumeBlock] {
        let own: [GuestRAMBlock]
        do throws(QMPError) {
            var inspection = Inspection(monitor: monitor)
            own = try inspection.listBlocks()
        } catch {
            throw failure(error)
        }
        return guest.blocks.map { block in
            var result = ResumeBlock(block)
            if let twin = own.first(where: { $0.name == block.name }), let address = twin.hostAddress {
                result.isBlank = isUntouched(address, twin.length)
            }
            return result
        }
    }

    /// True when no page of the range has ever been touched: anonymous memory then reads as zeros.
    private func isUntouched(_ address: UInt64, _ length: UInt64) -> Bool {
        guard let file = try? OwnedDescriptor.open("/proc/\(pid)/pagemap", O_RDONLY) else { return false }
        var entries = [UInt64](repeating: 0, count: 4096)
        let pages = Int(length / 4096)
        for first in stride(from: 0, to: pages, by: entries.count) {
            let count = min(entries.count, pages - first)
            let complete = entries.withUnsafeMutableBytes { bytes in
                let room = UnsafeMutableRawBufferPointer(rebasing: bytes[..<(count * 8)])
                return (try? file.readAll(into: room, at: (address / 4096 + UInt64(first)) * 8)) ?? false
            }
            // Bits 63 and 62 of an entry: present, swapped out (Documentation/admin-guide/mm/pagemap.rst).
            guard complete, entries[..<count].allSatisfy({ $0 >> 62 == 0 }) else { return false }
        }
        return true
    }

    /// Loads the state; the guest stands still afterwards, with its disks active, and nothing of it leaves: QEMU holds what
    /// it says of itself to the network (`announce`) until its guest runs (net/net.c `qemu_can_send_packet`).
    ///
    /// `compose` writes the pages that do not lie in shared files, and then the device state (`finish`); the head of the
    /// stream is written before it is called. After a failure this QEMU is of no further use.
    public func load(
        machineType: String, blocks: [ResumeBlock], timeout: Duration = .seconds(30),
        _ compose: (inout ResumeStream) throws(ResumeStreamError) -> Void
    ) throws(StandbyError) -> ResumeTimings {
        var timings = ResumeTimings()
        let clock = ContinuousClock()
        let begin = clock.now
        let socket = try takeStream()
        do throws(QMPError) {
            _ = try monitor.takeEvents()
            try monitor.execute("migrate-incoming", ["uri": .string("fd:" + Self.streamName)])
        } catch {
            throw failure(error)
        }
        let prepared = clock.now
        timings.prepare = Self.nanoseconds(begin.duration(to: prepared))

        var stream = ResumeStream(descriptor: socket.number, blocks: blocks, timeout: timeout)
        do throws(ResumeStreamError) {
            try stream.begin(machineType: machineType)
            try compose(&stream)
        } catch {
            throw StandbyError(.stream(error, words: wordsAtEnd()))
        }
        let written = clock.now
        timings.stream = Self.nanoseconds(prepared.duration(to: written))
        try awaitLoaded(within: begin + timeout - written)
        timings.load = Self.nanoseconds(written.duration(to: clock.now))
        return timings
    }

    private func takeStream() throws(StandbyError) -> OwnedDescriptor {
        guard let socket = stream.take() else { throw StandbyError(.spent) }
        return socket
    }

    /// A QEMU that refuses its state ends.
    private func awaitLoaded(within timeout: Duration) throws(StandbyError) {
        do throws(QMPError) {
            let end = try monitor.waitForEvent(timeout: timeout) { event in
                event.name == "MIGRATION" && event.data["status"]?.string == "completed"
            }
            if end == nil { throw QMPError(path: monitor.path, reason: .timedOut(command: "migrate-incoming")) }
        } catch {
            throw failure(error)
        }
    }

    /// Lets the guest run, once its state is loaded; returns when it runs.
    public func run() throws(StandbyError) {
        do throws(QMPError) {
            try monitor.execute("cont")
        } catch {
            throw failure(error)
        }
    }

    /// Once the guest runs: takes back that memory in shared files is left out of its state, with which an ordinary migration of it
    /// would fail.
    public func forgetSharing() throws(StandbyError) {
        do throws(QMPError) {
            try monitor.execute(
                "migrate-set-capabilities",
                ["capabilities": .array([["capability": "x-ignore-shared", "state": false]])])
        } catch {
            throw failure(error)
        }
    }

    /// `load`, then `run`.
    public func resume(
        machineType: String, blocks: [ResumeBlock], timeout: Duration = .seconds(30),
        _ compose: (inout ResumeStream) throws(ResumeStreamError) -> Void
    ) throws(StandbyError) -> ResumeTimings {
        let timings = try load(machineType: machineType, blocks: blocks, timeout: timeout, compose)
        try run()
        return timings
    }

    /// A failure of the monitor, or, when that is why, the end of QEMU.
    private func failure(_ error: QMPError) -> StandbyError {
        guard case .closed = error.reason else { return StandbyError(.monitor(error)) }
        let words = wordsAtEnd()
        guard let how = child.ending else { return StandbyError(.monitor(error)) }
        return StandbyError(.died(how: how, words: words))
    }

    /// QEMU's last words when it is ending, which takes it a moment after its sockets closed.
    private func wordsAtEnd() -> String {
        child.waitForExit(timeout: 1_000_000_000)
        return child.lastWords
    }

    private static func nanoseconds(_ duration: Duration) -> UInt64 {
        let (seconds, atto) = duration.components
        return UInt64(max(0, seconds)) &* 1_000_000_000 &+ UInt64(max(0, atto)) / 1_000_000_000
    }
}
