import Foundation
import RomulusAPI
import Testing

/// What `romulus top` and `romulus forecast` show.
@Suite struct CostTextTests {
    private static func look(vms: Int = 1, epochs: EpochList? = Samples.epochs(30)) -> TopLook {
        var statuses = (0..<vms).map { index in
            var status = Samples.protected(index == 0 ? "web" : "vm-with-a-long-name-\(index)")
            status.pid = Int32(100 + index)
            status.processorSeconds = 10
            status.heldBytes = 1500
            status.dirtyPages = .init(p50: 300, p95: 400)
            return status
        }
        func health(_ seconds: Double) -> Health {
            Health(node: "alpha", started: Samples.since, peers: [:], processorSeconds: seconds)
        }
        let before = TopBase(time: Samples.since, health: health(5), statuses: statuses)
        for index in statuses.indices { statuses[index].processorSeconds = 11.5 }
        return TopLook(
            time: Samples.since.addingTimeInterval(2), health: health(5.25), statuses: statuses, epochs: epochs,
            before: before)
    }

    @Test func theScreenOfOneVM() {
        let text = TopText.screen(Self.look(), columns: 80, rows: 24, colour: false)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        #expect(lines[0] == "alpha 2026-01-01 12:00:02, agent CPU 13 %, times in ms, epochs of web")
        #expect(lines[2] == "VM         ROLE    STATE      EP/S PAUSE   P95 ANSWR DIRTY  LINK/S   HELD CPU%")
        #expect(lines[3] == "web        primary protected    40  2.50  4.25  22.5   300    121K   1.5K   75")
        #expect(lines[5] == "EPOCH     RUN PAUSE MODEL STOP SCAN COPY DEVS CONT  ENC  ACK MODEL PAGES   LINK")
        #expect(lines[6] == "56       22.5  2.50  2.25 0.50 0.10 0.30 1.00 0.25 0.40 20.0  4.00   300   107K")
        // The newest epoch is the last one.
        #expect(lines[20].hasPrefix("70 "))
        #expect(lines[22] == "PAUSE = 0.50 + max(1.00, 0.15 + 1.10 us*PAGES)")
    }

