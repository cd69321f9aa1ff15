import CLinux
import Glibc
import LinuxSystem

/// One run of a fence command, to its end or its timeout: a process group of its own, no input, its output kept to be
/// shown.
final class FenceRun {
    /// Of the output, the end, in bytes.
    static let outputMax = 2000

    private let pid: pid_t
    private let process: PidDescriptor
    private let output: OwnedDescriptor
    private var kept: [UInt8] = []

    /// Runs `command` and blocks until it ended or was killed.
    /// - Parameter environment: all that it gets of one.
    /// - Returns: what came of it, and the end of what it wrote to either output, on one line.
    static func run(_ command: FenceCommand, environment: [String: String]) -> (FenceOutcome, output: String) {
        do throws(SystemError) {
            let run = try FenceRun(command.command, environment)
            let outcome = try run.wait(milliseconds: command.timeoutMilliseconds)
            return (outcome, run.words)
        } catch {
            return (.failed("\(error)"), "")
        }
    }

    private init(_ command: [String], _ environment: [String: String]) throws(SystemError) {
        let pipe = try DescriptorPair.pipe()
        let writingEnd = pipe.second.number
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, writingEnd, 1)
        posix_spawn_file_actions_adddup2(&actions, writingEnd, 2)
        _ = rml_spawn_close_from(&actions, 3)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))

        var words: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
        var variables: [UnsafeMutablePointer<CChar>?] = environment.sorted { $0.key < $1.key }.map {
            strdup("\($0.key)=\($0.value)")
        }
        variables.append(nil)
        defer { for text in words + variables { free(text) } }
        var child: pid_t = 0
        let program = command.first ?? ""
        var failure = posix_spawn(&child, program, &actions, &attributes, &words, &variables)
        // A program that was just written is busy for as long as some other child has its writer's descriptor.
        for _ in 0..<20 where failure == ETXTBSY {
            MonotonicClock.sleep(until: MonotonicClock.now() + 10_000_000)
            failure = posix_spawn(&child, program, &actions, &attributes, &words, &variables)
        }
        if failure != 0 { throw SystemError(operation: "start", errno: failure, subject: program) }
        pid = child
        output = pipe.takeFirst()
        do throws(SystemError) {
            // Not reaped by anyone but this value, so the number still means this process, and its group.
            process = try PidDescriptor(child)
            try output.setNonBlocking(true)
        } catch {
            Self.end(child)
            throw error
        }
    }

    /// Kills the whole group and reaps its leader.
    private static func end(_ pid: pid_t) {
        kill(-pid, SIGKILL)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    }

    private func wait(milliseconds: Int) throws(SystemError) -> FenceOutcome {
        let deadline = MonotonicClock.now() + UInt64(milliseconds) * 1_000_000
        var poller = Poller(capacity: 2)
        let exit = poller.add(process.number)
        let words = poller.add(output.number)
        while true {
            let now = MonotonicClock.now()
            guard now < deadline else {
                Self.end(pid)
                drain()
                return .tookTooLong
            }
            do throws(SystemError) {
                _ = try poller.wait(timeout: deadline - now)
            } catch {
                Self.end(pid)
                throw error
            }
            // Its last words are there before its end is.
            let isOver = poller.isReadable(exit)
            if poller.isReadable(words), !drain() { poller.watch(words, reading: false, writing: false) }
            guard isOver else { continue }
            drain()
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0, errno == EINTR {}
            let signal = status & 0x7f
            if signal != 0 { return .failed("its command was ended by signal \(signal)") }
            let code = status >> 8 & 0xff
            return code == 0 ? .confirmed : .failed("its command ended with exit code \(code)")
        }
    }

    /// Takes up what was written; false at the end of the output.
    @discardableResult
    private func drain() -> Bool {
        var chunk = [UInt8](repeating: 0, count: 4096)
        // A command that writes without end is read as fast as it writes, but not for longer than that.
        for _ in 0..<64 {
            let count = try? chunk.withUnsafeMutableBytes { (bytes) throws(SystemError) in try output.read(into: bytes)
            }
            guard let count else { return true }
            if count == 0 { return false }
            kept += chunk[..<count]
            if kept.count > Self.outputMax { kept.removeFirst(kept.count - Self.outputMax) }
        }
        return true
    }

    private var words: String {
        let text = String(decoding: kept, as: UTF8.self)
        let lines = text.split(whereSeparator: \.isNewline).map { line in
            String(line.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? " " : Character($0) })
        }
        return lines.joined(separator: "; ")
    }
}
