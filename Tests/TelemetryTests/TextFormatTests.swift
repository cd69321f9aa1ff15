import Foundation
import Literals
import Model
import Telemetry
import Testing

@Suite struct TextFormatTests {
    @Test func oneFamilyIsWrittenOnceAndTogether() {
        let registry = Registry()
        let first = Family("things_total", .counter, "Things\\and\nmore.")
        let second = Family("level_ratio", .gauge, "A level.")
        registry.counter(first, [Label("vm", "a")]).add(3)
        registry.gauge(second).set(0.25)
        registry.counter(first, [Label("vm", "say \"hi\"\\\n")]).add(1)
        _ = registry.gauge(Family("unused", .gauge, "Has no series once they are removed."), [Label("vm", "x")])
        registry.remove(Label("vm", "x"))
        #expect(
            registry.text() == #"""
                # HELP things_total Things\\and\nmore.
                # TYPE things_total counter
                things_total{vm="a"} 3
                things_total{vm="say \"hi\"\\\n"} 1
                # HELP level_ratio A level.
                # TYPE level_ratio gauge
                level_ratio 0.25

                """#)
    }

    @Test func aHistogramIsCumulativeAndEndsInInfinity() {
        let registry = Registry()
        let family = Family("wait_seconds", .histogram(bounds: [1_000_000, 20_000_000]), "Waiting.")
        let histogram = registry.histogram(family, [Label("vm", "a")])
        for milliseconds in [1, 2, 3, 30] as [UInt64] { histogram.observe(nanoseconds: milliseconds * 1_000_000) }
        #expect(
            registry.text() == """
                # HELP wait_seconds Waiting.
                # TYPE wait_seconds histogram
                wait_seconds_bucket{vm="a",le="0.001"} 1
                wait_seconds_bucket{vm="a",le="0.02"} 3
                wait_seconds_bucket{vm="a",le="+Inf"} 4
                wait_seconds_sum{vm="a"} 0.036
                wait_seconds_count{vm="a"} 4

                """)
    }

    @Test(
        arguments: [
            (0, "0"), (-2, "-2"), (1.5, "1.5"), (.infinity, "+Inf"), (-.infinity, "-Inf"), (.nan, "NaN"),
            (1_753_000_000.25, "1753000000.25"),
        ] as [(Double, String)])
    func numbersAreWrittenAsPrometheusReadsThem(value: Double, text: String) {
        let registry = Registry()
        registry.gauge(Family("g", .gauge, "G.")).set(value)
        #expect(registry.text().hasSuffix("\ng \(text)\n"))
    }

    @Test func theSameLabelsGiveTheSameInstrument() {
        let registry = Registry()
        let family = Family("things_total", .counter, "Things.")
        registry.counter(family, [Label("vm", "a")]).add()
        registry.counter(family, [Label("vm", "a")]).add()
        #expect(registry.counter(family, [Label("vm", "a")]).value == 2)
        #expect(registry.counter(family, [Label("vm", "b")]).value == 0)
    }
}

@Suite struct VMMetricsTests {
    static func timings() -> EpochTimings {
        var timings = EpochTimings()
        timings.epoch = Epoch(7)
        timings.pause = 2_500_000
        timings.stop = 600_000
        timings.scan = 100_000
        timings.copy = 300_000
        timings.deviceState = 1_000_000
        timings.resume = 260_000
        timings.encode = 400_000
        timings.acknowledge = 900_000
        timings.dirtyPages = 300
        timings.memoryBytes = 40_000
        timings.diskBytes = 4096
        timings.deviceStateBytes = 61_000
        timings.deviceStateSentBytes = 250
        timings.linkBytes = 110_000
        timings.heldFrames = 3
        timings.heldBytes = 1500
        return timings
    }

    @Test func recordingAnEpochFeedsItsSeries() throws {
        let registry = Registry()
        let metrics = VMMetrics(
            vm: try #require(VMName("web")), peer: "beta", states: ["syncing", "protected"], registry: registry)
        metrics.record(Self.timings())
        metrics.recordAborted()
        metrics.recordHold(nanoseconds: 21_000_000)
        metrics.recordFailover(.qemuDied, nanoseconds: 34_000_000)
        metrics.recordError(.link)
        metrics.role.set("primary")
        metrics.state.set("protected")
        metrics.level.set(Level.system.rawValue)
        let lines = Set(registry.text().split(separator: "\n").map(String.init))
        for line in [
            #"romulus_epochs_total{vm="web",result="committed"} 1"#,
            #"romulus_epochs_total{vm="web",result="aborted"} 1"#,
            #"romulus_pause_seconds_bucket{vm="web",le="0.002"} 0"#,
            #"romulus_pause_seconds_bucket{vm="web",le="0.003"} 1"#,
            #"romulus_pause_seconds_sum{vm="web"} 0.0025"#,
            #"romulus_phase_seconds_sum{vm="web",phase="stop"} 0.0006"#,
            #"romulus_phase_seconds_sum{vm="web",phase="scan"} 0.0001"#,
            #"romulus_phase_seconds_sum{vm="web",phase="copy"} 0.0003"#,
            #"romulus_phase_seconds_sum{vm="web",phase="device_state"} 0.001"#,
            #"romulus_phase_seconds_sum{vm="web",phase="resume"} 0.00026"#,
            #"romulus_phase_seconds_sum{vm="web",phase="encode"} 0.0004"#,
            #"romulus_phase_seconds_sum{vm="web",phase="acknowledge"} 0.0009"#,
            #"romulus_dirty_pages_total{vm="web"} 300"#,
            #"romulus_checkpoint_bytes_total{vm="web",content="memory"} 40000"#,
            #"romulus_checkpoint_bytes_total{vm="web",content="disk"} 4096"#,
            #"romulus_checkpoint_bytes_total{vm="web",content="device_state"} 250"#,
            #"romulus_checkpoint_bytes_total{vm="web",content="output"} 1500"#,
            #"romulus_epoch{vm="web"} 7"#,
            #"romulus_device_state_bytes{vm="web"} 61000"#,
            #"romulus_output_hold_seconds_count{vm="web"} 1"#,
            #"romulus_failovers_total{vm="web",reason="qemu_died"} 1"#,
            #"romulus_failovers_total{vm="web",reason="operator"} 0"#,
            #"romulus_failover_seconds_bucket{vm="web",le="0.04"} 1"#,
            #"romulus_errors_total{vm="web",component="link"} 1"#,
            #"romulus_role{vm="web",role="primary"} 1"#,
            #"romulus_role{vm="web",role="standby"} 0"#,
            #"romulus_state{vm="web",state="syncing"} 0"#,
            #"romulus_state{vm="web",state="protected"} 1"#,
            #"romulus_level{vm="web",level="system"} 1"#,
            #"romulus_vm_info{vm="web",peer="beta"} 1"#,
        ] {
            #expect(lines.contains(line), "missing: \(line)")
        }
        #expect(abs(metrics.lastCommitTimestamp.value - Date().timeIntervalSince1970) < 60)
        #expect(metrics.recentPauses.quantiles([0.5]) == [2_500_000])
    }

    @Test func removingAVMRemovesItsSeriesAndNoOthers() throws {
        let registry = Registry()
        let web = VMMetrics(vm: try #require(VMName("web")), peer: "beta", states: ["x"], registry: registry)
        _ = VMMetrics(vm: try #require(VMName("db")), peer: "beta", states: ["x"], registry: registry)
        #expect(registry.text().contains(#"vm="web""#))
        web.remove()
        #expect(!registry.text().contains(#"vm="web""#))
        #expect(registry.text().contains(#"vm="db""#))
        web.record(Self.timings())
        #expect(!registry.text().contains(#"vm="web""#))
    }

    @Test func theProcessReportsItself() throws {
        let registry = Registry()
        _ = AgentMetrics(version: "1.2.3", registry: registry)
        let text = registry.text()
        #expect(text.contains("romulus_build_info{version=\"1.2.3\"} 1\n"))
        func value(_ name: String) throws -> Double {
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix(name + " ") })
            return try #require(Double(line.dropFirst(name.count + 1)))
        }
        #expect(try value("process_resident_memory_bytes") > 1_000_000)
        #expect(try value("process_open_fds") >= 3)
        let age = Date().timeIntervalSince1970 - (try value("process_start_time_seconds"))
        #expect(age > -2 && age < 3600)
        #expect(try value("process_cpu_seconds_total") >= 0)
    }
}