    /// However many VMs there are and whatever they are called.
    @Test(arguments: [0, 1, 2, 5, 8, 9, 40]) func itFitsASmallTerminal(vms: Int) {
        for epochs in [nil, Samples.epochs(0), Samples.epochs(3), Samples.epochs(64)] {
            let text = TopText.screen(Self.look(vms: vms, epochs: epochs), columns: 80, rows: 24, colour: false)
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            #expect(lines.count <= 24)
            #expect(lines.allSatisfy { $0.count <= 80 })
            if vms > 8 { #expect(text.contains("and \(vms - 8) more")) }
            if let epochs, !epochs.epochs.isEmpty { #expect(text.contains("\n\(40 + epochs.epochs.count) ")) }
        }
        for (columns, rows) in [(20, 5), (1, 1), (200, 60)] {
            let text = TopText.screen(Self.look(vms: vms), columns: columns, rows: rows, colour: false)
            #expect(text.split(separator: "\n").allSatisfy { $0.count <= columns })
            #expect(text.split(separator: "\n", omittingEmptySubsequences: false).count <= rows)
        }
    }

    @Test func figuresStayInTheirColumns() {
        for value in [0.0, 0.004, 9.994, 9.996, 99.94, 99.96, 1234.5, 9999.4, 1e9, .infinity] {
            var list = Samples.epochs(1)
            list.epochs[0].measured.run = value
            let line = TopText.screen(Self.look(epochs: list), columns: 80, rows: 24, colour: false)
                .split(separator: "\n", omittingEmptySubsequences: false)[6]
            #expect(line.count == 79, "\(value): \(line)")
        }
    }

    /// A first look has nothing to compare with, and another process than before has none either.
    @Test func sharesNeedTwoLooksAtTheSameProcess() {
        var status = Samples.protected()
        status.processorSeconds = 3
        let health = Health(node: "alpha", started: Samples.since, peers: [:], processorSeconds: 1)
        let first = TopLook(time: Samples.since, health: health, statuses: [status], epochs: nil, before: nil)
        #expect(first.agentShare == nil && first.vms[0].processorShare == nil)
        let base = TopBase(time: Samples.since, health: health, statuses: [status])
        status.pid = 4712
        let later = Samples.since.addingTimeInterval(1)
        let second = TopLook(time: later, health: health, statuses: [status], epochs: nil, before: base)
        #expect(second.agentShare == 0 && second.vms[0].processorShare == nil)
    }

    @Test func theForecastIsATableAndASentence() {
        let text = ForecastText.text(Samples.forecast(), colour: false)
        #expect(
            text == """
                web at level system, watched for 10 s

                EPOCH  PAGES  P95   PAUSE     P95  ANSWER    BUSY   FIXED   LOSES   LINK/S    CPU
                10 ms    300  420  1.5 ms  2.3 ms  2.5 ms  6.0 ms  7.3 ms  12.5 %  1.5 MiB  3.0 %
                20 ms    300  420  1.5 ms  2.3 ms  2.5 ms  6.0 ms  7.3 ms  12.5 %  1.5 MiB  3.0 %
                memory:  40.0 MiB here after that time, at most 400.0 MiB; 256.0 MiB at the standby
                disks:   2.0 KiB/s written, counted in LINK/S
                traffic: 410 frames/s sent by the guest, 400 to it, before its memory was followed
                standby: beta, round trip 0.25 ms

                --epoch-ms 20 suits: so it does.

                """)
        var other = Samples.forecast()
        other.hasPauses = false
        other.link = ForecastLink(peer: "beta", error: "no\nroute")
        other.requests?.framesOutPerSecond = nil
        other.requests?.uncounted = "it has no NIC"
        let plain = ForecastText.text(other, colour: false)
        #expect(plain.contains("traffic: not counted: it has no NIC\n"))
        #expect(plain.contains("(pauses are typical ones: none were made)"))
        #expect(plain.contains("beta is not reached, answer times are without the way to it: no route\n"))
        other.link = nil
        #expect(ForecastText.text(other, colour: false).contains("standby: none is configured"))
    }

    @Test func aVerificationIsASentenceAndItsPages() {
        #expect(
            VerificationText.text(Samples.verification(differing: 0), colour: false) == """
                web: equal: 65588 of 65632 pages were compared, 0 differ, 40 were written all the time, 4 were given back by \
                the guest
                  the replica at beta, at 58 checkpoints from 122 to 278, in 1.4 s; 98 pages of ROMs are left out

                """)
        let text = VerificationText.text(Samples.verification(), colour: false)
        #expect(
            text.hasPrefix("web: differing: 65588 of 65632 pages were compared, 12 differ, 6 of those were sent again"))
        #expect(text.contains("\n  differs: page 7 of pc.ram\n") && text.hasSuffix("  and 2 more\n"))
        #expect(
            VerificationText.progress(Samples.verification())
                == "web: 100 %  65588 of 65632 pages compared, 12 differ")
    }

    @Test func theStatusShowsTheModelBesideTheEpoch() {
        var status = Samples.protected()
        #expect(!StatusText.detail(status, now: Samples.since, colour: false).contains("model"))
        status.model = Samples.prediction
        let text = StatusText.detail(status, now: Samples.since, colour: false)
        #expect(
            text.contains(
                "pause 2.3 ms, bounded by QEMU's saving of its devices; acknowledge 4.0 ms; 97.7 KiB on the link"))
        #expect(text.contains("transfer 1.5 ms, acknowledge 20 ms, release 0.05 ms"))
        #expect(text.contains("device state 250 B, 107.4 KiB on the link"))
    }

    @Test func theLogHasAllOfAnEpochOnOneLine() {
        #expect(
            StatusText.epoch(EpochReport(Samples.timings()))
                == "epoch 41: pause 2.5 ms; run 23 ms, stop 0.50 ms, scan 0.10 ms, copy 0.30 ms, device state 1.0 ms,"
                + " resume 0.25 ms, encode 0.40 ms, transfer 1.5 ms, acknowledge 20 ms, release 0.05 ms; 300 dirty pages,"
                + " memory 39.1 KiB, disk 4.0 KiB, device state 250 B, 107.4 KiB on the link; 3 frames, 1.5 KiB, held for 21 ms"
        )
    }
}
