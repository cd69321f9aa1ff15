import CLinux
import Glibc
import LinuxSystem
import Testing

@Suite struct AttachTests {
    private func refusal(_ pid: pid_t, faults: FaultInjections = []) -> AttachError? {
        do throws(AttachError) {
            _ = try GuestAttachment(to: pid, faults: faults)
            return nil
        } catch {
            return error
        }
    }

    @Test func leavesNoTraceAndIsSeenMeanwhile() throws {
        let toy = try Toy()
        let before = try Trace(of: toy.pid)
        #expect(!before.isWatched)
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        #expect(try Trace(of: toy.pid) == before)
        try tracker.track(toy.block)
        try tracker.protectAll()
        let during = try Trace(of: toy.pid)
        #expect(during.isWatched)
        #expect(during.descriptors == before.descriptors)
        try tracker.close()
        #expect(try Trace(of: toy.pid) == before)
        #expect(try toy.ask("look 0") == "0")
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: a process of another user"))
    func unprivilegedProcessCanBeTracked() throws {
        let toy = try Toy(unprivileged: true)
        #expect(try ProcessFiles.status("Uid", of: toy.pid)?.hasPrefix("65534") == true)
        let before = try Trace(of: toy.pid)
        _ = try toy.ask("fill")
        var tracker = try MemoryTracker(attachingTo: toy.pid)
        try tracker.track(toy.block)
        try tracker.protectAll()
        // Written by the kernel, whose faults a descriptor for user mode only would not report if it were asked to.
        #expect(try toy.ask("receive 7 1") == "4096")
        var runs = RunBuffer(capacity: 4)
        var position = ScanPosition()
        #expect(try tracker.scanWritten(from: &position, protecting: true, into: &runs))
        let found = Array(runs.runs)
        #expect(found == [TrackedRun(block: 0, first: 7, count: 1)])
        try tracker.close()
        let after = try Trace(of: toy.pid)
        #expect(after == before, "\(after.mappings.difference(from: before.mappings))")
    }

    @Test func interruptedPollGoesOnWithItsRemainingTime() throws {
        let toy = try Toy()
        #expect(try toy.ask("sleep 300") == "started")
        for _ in 0..<5 {
            let attachment = try GuestAttachment(to: toy.pid)
            #expect(attachment.stoppedFor > 0)
        }
        let answer = try toy.process.readLine().split(separator: " ").map { Int($0)! }
        #expect(answer[0] == 0 && answer[1] == 0)
        #expect(answer[2] >= 299)
    }

    @Test func registersSurviveAmidSignalsAndThreads() throws {
        let toy = try Toy()
        let rounds = 300_000_000
        _ = try toy.ask("threads 2")
        _ = try toy.ask("alarms 200")
        #expect(try toy.ask("compute 1000") == "started")
        _ = try toy.process.readLine()
        _ = try toy.ask("compute \(rounds)")
        for _ in 0..<40 { _ = try GuestAttachment(to: toy.pid) }
        let disturbed = try toy.process.readLine()
        let quiet = try Toy()
        _ = try quiet.ask("compute \(rounds)")
        #expect(try quiet.process.readLine() == disturbed)
        #expect(try Int(toy.ask("alarms 0"))! > 0)
    }

    @Test func restartableSequencesAreNotTorn() throws {
        let toy = try Toy(mebibytes: 1)
        _ = try toy.ask("sequences 3000 100000")
        for _ in 0..<40 { _ = try GuestAttachment(to: toy.pid) }
        let answer = try toy.process.readLine().split(separator: " ").map { Int($0)! }
        #expect(answer[0] > 0)
        #expect(answer[1] == 0)
    }

    @Test func stoppedProcessStaysStopped() throws {
        let toy = try Toy()
        kill(toy.pid, SIGSTOP)
        try eventually("state T") { try ProcessFiles.status("State", of: toy.pid)?.hasPrefix("T") == true }
        _ = try GuestAttachment(to: toy.pid)
        // It stops again by itself as soon as it is scheduled.
        try eventually("another stop") { try ProcessFiles.status("State", of: toy.pid)?.hasPrefix("T") == true }
        kill(toy.pid, SIGCONT)
        #expect(try toy.ask("look 3") == "0")
    }

    @Test func secondTracerIsNamed() throws {
        let toy = try Toy()
        let tracer = try Toy()
        #expect(try tracer.ask("trace \(toy.pid)") == "0")
        let error = refusal(toy.pid)
        #expect(error == .secondTracer(toy.pid, tracer: tracer.pid, name: "toy"))
        #expect(error?.description.contains("already traced by process \(tracer.pid) (toy)") == true)
        // In this order: a traced process can be reaped only once its tracer is gone.
        kill(tracer.pid, SIGKILL)
        _ = tracer.process.waitForEnd()
        #expect(try toy.ask("look 0") == "0")
    }

    @Test func missingEndedAndThreadPidsAreToldApart() throws {
        let ended = try ChildProcess(["/bin/true"])
        let handle = try PidDescriptor(ended.pid)
        let isOver = try handle.waitForExit(timeout: 10_000_000_000)
        #expect(isOver)
        #expect(refusal(ended.pid) == .noSuchProcess(ended.pid))
        let pid = ended.pid
        _ = ended.waitForEnd()
        #expect(refusal(pid) == .noSuchProcess(pid))
        #expect(refusal(-1) == .noSuchProcess(-1))

        let toy = try Toy()
        _ = try toy.ask("threads 1")
        let thread = try ProcessFiles.threads(of: toy.pid).first { $0 != toy.pid }!
        #expect(refusal(thread) == .notAProcess(thread, leader: toy.pid))
        #expect(try toy.ask("look 0") == "0")
    }

    @Test func deathAtAnyMomentIsReportedAsThat() throws {
        for round in 0..<30 {
            let toy = try Toy(mebibytes: 1)
            let pid = toy.pid
            let killer = try NamedThread.start("killer") {
                MonotonicClock.sleep(until: MonotonicClock.now() + UInt64(round) * 40_000)
                kill(pid, SIGKILL)
            }
            let error = refusal(pid)
            killer.join()
            switch error {
            case nil, .diedMeanwhile, .noSuchProcess: break
            default: Issue.record("round \(round): \(error!)")
            }
            // The exit status is still there for the parent.
            let status = toy.process.waitForEnd()
            #expect(status & 0x7f == SIGKILL)
        }
    }

    @Test func injectionIntoAnEndedProcessFailsAtItsFirstStep() throws {
        let toy = try Toy(mebibytes: 1)
        let handle = try PidDescriptor(toy.pid)
        try handle.kill()
        let isOver = try handle.waitForExit(timeout: nil)
        #expect(isOver)
        var report = rml_injection()
        let result = rml_inject_userfaultfd(toy.pid, handle.number, 0, 1_000_000, &report)
        #expect(result == -ESRCH || result == -EPERM)
        #expect(report.step == rml_step_seize)
    }

    @Test func wrongInstructionAddressIsNoticedBeforeAnythingRuns() throws {
        let toy = try Toy(mebibytes: 1)
        let (pid, address) = (toy.pid, toy.address)
        let handle = try PidDescriptor(pid)
        let number = handle.number
        let (result, step) = try NamedThread.run("injector") {
            var report = rml_injection()
            let result = rml_inject_userfaultfd(pid, number, address, 1_000_000_000, &report)
            return (result, report.step.rawValue)
        }
        #expect(result == -EFAULT)
        #expect(step == rml_step_instruction.rawValue)
        #expect(try toy.ask("look 0") == "0")
    }

    @Test func thirtyTwoBitProgramIsRefused() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/narrow"
        compile(
            #"void _start(void){__asm__ volatile("1: mov $29,%%eax; int $0x80; jmp 1b":::"eax");}"#, to: path,
            flags: ["-m32", "-nostdlib", "-static"])
        let narrow = try ChildProcess([path])
        withExtendedLifetime(narrow) {
            #expect(refusal(narrow.pid) == .wrongClass(narrow.pid, found: "a 32-bit program"))
        }
    }

