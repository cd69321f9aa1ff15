import Glibc
import LinuxSystem
import Testing

/// Programs that are started, watched and ended.
@Suite struct ChildProcessTests {
    private typealias Child = LinuxSystem.ChildProcess

    private func shell(_ script: String) -> Child.Plan { Child.Plan(["/bin/sh", "-c", script]) }

    /// What `plan` writes until it ended, and how.
    private func run(_ plan: Child.Plan) throws -> (words: String, Child.Ending?) {
        var plan = plan
        let output = try Files.memory(named: "output")
        (plan.output, plan.errorOutput) = (output.number, output.number)
        let child = try Child(plan)
        #expect(child.waitForExit(timeout: nil))
        return (Files.text(in: output, limit: 4096), child.ending)
    }

    @Test func itsEndIsTold() throws {
        #expect(try run(shell("exit 3")).1 == .code(3))
        #expect(try run(shell("kill -TERM $$")).1 == .signal(SIGTERM))
        #expect(Child.Ending.code(3).description == "ended with status 3")
        #expect(Child.Ending.signal(9).description == "was ended by signal 9")
    }

    @Test func bothOutputsAreKeptAndThereIsNoInput() throws {
        let (words, ending) = try run(shell("cat; echo out; echo err >&2"))
        #expect(words == "out\nerr\n" && ending == .code(0))
        // Lost, and no harm.
        let child = try Child(shell("echo out"))
        #expect(child.waitForExit(timeout: nil) && child.ending == .code(0))
    }

    @Test func itIsLookedForInThePath() throws {
        #expect(try run(Child.Plan(["true"])).1 == .code(0))
        #expect(throws: SystemError(operation: "start", errno: ENOENT, subject: "/nowhere/at/all")) {
            try Child(Child.Plan(["/nowhere/at/all"]))
        }
    }

    @Test func itGetsNothingThatIsNotItsOwn() throws {
        var plan = shell("pwd; echo ${HOME-none} $OURS; ls /proc/self/fd | tr '\\n' ' '")
        plan.workingDirectory = "/usr"
        plan.environment = ["OURS": "yes", "PATH": "/usr/bin:/bin"]
        let pipe = try DescriptorPair.pipe()
        // A copy that would be inherited.
        let copy = dup(pipe.first.number)
        defer { close(copy) }
        let words = try run(plan).words.split(separator: "\n")
        #expect(words.prefix(2) == ["/usr", "none yes"])
        #expect(words.last.map { !$0.split(separator: " ").contains("\(copy)") } == true)
    }

    @Test func itHasAGroupOrASessionOfItsOwn() throws {
        let child = try Child(shell("sleep 100"))
        defer { child.kill() }
        #expect(getpgid(child.pid) == child.pid && getsid(child.pid) == getsid(0))
        var plan = shell("sleep 100")
        plan.hasSession = true
        let other = try Child(plan)
        defer { other.kill() }
        #expect(getsid(other.pid) == other.pid)
    }

    @Test func killingWaits() throws {
        let child = try Child(shell("exec sleep 100"))
        #expect(child.ending == nil && !child.waitForExit(timeout: 0))
        child.kill()
        #expect(child.ending == .signal(SIGKILL) && kill(child.pid, 0) != 0)
        child.kill()
        child.killGroup()
    }

    /// Also when its leader has ended already.
    @Test func aGroupIsKilledAsAWhole() throws {
        let output = try Files.memory(named: "output")
        var plan = shell("sleep 100 & echo $!")
        plan.output = output.number
        let child = try Child(plan)
        #expect(child.waitForExit(timeout: nil))
        let text = Files.text(in: output, limit: 64)
        let left = try #require(Int32(text.prefix { $0.isNumber }))
        let handle = try PidDescriptor(left)
        let runsOn = !handle.hasExited()
        child.killGroup()
        let ended = try handle.waitForExit(timeout: 5_000_000_000)
        #expect(runsOn && ended)
        #expect(child.ending == .code(0))
    }

    @Test func oneOfAnEarlierRunIsTakenUp() throws {
        let child = try Child(shell("exec sleep 100"))
        let adopted = try Child(adopting: child.pid)
        #expect(adopted.pid == child.pid && adopted.ending == nil)
        adopted.kill()
        #expect(adopted.ending == .unknown && adopted.ending?.description == "ended")
        #expect(child.ending == .signal(SIGKILL))
        #expect(throws: SystemError.self) { try Child(adopting: child.pid) }
    }
}
