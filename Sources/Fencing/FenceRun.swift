import LinuxSystem

/// One run of a fence command, to its end or its timeout: a process group of its own, no input, its output kept to be
/// shown.
final class FenceRun {
    /// Of the output, the end, in bytes.
    static let outputMax = 2000

    private let child: ChildProcess
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
        var plan = ChildProcess.Plan(command)
        plan.environment = environment
        plan.output = pipe.second.number
        plan.errorOutput = pipe.second.number
        child = try ChildProcess(plan)
        output = pipe.takeFirst()
        do throws(SystemError) {
            try output.setNonBlocking(true)
        } catch {
            child.killGroup()
            throw error
        }
    }

    private func wait(milliseconds: Int) throws(SystemError) -> FenceOutcome {
        let deadline = MonotonicClock.now() + UInt64(milliseconds) * 1_000_000
        var poller = Poller(capacity: 2)
        let exit = poller.add(child.exitDescriptor)
        let words = poller.add(output.number)
        while true {
            let now = MonotonicClock.now()
            guard now < deadline else {
                child.killGroup()
                drain()
                return .tookTooLong
            }
            do throws(SystemError) {
                _ = try poller.wait(timeout: deadline - now)
            } catch {
                child.killGroup()
                throw error
            }
            // Its last words are there before its end is.
            let isOver = poller.isReadable(exit)
            if poller.isReadable(words), !drain() { poller.watch(words, reading: false, writing: false) }
            guard isOver else { continue }
            drain()
            switch child.ending {
            case .code(0): return .confirmed
            case .code(let code): return .failed("its command ended with exit code \(code)")
            case .signal(let signal): return .failed("its command was ended by signal \(signal)")
            case .unknown, nil: return .failed("its command ended, nobody knows how")
            }
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
