import Agent
import Fencing
import Foundation
import Journal
import Model
import PKI
import Protocol
import Testing

@Suite struct ConfigurationTests {
    static let minimal = """
        node: alpha
        tls: {ca: /p/ca.crt, certificate: /p/a.crt, key: /p/a.key}

        """

    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    static func load(_ text: String) throws(ConfigurationError) -> Configuration {
        try Configuration.load(text, path: "r.yaml")
    }

    static func complaint(about text: String) -> String {
        do {
            _ = try load(text)
            return "accepted"
        } catch {
            return error.description
        }
    }

    @Test func whatIsNotSaidHasItsDefault() throws {
        let configuration = try Self.load(Self.minimal)
        #expect(configuration.node == "alpha")
        #expect(configuration.listen == HostPort(host: "0.0.0.0", port: 7310))
        #expect(configuration.tls == .init(ca: "/p/ca.crt", certificate: "/p/a.crt", key: "/p/a.key"))
        #expect(configuration.peers.isEmpty && configuration.vms.isEmpty)
        #expect(configuration.api == .init(socket: "/run/romulus/romulusd.sock", group: nil))
        #expect(configuration.metricsListen == nil)
        #expect(configuration.stateDirectory == "/var/lib/romulus")
        #expect(configuration.runtimeDirectory == "/run/romulus")
        #expect(configuration.memoryDirectory == "/dev/shm/romulus")
        #expect(
            configuration.defaults
                == .init(
                    epochMilliseconds: 20, level: .system,
                    degrade: .init(policy: .never, afterMilliseconds: 2000, targetSeconds: 0, retrySeconds: 30),
                    reprotection: .automatic, standbyLost: .runAlone,
                    coldBoot: true,
                    idleEpochMilliseconds: 1000, checkpointsOnOutput: true, pauseBudget: 25, isRealTime: true,
                    isAwake: true, keepMemoryMinutes: 60, linkCapMegabits: nil, referenceMebibytes: nil,
                    replaceAfter: 60, restarts: RestartBudget(limit: 3, minutes: 10), agentSilenceSeconds: 0,
                    diskFaults: .failover,
                    diskTimeoutMilliseconds: 5000, diskBoundMilliseconds: 1000, diskRejoinSeconds: 30))
        #expect(
            configuration.detection
                == .init(heartbeatMilliseconds: 50, silenceMilliseconds: 500, silenceFloorMilliseconds: 300))
        #expect(configuration.heartbeatListen == nil)
        #expect(configuration.journal == JournalLimits(days: 90, events: 100_000))
        #expect(configuration.qemu == .init(binary: nil, sandbox: true))
        #expect(configuration.logLevel == .info)
    }

    /// The floor that is not given keeps to what is.
    @Test(arguments: [
        ("{silence_ms: 150}", 150), ("{silence_ms: 3000}", 300), ("{heartbeat_ms: 150, silence_ms: 1000}", 450),
    ]) func theFloorFollows(detection: String, floor: Int) throws {
        let configuration = try Self.load(Self.minimal + "detection: " + detection)
        #expect(configuration.detection.silenceFloorMilliseconds == floor)
    }

    @Test func everyKeyIsRead() throws {
        let configuration = try Self.load(
            """
            node: alpha
            listen: "[fd00::1]:7311"
            heartbeat_listen: 192.168.0.1:7312
            tls:
              ca: /p/ca.crt
              certificate: /p/a.crt
              key: /p/a.key
            peers:
              beta: {address: "10.0.0.2:7310", heartbeat_address: "192.168.0.2:7312", connections: 4}
              gamma:
                address: gamma.example.org:1
            api: {socket: /tmp/r.sock, group: staff}
            metrics: {listen: 127.0.0.1:9731}
            state_directory: /s
            runtime_directory: /r
            memory_directory: /m
            log_level: debug
            defaults:
              epoch_ms: 30
              idle_epoch_ms: 500
              checkpoint_on_output: false
              pause_budget_percent: 10
              level: system
              reprotect: manual
              standby_lost: freeze
              keep_memory_minutes: 0
              realtime: false
              awake: false
              link_cap_mbit: 250
              reference_cache_mib: 64
              disk_fault: report
              disk_timeout_ms: 9000
            detection: {heartbeat_ms: 20, silence_ms: 200, silence_floor_ms: 100}
            journal: {days: 7, events: 5000}
            qemu: {binary: /opt/qemu, sandbox: off}
            vms:
              web:
                qmp: /run/web.qmp
                standby: beta
                level: system
                epoch_ms: 5
                target_latency_ms: 2.5
                start_order: 10
                start_delay_seconds: 30
                guest_agent_silence_seconds: 60
                disks:
                  d0: /img/a b.raw
                  d1: {path: /img/b.qcow2, format: qcow2}
                taps: {n0: tap0}
                files: {/boot/k: /boot/k2}
                display: ["-vnc :1"]
                accelerator: kvm
                add: ["-device virtio-rng-pci", "-name x"]
                remove: -device usb-tablet
                replace: {"-cpu host": "-cpu max", "-m": "-m 1G"}
              db: {target_overhead_percent: 5}
              log:
            """)
        #expect(configuration.listen.description == "[fd00::1]:7311")
        #expect(configuration.peers["beta"]?.address == HostPort(host: "10.0.0.2", port: 7310))
        #expect(configuration.heartbeatListen == HostPort(host: "192.168.0.1", port: 7312))
        #expect(configuration.peers["beta"]?.heartbeatAddress == HostPort(host: "192.168.0.2", port: 7312))
        #expect(configuration.peers["gamma"]?.heartbeatAddress == nil)
        #expect(configuration.peers["gamma"]?.address == HostPort(host: "gamma.example.org", port: 1))
        #expect(configuration.peers["beta"]?.connections == 4 && configuration.peers["gamma"]?.connections == 1)
        let defaults = configuration.defaults
        #expect(!defaults.isRealTime && !defaults.isAwake && !defaults.checkpointsOnOutput)
        #expect(defaults.diskFaults == .report && defaults.diskTimeoutMilliseconds == 9000)
        #expect(defaults.linkCapMegabits == 250 && defaults.referenceMebibytes == 64 && defaults.pauseBudget == 10)
        #expect(configuration.api == .init(socket: "/tmp/r.sock", group: "staff"))
        #expect(configuration.metricsListen == HostPort(host: "127.0.0.1", port: 9731))
        #expect(configuration.stateDirectory == "/s" && configuration.runtimeDirectory == "/r")
        #expect(configuration.memoryDirectory == "/m" && configuration.logLevel == .debug)
        #expect(
            configuration.detection
                == .init(heartbeatMilliseconds: 20, silenceMilliseconds: 200, silenceFloorMilliseconds: 100))
        #expect(configuration.journal == JournalLimits(days: 7, events: 5000))
        #expect(configuration.qemu == .init(binary: "/opt/qemu", sandbox: false))
        #expect(Set(configuration.vms.keys.map(\.description)) == ["web", "db", "log"])
        let web = try #require(VMName("web").flatMap { configuration.vms[$0] })
        #expect(web.qmp == "/run/web.qmp" && web.standby == "beta" && web.epochMilliseconds == 5)
        #expect(web.goal == .latency(milliseconds: 2.5))
        #expect(VMName("db").flatMap { configuration.vms[$0]?.goal } == .overhead(percent: 5))
        #expect(web.startOrder == StartOrder(place: 10, delaySeconds: 30))
        #expect(web.agentSilenceSeconds == 60 && configuration.defaults.agentSilenceSeconds == 0)
        let standby = web.whenStandby
        #expect(
            standby.disks == ["d0": .init(path: "/img/a b.raw"), "d1": .init(path: "/img/b.qcow2", format: .qcow2)])
        #expect(standby.taps == ["n0": "tap0"] && standby.files == ["/boot/k": "/boot/k2"])
        #expect(standby.display == ["-vnc :1"] && standby.accelerator == "kvm")
        #expect(standby.add == ["-device virtio-rng-pci", "-name x"] && standby.remove == ["-device usb-tablet"])
        #expect(
            standby.replace == [.init(match: "-cpu host", with: "-cpu max"), .init(match: "-m", with: "-m 1G")])
        let log = try #require(VMName("log").flatMap { configuration.vms[$0] })
        #expect(log.qmp == nil && log.epochMilliseconds == 30 && log.whenStandby == .init())
    }

    @Test(arguments: [
        ("lisen: 0.0.0.0:1", "r.yaml:3: unknown key “lisen”: did you mean “listen”?"),
        ("zebra: 1", "r.yaml:3: unknown key “zebra”: expected api, "),
        ("listen: 7310", "r.yaml:3: “listen” must be HOST:PORT, such as 10.0.0.1:7310 or [fd00::1]:7310, not “7310”"),
        ("listen: h:0", "r.yaml:3: “listen” must be"),
        ("listen: h:65536", "r.yaml:3: “listen” must be"),
        ("listen: fd00::1:7310", "r.yaml:3: “listen” must be"),
        ("listen:", "r.yaml:3: “listen” must be HOST:PORT"),
        ("listen: [a]", "r.yaml:3: “listen” must be HOST:PORT"),
        ("node: b", "“node” is given twice"),
        ("api:\n  socket: run.sock", "r.yaml:4: “api.socket” must be an absolute path of at most 107 bytes"),
        ("api: {group: {}}", "r.yaml:3: “api.group” must be the name of a group"),
        ("api: x", "r.yaml:3: “api” must hold keys with values"),
        ("peers:\n  beta: {adress: \"h:1\"}", "r.yaml:4: “peers.beta.address” is missing: it must be HOST:PORT"),
        ("peers:\n  beta: {adress: \"h:1\"}", "unknown key “adress” in “peers.beta”: did you mean “address”?"),
        ("peers:\n  alpha: {address: \"h:1\"}", "r.yaml:4: “peers.alpha” is this host itself"),
        ("peers:\n  -x: {address: \"h:1\"}", "r.yaml:4: “-x” in “peers” must be the name of a host"),
        ("journal: {days: 0}", "r.yaml:3: “journal.days” must be a whole number from 1 to 3650, not “0”"),
        ("journal: {events: 999}", "r.yaml:3: “journal.events” must be a whole number from 1000 to 1000000, not “999”"),
        ("defaults:\n  epoch_ms: 0", "r.yaml:4: “defaults.epoch_ms” must be a whole number from 1 to 10000, not “0”"),
        ("defaults:\n  epoch_ms: 1e3", "r.yaml:4: “defaults.epoch_ms” must be a whole number"),
        (
            "defaults:\n  keep_memory_minutes: 10081",
            "r.yaml:4: “defaults.keep_memory_minutes” must be a whole number from 0 to 10080, not “10081”"
        ),
        ("defaults:\n  degrade: system", "r.yaml:4: “defaults.degrade” must be never, restart or component"),
        ("defaults:\n  degrade: restart", "r.yaml:4: “defaults.degrade” is restart, which needs an “arbiter”"),
        ("defaults:\n  degrade: component", "r.yaml:4: “defaults.degrade” is component, which needs an “arbiter”"),
        ("defaults:\n  level: none", "r.yaml:4: “defaults.level” must be restart, component or system"),
        ("detection:\n  silence_ms: 100", "“detection.silence_ms” (100) must be at least three times"),
        (
            "detection: {silence_floor_ms: 100}",
            "r.yaml:3: “detection.silence_floor_ms” (100) must be at least three times"
        ),
        (
            "detection: {silence_floor_ms: 600}",
            "“detection.silence_floor_ms” (600) must not be more than “detection.silence"
        ),
        (
            "detection: {silence_floor_ms: 5}",
            "“detection.silence_floor_ms” must be a whole number from 30 to 600000, not"
        ),
        (
            "peers: {b: {address: \"h:1\", heartbeat_address: \"h:2\"}}",
            "r.yaml:3: “peers.b.heartbeat_address” must be in another network than “peers.b.address”"
        ),
        ("peers: {b: {address: \"h:1\", heartbeat_address: i}}", "“peers.b.heartbeat_address” must be HOST:PORT"),
        ("peers: {b: {address: \"h:1\", connections: 9}}", "“peers.b.connections” must be a whole number from 1 to 8"),
        ("log_level: inf", "“log_level” must be one of trace, debug, info, notice, warning, error or critical, not"),
        ("log_level: inf", "did you mean “info”?"),
        ("qemu: {sandbox: maybe}", "“qemu.sandbox” must be true or false, not “maybe”"),
        ("state_directory: var", "“state_directory” must be an absolute path, not “var”"),
        ("vms:\n  web:\n    standby: beta", "r.yaml:5: “vms.web.standby” must be one of the “peers”"),
        ("vms:\n  .x: {}", "r.yaml:4: “.x” in “vms” must be the name of a VM"),
        (
            "vms:\n  web:\n    taps: {n: a-name-that-is-too-long}",
            "r.yaml:5: “vms.web.taps.n” must be the name of a net"
        ),
        ("vms:\n  web:\n    disks:\n      d: img", "r.yaml:6: “vms.web.disks.d” must be the absolute path of an image"),
        (
            "vms:\n  web:\n    disks:\n      d: {path: /x, format: qcow}",
            "r.yaml:6: “vms.web.disks.d.format” must be one of"
        ),
        ("vms:\n  web:\n    add: [device x]", "r.yaml:5: “vms.web.add” must be a list of option lines"),
        ("vms:\n  web:\n    add: {a: b}", "r.yaml:5: “vms.web.add” must be a list of option lines"),
        ("vms:\n  web:\n    qpm: /x", "r.yaml:5: unknown key “qpm” in “vms.web”: did you mean “qmp”?"),
        ("vms:\n\tweb: {}", "r.yaml:4: not valid YAML"),
        (
            "peers: {beta: {address: \"h:1\"}}\nwitness:\n  vms: {web: [beta, gamma]}",
            "r.yaml:5: “witness.vms.web” must be a list of hosts from “peers”"
        ),
        ("arbiter:", "r.yaml:3: “arbiter” must hold either “witness” or “etcd”"),
        ("arbiter: {witnes: {}}", "unknown key “witnes” in “arbiter”: did you mean “witness”?"),
        (
            "arbiter:\n  witness: {address: \"h:1\", node: w}\n  etcd: {endpoints: [\"http://h:1\"], cluster: c}",
            "r.yaml:3: “arbiter” must hold either “witness” or “etcd”"
        ),
        ("arbiter:\n  witness: {node: w}", "r.yaml:4: “arbiter.witness.address” is missing: it must be HOST:PORT"),
        ("arbiter:\n  witness: {address: \"h:1\"}", "r.yaml:4: “arbiter.witness.node” is missing: it must be the name"),
        ("arbiter:\n  witness: {address: h, node: w}", "“arbiter.witness.address” must be HOST:PORT"),
        (
            "arbiter:\n  witness: {address: \"h:1\", node: alpha}",
            "r.yaml:4: “arbiter.witness.node” must be a machine of its own, not “alpha”"
        ),
        (
            "peers: {beta: {address: \"h:1\"}}\narbiter:\n  witness: {address: \"h:1\", node: beta}",
            "r.yaml:5: “arbiter.witness.node” must be a machine of its own, not “beta”"
        ),
        ("arbiter:\n  etcd: {cluster: c}", "r.yaml:4: “arbiter.etcd.endpoints” is missing: it must be a list of URLs"),
        ("arbiter:\n  etcd: {endpoints: [\"h:1\"], cluster: c}", "r.yaml:4: “arbiter.etcd.endpoints” must be a list"),
        ("arbiter:\n  etcd: {endpoints: [\"http://h:1/v3\"], cluster: c}", "“arbiter.etcd.endpoints” must be a list"),
        ("arbiter:\n  etcd: {endpoints: [\"http://h:1\"]}", "r.yaml:4: “arbiter.etcd.cluster” is missing"),
        ("arbiter:\n  etcd: {endpoints: [\"http://h:1\"], cluster: a/b}", "“arbiter.etcd.cluster” must be a name"),
        (
            "arbiter:\n  etcd: {endpoints: [\"http://h:1\", \"https://h:1\"], cluster: c, ca: /a, certificate: /b, key: /c}",
            "r.yaml:4: “arbiter.etcd.endpoints” must be all https or all http"
        ),
        (
            "arbiter:\n  etcd: {endpoints: [\"https://h:1\"], cluster: c, ca: /a, key: /c}",
            "r.yaml:4: “arbiter.etcd.certificate” is missing: it must be the absolute path of a PEM file"
        ),
        (
            "arbiter:\n  etcd: {endpoints: [\"http://h:1\"], cluster: c, ca: /a}",
            "r.yaml:4: “arbiter.etcd.ca” is of no use with http: give https URLs"
        ),
        ("witness:", "r.yaml:3: “peers” must name the hosts that may use this witness"),
        ("witness: {lisen: 1}", "unknown key “lisen” in “witness”: did you mean “listen”?"),
        (
            "peers: {beta: {address: \"h:1\"}}\nwitness:\nvms: {web: {}}",
            "r.yaml:4: “witness” makes this machine a witness, which runs no VMs: leave “vms” out"
        ),
        (
            "peers: {b: {address: \"h:1\"}}\nwitness:\narbiter: {witness: {address: \"h:1\", node: w}}",
            "r.yaml:4: “witness” makes this machine a witness, which runs no VMs: leave “arbiter” out"
        ),
        ("? [a]\n: b", "r.yaml:3: a plain key is expected"),
    ])
    func whatIsWrongIsSaidWithItsLine(text: String, complaint: String) {
        let said = Self.complaint(about: Self.minimal + text)
        #expect(said.contains(complaint), "said: \(said)")
    }

    @Test func theArbiterIsRead() throws {
        #expect(try Self.load(Self.minimal).arbiter == nil)
        let witness = try Self.load(Self.minimal + "arbiter: {witness: {address: \"[fd00::3]:7320\", node: gamma}}")
        #expect(witness.arbiter == .witness(address: HostPort(host: "fd00::3", port: 7320), node: "gamma"))
        let plain = try Self.load(Self.minimal + "arbiter: {etcd: {endpoints: \"http://h:2379\", cluster: c-1}}")
        #expect(plain.arbiter == .etcd(.init(endpoints: ["http://h:2379"], cluster: "c-1")))
        let secure = try Self.load(
            Self.minimal + """
                arbiter:
                  etcd:
                    endpoints: ["https://10.0.0.3:2379", "https://[fd00::4]:2379"]
                    cluster: c
                    ca: /e/ca.crt
                    certificate: /e/a.crt
                    key: /e/a.key
                """)
        #expect(
            secure.arbiter
                == .etcd(
                    .init(
                        endpoints: ["https://10.0.0.3:2379", "https://[fd00::4]:2379"], cluster: "c",
                        tls: .init(ca: "/e/ca.crt", certificate: "/e/a.crt", key: "/e/a.key"))))
    }

    @Test func aWitnessIsRead() throws {
        #expect(try Self.load(Self.minimal).witness == nil)
        let peers = Self.minimal + "peers: {beta: {address: \"h:1\"}}\n"
        #expect(try Self.load(peers + "witness:").witness?.listen == HostPort(host: "0.0.0.0", port: 7320))
        let other = try Self.load(peers + "witness: {listen: \"10.0.0.3:1\"}")
        #expect(other.witness?.listen == HostPort(host: "10.0.0.3", port: 1))
        let example = try Configuration.load(path: Self.root.appending(path: "deploy/romulusd-witness.yaml").path)
        #expect(example.witness != nil && example.peers.count == 2)
    }

    @Test func fenceCommandsAndTheWatchdogAreRead() throws {
        func fence(_ text: String) throws -> FenceCommand? {
            try Self.load(Self.minimal + "peers: {beta: {address: \"h:1\"\(text)}}").peers["beta"]?.fence
        }
        #expect(try fence("") == nil)
        #expect(
            try fence(", fence: {command: [/sbin/fence-beta, -o, \"power off\"]}")
                == FenceCommand(command: ["/sbin/fence-beta", "-o", "power off"]))
        #expect(
            try fence(", fence: {command: /sbin/fence-beta, timeout_ms: 100, delay_ms: 0}")
                == FenceCommand(command: ["/sbin/fence-beta"], timeoutMilliseconds: 100, delayMilliseconds: 0))
        #expect(try Self.load(Self.minimal).watchdog == nil)
        #expect(
            try Self.load(Self.minimal + "watchdog: {device: /dev/watchdog}").watchdog
                == .init(device: "/dev/watchdog", timeoutSeconds: 10))
    }

    @Test(arguments: [
        ("peers: {beta: {address: \"h:1\", fence: {}}}", "“peers.beta.fence.command” is missing: it must be a list"),
        ("peers: {beta: {address: \"h:1\", fence: {command: []}}}", "“peers.beta.fence.command” must be a list"),
        (
            "peers: {beta: {address: \"h:1\", fence: {command: [fence-beta]}}}",
            "must be a list: the absolute path of a program"
        ),
        (
            "peers: {beta: {address: \"h:1\", fence: {command: [/f], timeout_ms: 99}}}",
            "“peers.beta.fence.timeout_ms” must be a whole number from 100 to 600000"
        ),
        ("peers: {beta: {address: \"h:1\", fence: {command: [/f], delay: 1}}}", "unknown key “delay”"),
        ("watchdog: {timeout_s: 10}", "“watchdog.device” is missing"),
        (
            "watchdog: {device: /dev/watchdog, timeout_s: 3}",
            "“watchdog.timeout_s” must be a whole number from 4 to 300"
        ),
        (
            "peers: {beta: {address: \"h:1\"}}\nwitness:\nwatchdog: {device: /dev/watchdog}",
            "“watchdog” is for hosts that run VMs"
        ),
    ])
    func wrongFencingIsSaid(text: String, complaint: String) {
        let said = Self.complaint(about: Self.minimal + text)
        #expect(said.contains(complaint), "said: \(said)")
    }

    @Test func everythingThatIsWrongIsSaidAtOnceInOrder() {
        #expect(
            Self.complaint(about: "listen: x\ntls:\n  ca: ca.pem\nfoo: 1").split(separator: "\n").map { $0.prefix(30) }
                == [
                    "r.yaml:1: “node” is missing: i", "r.yaml:1: “listen” must be HOS",
                    "r.yaml:2: “tls.certificate” is", "r.yaml:2: “tls.key” is missing",
                    "r.yaml:3: “tls.ca” must be the", "r.yaml:4: unknown key “foo”: e",
                ])
    }

    @Test(arguments: ["", "# nothing\n", "null", "- a\n- b", "text", "{", "a: *b", "&a [*a]"])
    func whatIsNoMappingIsRefusedWithoutHarm(text: String) {
        let said = Self.complaint(about: text)
        #expect(said.hasPrefix("r.yaml"), "said: \(said)")
    }

    @Test func theExampleIsGoodAndShowsEveryKey() throws {
        let path = Self.root.appending(path: "deploy/romulusd.yaml").path
        let text = try String(contentsOfFile: path, encoding: .utf8)
        let configuration = try Configuration.load(path: path)
        #expect(configuration.node == "alpha" && configuration.peers.count == 1 && configuration.vms.count == 1)
        // With every comment that looks like a key taken away it is still good, and says the defaults it claims.
        let bare = text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            line.replacing(/^( *)# ((?: *)[a-z_\/"-][a-z_\/" -]*:(?: .*)?)$/) { "\($0.1)\($0.2)" }
        }.joined(separator: "\n")
        let full = try Configuration.load(bare, path: "romulusd.yaml")
        #expect(full.api.group == "romulus")
        #expect(full.qemu.binary != nil)
        #expect(full.heartbeatListen == HostPort(host: "192.168.0.1", port: 7310))
        #expect(full.peers["beta"]?.heartbeatAddress == HostPort(host: "192.168.0.2", port: 7310))
        let vm = try #require(full.vms.values.first)
        #expect(vm.whenStandby.replace.count == 1 && vm.whenStandby.add.count == 1 && vm.whenStandby.files.count == 1)
        var same = full
        same.api.group = configuration.api.group
        same.qemu.binary = configuration.qemu.binary
        same.vms = configuration.vms
        same.peers = configuration.peers
        same.heartbeatListen = configuration.heartbeatListen
        #expect(full.arbiter == .witness(address: HostPort(host: "10.0.0.3", port: 7320), node: "gamma"))
        same.arbiter = configuration.arbiter
        #expect(full.defaults.degrade.policy == .restart && full.vms.values.first?.degrade == .restart)
        same.defaults.degrade.policy = .never
        #expect(full.peers["beta"]?.fence?.command.first == "/usr/local/sbin/fence-beta")
        #expect(full.peers["beta"]?.fence?.timeoutMilliseconds == 20_000)
        same.peers = configuration.peers
        #expect(full.watchdog == .init(device: "/dev/watchdog", timeoutSeconds: 10))
        same.watchdog = configuration.watchdog
        #expect(same == configuration)
    }

    /// Both are printed from the table of settings, so that neither says something else than what is checked.
    @Test func theSampleFileAndThePageAreOfTheTable() throws {
        func text(_ path: String) throws -> String {
            try String(contentsOf: Self.root.appending(path: path), encoding: .utf8)
        }
        let isSample = try text("deploy/romulusd.yaml") == Configuration.sampleFile
        #expect(isSample, "write it anew: romulusd --print-sample > deploy/romulusd.yaml")
        let isInPage = try text("docs/CONFIGURATION.md").hasSuffix("\n\n" + Configuration.settingsTable)
        #expect(
            isInPage, "put what “romulusd --print-settings” prints in the place of the table of docs/CONFIGURATION.md")
    }

    @Test func aFileThatCannotBeReadSaysWhy() throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "romulus-config-\(UUID())")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let file = directory.appending(path: "r.yaml")
        #expect(Configuration.report(path: file.path).text.hasPrefix("\(file.path): it does not exist"))
        try Data([0xff, 0xfe, 0xff]).write(to: file)
        #expect(Configuration.report(path: file.path).text == "\(file.path): it is not UTF-8 text")
        try Data(repeating: 0x23, count: (1 << 20) + 1).write(to: file)
        #expect(Configuration.report(path: file.path).text.contains("larger than"))
        try Data(Self.minimal.utf8).write(to: file)
        let report = Configuration.report(path: file.path)
        #expect(!report.isGood && report.text.contains("“tls.ca”: /p/ca.crt cannot be read"))
    }

    /// What would keep the agent from starting, or let it start wrongly, is said by the check: all of it at once.
    @Test func theCheckLooksAtTheHostAsTheStartDoes() throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "romulus-config-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let authority = try CertificateAuthority.create(directory: directory)
        for name in ["alpha", "beta"] { _ = try authority.issue(node: NodeName(checking: name)) }
        func report(node: String = "alpha", certificate: String = "alpha", _ more: String = "") throws -> String {
            let text = """
                node: \(node)
                tls: {ca: \(directory)/ca.crt, certificate: \(directory)/\(certificate).crt, key: \(directory)/alpha.key}
                \(more)
                """
            try Data(text.utf8).write(to: URL(fileURLWithPath: "\(directory)/r.yaml"))
            return Configuration.report(path: "\(directory)/r.yaml").text
        }
        #expect(try report() == "\(directory)/r.yaml: good: node alpha, 0 peers, 0 VMs")
        #expect(
            try report(node: "beta").contains("“node” is beta, and \(directory)/alpha.crt is the certificate of alpha"))
        #expect(try report(certificate: "beta").contains("“tls”: "))
        let group = try report("api: {group: no-such-group}\nmemory_directory: /proc/romulus")
        #expect(group.contains("“api.group”: there is no group “no-such-group”"), "\(group)")
        #expect(group.contains("“memory_directory”: /proc/romulus would lie on a disk (/proc, proc)"), "\(group)")
        let fence = try report("peers: {beta: {address: \"h:1\", fence: {command: [/no/such/program]}}}")
        #expect(fence.contains("“peers.beta.fence.command”: /no/such/program cannot be executed"))
        #expect(chmod("\(directory)/alpha.key", 0o644) == 0)
        #expect(try report().contains("“tls”: "), "a key that others may read")
    }
}
