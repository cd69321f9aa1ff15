import Fencing
import Foundation
import LinuxSystem
import Model
import Testing

/// Fence commands as real processes.
@Suite(.timeLimit(.minutes(2))) struct PeerFenceTests {
    @Test func exitCodeZeroIsAConfirmationAndTheCommandKnowsWhatFor() async throws {
        let bed = try FenceBed()
        let path = try bed.script(
            "echo \"$1|$ROMULUS_NODE|$ROMULUS_PEER|$ROMULUS_VM|$ROMULUS_REASON|$HOME\" > $D/seen",
            "ls /proc/self/fd > $D/fds",
            "ps -o pgid= -p $$ > $D/group; echo $$ > $D/pid")
        let fence = bed.fence([path, "two words; $(not a shell)"])
        bed.ask(fence)
        let answers = try await bed.answers(1)
        #expect(answers[0].ending == .confirmed)
        #expect(
            bed.contents("seen")
                == "two words; $(not a shell)|alpha|beta|web|nothing was received for 501 ms|\n")
        #expect(bed.contents("group").trimmingCharacters(in: .whitespaces) == bed.contents("pid"))
        // 3 is what ls itself opened.
        #expect(bed.contents("fds").split(separator: "\n") == ["0", "1", "2", "3"])
        #expect(bed.news.withLock { $0.map(\.news) } == [.started, .ended(.confirmed)])
    }

    @Test func everythingElseIsNone() async throws {
        let bed = try FenceBed()
        let failing = try bed.script("echo first; echo 'no answer from the BMC' >&2; exit 3")
        bed.ask(bed.fence([failing]))
        var answers = try await bed.answers(1)
        #expect(answers[0].ending == .failed("its command ended with exit code 3"))
        #expect(bed.texts.last?.contains("first; no answer from the BMC") ?? false, "\(bed.texts)")

        bed.ask(bed.fence(["/nowhere/fence-beta"]))
        answers = try await bed.answers(2)
        guard case .failed(let reason) = answers[1].ending else {
            Issue.record("a program that does not exist confirmed: \(answers)")
            return
        }
        #expect(reason.contains("/nowhere/fence-beta") && reason.contains("No such file"), "\(reason)")

        bed.ask(bed.fence([try bed.script("kill -TERM $$")]))
        answers = try await bed.answers(3)
        #expect(answers[2].ending == .failed("its command was ended by signal 15"))
    }

    @Test func aCommandThatHangsIsKilledWithAllThatItStarted() async throws {
        let bed = try FenceBed()
        let path = try bed.script(
            "trap '' TERM INT HUP", "sleep 1000 & echo $! > $D/child", "echo waiting", "wait", "sleep 1000")
        bed.ask(bed.fence([path], timeout: 500))
        let answers = try await bed.answers(1)
        #expect(answers[0].ending == .tookTooLong)
        let child = try #require(pid_t(bed.contents("child").trimmingCharacters(in: .whitespacesAndNewlines)))
        try await bed.wait("the end of its child", within: 5) {
            let stat = (try? String(contentsOfFile: "/proc/\(child)/stat", encoding: .utf8)) ?? ""
            return stat.isEmpty || stat.contains(") Z ")
        }
        #expect(bed.texts.last?.contains("waiting") ?? false)
    }

    @Test func aCommandThatLeavesAChildBehindIsNotWaitedFor() async throws {
        let bed = try FenceBed()
        // The child keeps the output open.
        let path = try bed.script("sleep 1000 & echo $! > $D/child; echo done")
        bed.ask(bed.fence([path]))
        let answers = try await bed.answers(1)
        #expect(answers[0].ending == .confirmed)
        if let child = pid_t(bed.contents("child").trimmingCharacters(in: .whitespacesAndNewlines)) {
            kill(child, SIGKILL)
        }
    }

    @Test func outputWithoutEndIsCutAndDoesNotHoldTheCommandUp() async throws {
        let bed = try FenceBed()
        let path = try bed.script("head -c 5000000 /dev/zero | tr '\\0' x; printf '\\033[31mthe end\\n'")
        bed.ask(bed.fence([path]))
        let answers = try await bed.answers(1)
        #expect(answers[0].ending == .confirmed)
        let text = bed.texts.last ?? ""
        #expect(text.utf8.count < 2300 && text.hasSuffix("the end)"), "\(text.utf8.count)")
        #expect(!text.unicodeScalars.contains { $0.value < 32 })
    }

    @Test func oneCommandServesAllVMsThatWait() async throws {
        let bed = try FenceBed()
        let path = try bed.script(
            "echo x >> $D/runs", "mkdir $D/lock || echo twice >> $D/twice",
            "while ! [ -e $D/go ]; do sleep 0.02; done", "rm $D/go", "rmdir $D/lock")
        let fence = bed.fence([path])
        bed.ask(fence)
        try await bed.wait("the first run") { bed.contents("runs") == "x\n" }
        // One that comes while the command runs is served by it; one that comes later has a run of its own.
        bed.ask(fence, for: mail, as: .standby)
        bed.touch("go")
        var answers = try await bed.answers(2)
        #expect(Set(answers.map(\.vm)) == [web, mail])
        bed.ask(fence)
        try await bed.wait("the second run") { bed.contents("runs") == "x\nx\n" }
        bed.touch("go")
        answers = try await bed.answers(3)
        #expect(answers.allSatisfy { $0.ending == .confirmed })
        #expect(bed.contents("runs") == "x\nx\n")
        #expect(bed.contents("twice") == "")
    }

    @Test func aPeerThatIsHeardIsNotFenced() async throws {
        let bed = try FenceBed()
        let path = try bed.script("echo x >> $D/runs")
        let fence = bed.fence([path], delay: 60_000)
        bed.ask(fence)
        fence.hear()
        var answers = try await bed.answers(1)
        #expect(answers[0].ending == .heard)
        // Frames on the link of another VM count as well.
        bed.ask(fence)
        bed.heardAt.withLock { $0 = MonotonicClock.now() }
        answers = try await bed.answers(2)
        #expect(answers[1].ending == .heard)
        #expect(bed.contents("runs") == "")
    }

    @Test func aPeerThatWasHeardJustBeforeMustHaveBeenSilentFirst() async throws {
        let bed = try FenceBed()
        let path = try bed.script("true")
        let heard = MonotonicClock.now()
        bed.heardAt.withLock { $0 = heard }
        bed.ask(bed.fence([path], silence: 700))
        let answers = try await bed.answers(1)
        #expect(answers[0].ending == .confirmed)
        #expect(MonotonicClock.now() - heard >= 700_000_000)
    }

    @Test func aConfirmationOfAPeerThatCameBackSaysNothing() async throws {
        let bed = try FenceBed()
        let path = try bed.script("touch $D/begun; while ! [ -e $D/go ]; do sleep 0.02; done")
        let fence = bed.fence([path])
        bed.ask(fence)
        try await bed.wait("the command") { FileManager.default.fileExists(atPath: "\(bed.directory)/begun") }
        fence.hear()
        bed.touch("go")
        let answers = try await bed.answers(1)
        #expect(answers[0].ending == .heard)
    }

    @Test func whoDoesNotWaitAnyMoreStartsNothing() async throws {
        let bed = try FenceBed()
        let path = try bed.script("echo \"$ROMULUS_VM\" >> $D/runs")
        let fence = bed.fence([path], delay: 1500)
        bed.ask(fence)
        fence.stop(for: web)
        bed.ask(fence, for: mail)
        #expect(try await bed.answers(1)[0].vm == mail)
        #expect(bed.contents("runs") == "mail\n")
        #expect(bed.answers.withLock { $0.count } == 1)
    }

    @Test func pausesBetweenFailuresGrowAndAnswersAreNotRemembered() async throws {
        let bed = try FenceBed()
        let path = try bed.script("date +%s%N >> $D/runs; exit 1")
        let fence = bed.fence([path], pause: 200)
        for count in 1...3 {
            bed.ask(fence)
            let answers = try await bed.answers(count)
            #expect(answers[count - 1].ending == .failed("its command ended with exit code 1"))
        }
        let times = bed.contents("runs").split(separator: "\n").compactMap { UInt64($0) }
        try #require(times.count == 3)
        #expect(times[1] - times[0] >= 200_000_000)
        #expect(times[2] - times[1] >= 400_000_000)
    }

    @Test func aNewSilenceDoesNotWaitForTheFailuresOfAnEarlierOne() async throws {
        let bed = try FenceBed()
        let fence = bed.fence([try bed.script("exit 1")], pause: 60_000)
        bed.ask(fence)
        _ = try await bed.answers(1)
        fence.hear()
        bed.ask(fence)
        let answers = try await bed.answers(2, within: 10)
        #expect(answers[1].ending == .failed("its command ended with exit code 1"))
    }

    @Test func aStandbyGivesThePrimaryAHeadStart() async throws {
        #expect(FencingRole.primary.defaultDelayMilliseconds == 0)
        #expect(FencingRole.standby.defaultDelayMilliseconds == 3000)
        let bed = try FenceBed()
        let path = try bed.script("echo x >> $D/runs")
        let began = MonotonicClock.now()
        let fence = bed.fence([path], delay: nil)
        bed.ask(fence, as: .standby)
        _ = try await bed.answers(1)
        let patience = MonotonicClock.now() - began
        #expect(patience >= 3_000_000_000)
        // Where this host is the primary of one VM, all are served by its haste.
        bed.ask(fence, for: mail, as: .standby)
        let second = MonotonicClock.now()
        bed.ask(fence, as: .primary)
        _ = try await bed.answers(3)
        #expect(MonotonicClock.now() - second < patience)
    }
}