    @Test func refusedUserfaultfdNamesTheFilter() throws {
        for action in 0...1 {
            let toy = try Toy()
            #expect(try toy.ask("forbid \(action)") == "0")
            let before = try Trace(of: toy.pid)
            let error = refusal(toy.pid)
            #expect(error == .userfaultfdRefused(toy.pid, errno: EPERM, filtered: true))
            #expect(error?.description.contains("seccomp filter forbids userfaultfd") == true)
            #expect(try Trace(of: toy.pid) == before)
            #expect(try toy.ask("look 0") == "0")
        }
    }

    @Test func fullDescriptorTableIsNamed() throws {
        let toy = try Toy()
        #expect(try ChildProcess(["/usr/bin/prlimit", "--pid", "\(toy.pid)", "--nofile=3:3"]).waitForEnd() == 0)
        #expect(refusal(toy.pid) == .outOfDescriptors(toy.pid))
        #expect(try toy.ask("look 0") == "0")
    }

    @Test func forcedFaultsHaveTheirSentences() throws {
        let toy = try Toy()
        #expect(refusal(toy.pid, faults: .withoutSyscallInstruction) == .noSyscallInstruction(toy.pid))
        let lacking = KernelAbilities.probe(faults: .withoutPagemapScan)
        #expect(throws: AttachError.lacking(lacking.missing[0])) {
            _ = try GuestAttachment(to: toy.pid, abilities: lacking)
        }
    }

    @Test func mainThreadThatCannotStopIsLeftAlone() throws {
        let toy = try Toy()
        let before = try Trace(of: toy.pid)
        _ = try toy.ask("vfork")
        let children = "/proc/\(toy.pid)/task/\(toy.pid)/children"
        try eventually("state D") { try ProcessFiles.status("State", of: toy.pid)?.hasPrefix("D") == true }
        let error = refusal(toy.pid, faults: .shortStopLimit)
        #expect(
            error?.description.contains("did not stop within 1 ms (state D") == true, "\(String(describing: error))")
        let child = try #require(pid_t(Files.text(of: children).filter(\.isNumber)))
        kill(child, SIGKILL)
        #expect(try toy.process.readLine() == "done")
        #expect(try Trace(of: toy.pid) == before)
        _ = try GuestAttachment(to: toy.pid)
    }

    @Test(.enabled(if: Freezer.isAvailable, "needs a cgroup2 file system that this user may write to"))
    func frozenProcessIsLeftAsItWas() throws {
        let toy = try Toy()
        let before = try Trace(of: toy.pid)
        let freezer = try Freezer(of: toy.pid)
        try freezer.freeze()
        let error = refusal(toy.pid, faults: .shortStopLimit)
        guard case .doesNotStop = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        try freezer.thaw()
        #expect(try toy.ask("look 0") == "0")
        #expect(try Trace(of: toy.pid) == before)
        _ = try GuestAttachment(to: toy.pid)
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: a process of another user"))
    func anotherUsersProcessIsNotPermitted() async throws {
        let toy = try Toy()
        let pid = toy.pid
        await #expect(processExitsWith: .success) { [pid = pid as pid_t] in
            // Found out before the rights are given up, which hides even our own pagemap.
            _ = KernelAbilities.ofThisHost
            setgid(65534)
            setuid(65534)
            do throws(AttachError) {
                _ = try GuestAttachment(to: pid)
            } catch {
                if case .notPermitted = error, error.description.contains("CAP_SYS_PTRACE") { exit(0) }
                print(error)
            }
            exit(1)
        }
        #expect(try toy.ask("look 0") == "0")
    }

    @Test func aKilledAgentLeavesNoTrace() async throws {
        let toy = try Toy()
        let before = try Trace(of: toy.pid)
        let (pid, address, length) = (toy.pid, toy.address, toy.length)
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [pid = pid as pid_t, address = address as UInt64, length = length as UInt64] in
            var tracker = try MemoryTracker(attachingTo: pid)
            try tracker.track(TrackedBlock(index: 0, address: address, length: length))
            try tracker.protectAll()
            if try Files.text(of: "/proc/\(pid)/smaps").contains(" uw ") { kill(getpid(), SIGKILL) }
        }
        #expect(try Trace(of: toy.pid) == before)
        #expect(try toy.ask("look 0") == "0")
    }
}
