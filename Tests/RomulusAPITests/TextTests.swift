import Foundation
import Model
import RomulusAPI
import Testing

@Suite struct TextTests {
    @Test func columnsAreAligned() {
        var table = Table([("NAME", .left), ("N", .right), ("LAST", .left)])
        table.add([("a", .plain), ("7", .plain), ("x", .plain)])
        table.add([("longer", .bold), ("1234", .plain), ("", .plain)])
        #expect(
            table.text(colour: false) == """
                NAME       N  LAST
                a          7  x
                longer  1234

                """)
        #expect(table.text(colour: true).contains("\u{1b}[1mlonger\u{1b}[0m  1234"))
    }

    @Test func whatComesFromElsewhereDoesNotDriveTheTerminal() {
        var status = Samples.syncing()
        status.lastError = "bad\nnews\u{1b}[2J"
        let text = StatusText.list([status], now: Samples.since, colour: false)
        #expect(text.split(separator: "\n").count == 2)
        #expect(!text.contains("\u{1b}"))
        #expect(text.contains("bad news"))
    }

    /// A pair that nobody could take over is not well, however well it runs.
    @Test func anArbiterThatIsAwayIsTold() {
        var status = Samples.protected()
        status.arbiter = ArbiterReport(name: "witness gamma", isUp: true, lastAnswer: 3100, reason: nil)
        #expect(status.exitStatus == .ok)
        #expect(StatusText.detail(status, colour: false).contains("witness gamma, last answer 3 s ago\n"))
        status.arbiter?.isUp = false
        status.arbiter?.reason = "timeout"
        #expect(status.exitStatus == .degraded)
        #expect(
            StatusText.detail(status, colour: false).contains(
                "witness gamma does not answer, last answer 3 s ago: nobody could take over (timeout)"))
        status.state = .failed
        #expect(status.exitStatus == .unprotected)
    }

    @Test func theListShowsOneRowPerVMByName() {
        let now = Samples.since.addingTimeInterval(3725)
        #expect(
            StatusText.list([Samples.protected(), Samples.syncing()], now: now, colour: false) == """
                NAME  ROLE     STATE         LEVEL   PEER  TERM  EPOCH  PAUSE P50     P95  LATENCY P50    P95      SINCE  ERROR
                db    primary  syncing 25 %  system  beta     1      0          -       -            -      -  1 h 2 min  the link to beta was lost: timeout
                web   primary  protected     system  beta     3     41     2.5 ms  4.3 ms        23 ms  31 ms  1 h 2 min

                """)
        #expect(StatusText.list([], colour: false) == "no VMs\n")
    }

    @Test func theDetailShowsEverything() {
        var booted = Samples.protected()
        booted.coldBoot = ColdBootReport(epoch: 812, at: Samples.since.addingTimeInterval(-90))
        let told = StatusText.detail(booted, now: Samples.since, colour: false)
        #expect(told.contains(" ago, from its disk as of epoch 812: its memory was lost\n"), "\(told)")
        let text = StatusText.detail(Samples.protected(), now: Samples.since, colour: false)
        for part in [
            "state:             protected for 0 s\n", "epoch:             41 (every 20 ms asked for)\n",
            "qemu pid:          4711\n", "pause:             p50 2.5 ms, p95 4.3 ms\n",
            "link:              120.6 KiB/s\n", "300 dirty pages", "acknowledge 20 ms",
        ] {
            #expect(text.contains(part), "missing \(part) in\n\(text)")
        }
    }

    @Test func whatStandsInTheWayIsTold() {
        var status = Samples.protected()
        status.state = .waiting
        status.lastError = "the guest was shut down"
        status.desired = DesiredReport(
            protect: .always, reason: "no QEMU listens", nextTry: Samples.since + 12, failures: 3)
        let text = StatusText.detail(status, now: Samples.since, colour: false)
        #expect(
            text.contains("always protected; not now: no QEMU listens; tried again in 12 s (3 times in vain)"),
            "\(text)")
        let row = StatusText.list([status], now: Samples.since, colour: false)
        #expect(row.contains("waiting") && row.contains("no QEMU listens"), "the reason of now comes first: \(row)")
        status.role = .standby
        #expect(!StatusText.detail(status, now: Samples.since, colour: false).contains("desired"))
    }

    @Test func theTargetIsToldWithWhatIsReached() {
        var status = Samples.protected()
        func line(_ target: TargetReport) -> String? {
            status.target = target
            let text = StatusText.detail(status, now: Samples.since, colour: false)
            return text.split(separator: "\n").first { $0.hasPrefix("target:") }.map {
                String($0.drop { $0 != ":" }.dropFirst().drop { $0 == " " })
            }
        }
        #expect(line(TargetReport(latency: 5, isHeld: true)) == "answers within 5.0 ms")
        #expect(line(TargetReport(latency: 5, reached: 4.5, isHeld: true)) == "answers within 5.0 ms, 4.5 ms expected")
        #expect(
            line(TargetReport(overhead: 5, reached: 9.5, isHeld: false, reason: "it writes much"))
                == "no more than 5.0 % of the guest's work lost, 9.5 % lately; not held: it writes much")
    }

    @Test func aDeadLinkIsToldFromADeadHost() {
        var status = Samples.protected()
        func line(_ link: PeerReport.Link, _ secondPath: Bool?) -> String? {
            status.peerReport = PeerReport(link: link, secondPath: secondPath, silenceBorne: 212)
            let text = StatusText.detail(status, now: Samples.since, colour: false)
            return text.split(separator: "\n").first { $0.hasPrefix("peer's host:") }.map {
                String($0.drop { $0 != ":" }.dropFirst().drop { $0 == " " })
            }
        }
        #expect(line(.up, nil) == "alive; silence is borne for 212 ms")
        #expect(line(.up, true) == "alive, on both paths; silence is borne for 212 ms")
        #expect(line(.up, false) == "alive, but not heard over the second path; silence is borne for 212 ms")
        #expect(line(.stalled, true) == "alive, but the link is stalled")
        #expect(line(.down, true) == "link down, host alive")
        #expect(line(.down, false) == "not heard on either path")
        #expect(line(.down, nil) == "not heard")
    }

    @Test func theProgressBarFitsTheTerminal() {
        #expect(
            ProgressBar.line(Samples.syncing(), columns: 120)
                == "db  [=======                       ]  25 %  memory 64.0 MiB of 256.0 MiB  disk 64.0 MiB of 256.0 MiB  12.0 MiB/s"
        )
        for columns in 0..<160 {
            #expect(ProgressBar.line(Samples.syncing(), columns: columns).count <= max(columns - 1, 0))
        }
        #expect(
            ProgressBar.plain(Samples.syncing())
                == "db: syncing 25 %  memory 64.0 MiB of 256.0 MiB  disk 64.0 MiB of 256.0 MiB  12.0 MiB/s")
    }

    @Test(
        arguments: [
            (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1_048_524, "1023.9 KiB"),
            (1_048_575, "1.0 MiB"), (UInt64.max, "16.0 EiB"),
        ] as [(UInt64, String)])
    func bytesReadWell(count: UInt64, text: String) {
        #expect(Units.bytes(count) == text)
    }

    @Test(
        arguments: [
            (0.254, "0.25 ms"), (2.94, "2.9 ms"), (9.96, "10 ms"), (23.4, "23 ms"), (999.6, "1.00 s"), (1204, "1.20 s"),
        ] as [(Double, String)])
    func millisecondsReadWell(value: Double, text: String) {
        #expect(Units.milliseconds(value) == text)
    }

    @Test func decimalsSurviveOddNumbers() {
        #expect(Units.decimal(-0.04, 1) == "0.0")
        #expect(Units.decimal(-1.25, 1) == "-1.3")
        #expect(Units.decimal(.nan, 1) == "nan")
        #expect(Units.decimal(1e300, 1) == "1e+300")
        #expect(Units.age(-5) == "0 s")
        #expect(Units.age(.infinity) == "0 s")
        #expect(Units.age(187_200) == "2 d 4 h")
    }

    @Test func anEventIsOneLine() {
        let event = Event(
            id: 1, time: Samples.since, vm: nil, term: 2, kind: .session, message: "the link to beta is up")
        #expect(
            StatusText.event(event, colour: false)
                == "2026-01-01 12:00:00.250  -  session  term 2  the link to beta is up\n")
    }

    @Test func whyIsToldInNumberedSentences() {
        #expect(
            WhyText.text(Samples.explanation(), colour: false) == """
                web, as the journal of beta tells it:

                  1  Detected at 2026-01-01 12:00:00.250 UTC (term 4): alpha was silent for 500 ms
                  2  Promoted, 61 ms later (term 4, epoch 812): web runs here from checkpoint 812
                  -  error, 0.25 ms later (term 4): bad news
                  3  First output, 0.50 ms later (term 4): 2 frames left
                  4  Protected again, 1 min later (term 4): gamma has its first checkpoint

                From the first step to the guest running here 61 ms, to its first output 62 ms, to being protected again 1 min.

                """)
        let rebooted = WhyText.text(Samples.explanation(sameBoot: false), colour: false)
        #expect(rebooted.contains("Promoted, 61 ms later by the wall clock (term 4, epoch 812)"))
    }

    @Test func whySaysWhatIsMissing() {
        let events = Samples.explanation().steps.map(\.event)
        let open = WhyText.text(
            Explanation(vm: Samples.name("web"), node: "beta", events: [events[0]]), colour: false)
        #expect(open.hasSuffix("500 ms\n\nNothing has come of the last step yet.\n"))
        let headless = WhyText.text(
            Explanation(vm: Samples.name("web"), node: "beta", events: Array(events[3...])), colour: false)
        #expect(headless.contains("1  First output at 2026-01-01"))
        #expect(headless.contains("\nWhat led to this is not in the journal any more.\n"))
        #expect(WhyText.text(Explanation(vm: Samples.name("web"), node: "b", events: []), colour: false) == "")
    }

    /// The kinds have words of their own, so that no sentence begins with a word for programs.
    @Test func everyDecisionHasItsWords() {
        for kind in EventKind.decisions {
            let event = Event(id: 1, time: Samples.since, vm: nil, kind: kind, message: "m")
            let text = WhyText.text(Explanation(vm: Samples.name("a"), node: "b", events: [event]), colour: false)
            let words = text.split(separator: "\n")[1].dropFirst(5)
            #expect(words.first?.isUppercase ?? false && !words.prefix { $0 != ":" }.contains("_"), "\(words)")
        }
    }

    @Test(
        arguments: [
            ("90s", -90), ("15min", -900), ("15m", -900), ("2h", -7200), ("3d", -259_200), ("1w", -604_800),
            ("0s", 0), ("2026-01-01", -43_200.25), ("2026-01-01 11:59", -60.25), ("2026-01-01T11:59:59Z", -1.25),
            ("2026-01-01 12:00:00.125", -0.125),
        ] as [(String, Double)])
    func sinceIsUnderstood(text: String, seconds: Double) {
        let date = SinceText.date(text, now: Samples.since)
        #expect(date.map { abs($0.timeIntervalSince(Samples.since) - seconds) < 0.001 } ?? false, "\(date as Any)")
    }

    @Test(arguments: [
        "", "h", "2", "-2h", "2 h", "2y", "yesterday", "2026-13-01", "2026-1-1", "2026-01-01T", "2026-01-01 25:00",
        "2026-02-30", "2026-01-01 12:60",
        "99999999999999999999s", "２h",
    ])
    func whatIsNoTimeIsNotUnderstood(text: String) {
        #expect(SinceText.date(text) == nil)
    }
}
