import Foundation
import Journal
import Logging
import Model
import RomulusAPI
import Transport
import Yams

extension Configuration {
    /// A configuration file larger than this is something else.
    static let fileBytesMax = 1 << 20

    /// Reads and checks the file at `path`.
    public static func load(path: String) throws(ConfigurationError) -> Configuration {
        let data: Data
        do {
            let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
            defer { try? handle.close() }
            data = try handle.read(upToCount: fileBytesMax + 1) ?? Data()
        } catch {
            let reason = FileManager.default.fileExists(atPath: path) ? "it cannot be read" : "it does not exist"
            throw whole(path, "\(reason); write one after the example romulusd.yaml or name another with --config")
        }
        guard data.count <= fileBytesMax else {
            throw whole(path, "it is larger than \(fileBytesMax) bytes and no configuration")
        }
        guard let text = String(validating: data, as: UTF8.self) else {
            throw whole(path, "it is not UTF-8 text")
        }
        return try load(text, path: path)
    }

    /// Checks `text`; `path` is for the messages only. Touches nothing outside.
    public static func load(_ text: String, path: String) throws(ConfigurationError) -> Configuration {
        let problems = ConfigurationReader.Problems()
        var top = ConfigurationReader(
            try root(text, path), place: "", line: 1, problems: problems)
        let configuration = read(&top, problems)
        top.finish()
        guard let configuration, problems.list.isEmpty else {
            throw ConfigurationError(
                path: path,
                problems.list.enumerated().sorted {
                    ($0.element.line ?? 0, $0.offset) < ($1.element.line ?? 0, $1.offset)
                }.map(\.element))
        }
        return configuration
    }

    /// What `romulusd --check-config` prints, and whether all is well. Looks at the files that are named, too.
    public static func report(path: String) -> (text: String, isGood: Bool) {
        do {
            let configuration = try load(path: path)
            try configuration.checkHost(path: path)
            func counted(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
            let peers = counted(configuration.peers.count, "peer")
            let contents =
                configuration.witness == nil
                ? "\(peers), \(counted(configuration.vms.count, "VM"))" : "witness for \(peers)"
            return ("\(path): good: node \(configuration.node), \(contents)", true)
        } catch {
            return (error.description, false)
        }
    }

    private static func whole(_ path: String, _ message: String) -> ConfigurationError {
        ConfigurationError(path: path, [.init(line: nil, message: message)])
    }

    private static func root(_ text: String, _ path: String) throws(ConfigurationError) -> Node? {
        do {
            return try Yams.compose(yaml: text)
        } catch let error as YamlError {
            switch error {
            case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
                .composer(_, let problem, let mark, _):
                throw ConfigurationError(path: path, [.init(line: mark.line, message: "not valid YAML: \(problem)")])
            case .duplicatedKeysInMapping(let keys, let context):
                let names = keys.map { "“\($0)”" }.joined(separator: ", ")
                throw ConfigurationError(
                    path: path, [.init(line: context.mark.line, message: "\(names) is given twice in the same place")])
            default:
                throw whole(path, "not valid YAML: \(error)")
            }
        } catch {
            throw whole(path, "not valid YAML: \(error)")
        }
    }

    /// Nil only when a problem was noted.
    private static func read(
        _ top: inout ConfigurationReader, _ problems: ConfigurationReader.Problems
    ) -> Configuration? {
        let hostName = "the name of a host: 1-63 letters, digits, dots, dashes or underscores"
        let address = "HOST:PORT, such as 10.0.0.1:7310 or [fd00::1]:7310"
        let node = top.required("node", hostName, self.hostName)
        let listen = top.value("listen", address, HostPort.init) ?? HostPort(host: "0.0.0.0", port: 7310)
        let heartbeatListen = top.value("heartbeat_listen", address, HostPort.init)
        let tls = readTLS(&top)

        var peers: [String: Peer] = [:]
        var peerSection = top.section("peers")
        for (name, line) in peerSection.names {
            if self.hostName(name) == nil { problems.add(line, "“\(name)” in “peers” must be \(hostName)") }
            if name == node { problems.add(line, "“peers.\(name)” is this host itself: list the other hosts only") }
            var peer = peerSection.section(name)
            if let found = readPeer(&peer, address) { peers[name] = found }
            peer.finish()
        }

        let arbiter = readArbiter(&top, node: node, peers: Array(peers.keys))
        let witness = readWitness(&top, peers: Array(peers.keys))
        let watchdog = readWatchdog(&top)

        let stateDirectory = top.path("state_directory", default: "/var/lib/romulus")
        let runtimeDirectory = top.path("runtime_directory", default: "/run/romulus")
        let memoryDirectory = top.path("memory_directory", default: "/dev/shm/romulus")
        let logLevel = top.choice("log_level", Logger.Level.allCases.map { ($0.rawValue, $0) }, default: .info)

        var apiSection = top.section("api")
        let api = API(
            socket: apiSection.value("socket", "an absolute path of at most 107 bytes", socketPath)
                ?? runtimeDirectory + "/romulusd.sock",
            group: apiSection.text("group", "the name of a group")?.text)
        apiSection.finish()

        var metrics = top.section("metrics")
        let metricsListen = metrics.value("listen", address, HostPort.init)
        metrics.finish()

        var defaultSection = top.section("defaults")
        let defaults = Defaults(
            epochMilliseconds: defaultSection.integer("epoch_ms", TuningRange.epochMilliseconds, default: 20),
            level: level(&defaultSection, default: .system),
            reprotection: defaultSection.choice(
                "reprotect", [("automatic", .automatic), ("manual", .manual)], default: .automatic),
            standbyLost: defaultSection.choice(
                "standby_lost", [("run-alone", .runAlone), ("freeze", .freeze)], default: .runAlone),
            idleEpochMilliseconds: defaultSection.integer(
                "idle_epoch_ms", TuningRange.epochMilliseconds, default: 1000),
            checkpointsOnOutput: defaultSection.flag("checkpoint_on_output", default: true),
            pauseBudget: defaultSection.integer("pause_budget_percent", TuningRange.pauseBudget, default: 25),
            isRealTime: defaultSection.flag("realtime", default: true),
            isAwake: defaultSection.flag("awake", default: true),
            keepMemoryMinutes: defaultSection.integer("keep_memory_minutes", 0...10_080, default: 60),
            linkCapMegabits: readLinkCap(&defaultSection, default: nil),
            referenceMebibytes: readReferenceCache(&defaultSection),
            replaceAfter: readReplaceAfter(&defaultSection, default: 60))
        defaultSection.finish()

        let detection = readDetection(&top)
        var journalSection = top.section("journal")
        let standard = JournalLimits()
        let journal = JournalLimits(
            days: journalSection.integer("days", JournalLimits.daysRange, default: standard.days),
            events: journalSection.integer("events", JournalLimits.eventsRange, default: standard.events))
        journalSection.finish()

        var qemuSection = top.section("qemu")
        let qemu = QEMU(
            binary: qemuSection.value("binary", "an absolute path", ConfigurationReader.absolutePath),
            sandbox: qemuSection.flag("sandbox", default: true))
        qemuSection.finish()

        let vms = readVMs(&top, peers: peerSection.names.map(\.name), defaults: defaults)
        guard let node, let tls else { return nil }
        return Configuration(
            node: node, listen: listen, heartbeatListen: heartbeatListen, tls: tls, peers: peers, arbiter: arbiter,
            witness: witness, watchdog: watchdog, api: api, metricsListen: metricsListen,
            stateDirectory: stateDirectory, runtimeDirectory: runtimeDirectory, memoryDirectory: memoryDirectory,
            defaults: defaults, detection: detection, journal: journal, qemu: qemu, vms: vms, logLevel: logLevel)
    }

    private static func readTLS(_ top: inout ConfigurationReader) -> TLS? {
        var section = top.section("tls")
        defer { section.finish() }
        let path = ConfigurationReader.absolutePath
        let expected = "the absolute path of a PEM file"
        let ca = section.required("ca", expected, path)
        let certificate = section.required("certificate", expected, path)
        let key = section.required("key", expected, path)
        guard let ca, let certificate, let key else { return nil }
        return TLS(ca: ca, certificate: certificate, key: key)
    }

    private static func readArbiter(
        _ top: inout ConfigurationReader, node: String?, peers: [String]
    ) -> ArbiterKind? {
        let isPresent = top.isPresent("arbiter")
        var section = top.section("arbiter")
        let given = ["witness", "etcd"].filter { section.isPresent($0) }
        var witness = section.section("witness")
        var etcd = section.section("etcd")
        section.finish()
        guard isPresent else { return nil }
        guard given.count == 1 else {
            section.problems.add(
                section.line, "“arbiter” must hold either “witness” or “etcd”; without an arbiter leave “arbiter” out")
            return nil
        }
        return given == ["witness"] ? readWitnessPlace(&witness, node: node, peers: peers) : readEtcd(&etcd)
    }

    private static func readWitnessPlace(
        _ section: inout ConfigurationReader, node: String?, peers: [String]
    ) -> ArbiterKind? {
        defer { section.finish() }
        let address = section.required("address", "HOST:PORT, such as 10.0.0.3:7320 or [fd00::3]:7320", HostPort.init)
        let name = section.required("node", "the name in the witness's certificate", hostName)
        guard let address, let name else { return nil }
        if name == node || peers.contains(name) {
            section.problems.add(
                section.line,
                "“arbiter.witness.node” must be a machine of its own, not “\(name)”: a witness that dies with a host cannot "
                    + "say who goes on")
        }
        return .witness(address: address, node: name)
    }

    private static func readEtcd(_ section: inout ConfigurationReader) -> ArbiterKind? {
        defer { section.finish() }
        let expected = "a list of URLs such as https://10.0.0.3:2379"
        if !section.isPresent("endpoints") {
            section.problems.add(section.line, "“\(section.path("endpoints"))” is missing: it must be \(expected)")
        }
        let endpoints = section.list("endpoints", expected) { text in
            let place = ["https://", "http://"].first { text.hasPrefix($0) }.map { text.dropFirst($0.count) }
            return place.flatMap { HostPort(String($0)) } == nil ? nil : text
        }
        let cluster = section.required(
            "cluster", "a name for this group of hosts: 1-63 letters, digits, dots, dashes or underscores", hostName)
        let paths = ["ca", "certificate", "key"].map { key in
            (key, section.value(key, "the absolute path of a PEM file", ConfigurationReader.absolutePath))
        }
        let secure = endpoints.filter { $0.hasPrefix("https:") }.count
        if secure > 0 && secure < endpoints.count {
            section.problems.add(section.line, "“\(section.path("endpoints"))” must be all https or all http")
        }
        for (key, path) in paths where (path == nil) == (secure > 0) && section.isPresent(key) != (secure > 0) {
            section.problems.add(
                section.line,
                secure > 0
                    ? "“\(section.path(key))” is missing: it must be the absolute path of a PEM file"
                    : "“\(section.path(key))” is of no use with http: give https URLs")
        }
        guard !endpoints.isEmpty, let cluster else { return nil }
        guard let ca = paths[0].1, let certificate = paths[1].1, let key = paths[2].1 else {
            return .etcd(Etcd(endpoints: endpoints, cluster: cluster))
        }
        return .etcd(
            Etcd(endpoints: endpoints, cluster: cluster, tls: TLS(ca: ca, certificate: certificate, key: key)))
    }

    private static func readWitness(_ top: inout ConfigurationReader, peers: [String]) -> Witness? {
        let isPresent = top.isPresent("witness")
        var section = top.section("witness")
        let listen = section.value("listen", "HOST:PORT, such as 0.0.0.0:7320", HostPort.init)
        let rights = readRights(&section, peers: peers)
        section.finish()
        guard isPresent else { return nil }
        for key in ["vms", "arbiter"] where top.isPresent(key) {
            section.problems.add(
                section.line, "“witness” makes this machine a witness, which runs no VMs: leave “\(key)” out")
        }
        if top.isPresent("watchdog") {
            section.problems.add(section.line, "“watchdog” is for hosts that run VMs: leave it out at a witness")
        }
        if peers.isEmpty {
            section.problems.add(section.line, "“peers” must name the hosts that may use this witness")
        }
        return Witness(listen: listen ?? HostPort(host: "0.0.0.0", port: 7320), rights: rights)
    }

    private static func readRights(
        _ witness: inout ConfigurationReader, peers: [String]
    ) -> [VMName: Set<String>] {
        var section = witness.section("vms")
        var rights: [VMName: Set<String>] = [:]
        for (name, line) in section.names {
            let hosts = section.list(name, "a list of hosts from “peers”") { peers.contains($0) ? $0 : nil }
            if let vm = VMName(name) {
                rights[vm] = Set(hosts)
            } else {
                section.problems.add(line, "“\(name)” in “witness.vms” is not a VM name")
            }
        }
        section.finish()
        return rights
    }

    private static func readPeer(_ section: inout ConfigurationReader, _ expected: String) -> Peer? {
        let address = section.required("address", expected, HostPort.init)
        let second = section.value("heartbeat_address", expected, HostPort.init)
        let connections = section.integer("connections", 1...LinkDialer.connectionsMax, default: 1)
        let fence = readFence(&section)
        guard let address else { return nil }
        if second?.host == address.host {
            section.problems.add(
                section.line,
                "“\(section.path("heartbeat_address"))” must be in another network than “\(section.path("address"))”: two ways"
                    + " over one link fail together")
        }
        return Peer(address: address, heartbeatAddress: second, connections: connections, fence: fence)
    }

    private static func readDetection(_ top: inout ConfigurationReader) -> Detection {
        var section = top.section("detection")
        defer { section.finish() }
        let heartbeat = section.integer("heartbeat_ms", 10...10_000, default: 50)
        let silence = section.integer("silence_ms", 50...600_000, default: 500)
        let floor = section.integer(
            "silence_floor_ms", 30...600_000, default: min(silence, max(Detection.floorMilliseconds, 3 * heartbeat)))
        func complain(_ text: String) { section.problems.add(section.line, text) }
        if silence < 3 * heartbeat {
            complain(
                "“detection.silence_ms” (\(silence)) must be at least three times “detection.heartbeat_ms” (\(heartbeat)), "
                    + "else one late heartbeat loses the peer")
        } else if floor < 3 * heartbeat {
            complain(
                "“detection.silence_floor_ms” (\(floor)) must be at least three times “detection.heartbeat_ms” "
                    + "(\(heartbeat)), else one late heartbeat loses the peer")
        }
        if floor > silence {
            complain(
                "“detection.silence_floor_ms” (\(floor)) must not be more than “detection.silence_ms” (\(silence)), which is the "
                    + "most that is borne")
        }
        return Detection(
            heartbeatMilliseconds: heartbeat, silenceMilliseconds: silence, silenceFloorMilliseconds: floor)
    }

    private static func readVMs(
        _ top: inout ConfigurationReader, peers: [String], defaults: Defaults
    ) -> [VMName: VM] {
        var section = top.section("vms")
        var vms: [VMName: VM] = [:]
        for (name, line) in section.names {
            var reader = section.section(name)
            let qmp = reader.value("qmp", "the absolute path of a QMP socket", socketPath)
            let standbys = readStandbys(&reader, peers: peers)
            let replaceAfter = readReplaceAfter(&reader, default: defaults.replaceAfter)
            let protect = readProtect(&reader, isComplete: qmp != nil && !standbys.isEmpty)
            let level = level(&reader, default: defaults.level)
            let epoch = reader.integer(
                "epoch_ms", TuningRange.epochMilliseconds, default: defaults.epochMilliseconds)
            let goal = readGoal(&reader)
            let linkCap = readLinkCap(&reader, default: defaults.linkCapMegabits)
            let whenStandby = readStandby(&reader)
            reader.finish()
            guard let vm = VMName(name) else {
                section.problems.add(
                    line,
                    "“\(name)” in “vms” must be the name of a VM: 1-64 letters, digits, dots, dashes or underscores")
                continue
            }
            vms[vm] = VM(
                qmp: qmp, standbys: standbys, replaceAfter: replaceAfter, protect: protect, level: level,
                epochMilliseconds: epoch, goal: goal, linkCapMegabits: linkCap, whenStandby: whenStandby)
        }
        return vms
    }

    /// In the file 0 says that there is none.
    private static func readLinkCap(_ reader: inout ConfigurationReader, default standard: Int?) -> Int? {
        let cap = reader.integer("link_cap_mbit", TuningRange.linkCapMegabits, default: standard ?? 0)
        return cap == 0 ? nil : cap
    }

    private static func readReferenceCache(_ reader: inout ConfigurationReader) -> Int? {
        let bound = reader.integer("reference_cache_mib", 0...1_048_576, default: 0)
        return bound == 0 ? nil : bound
    }

    private static func readGoal(_ reader: inout ConfigurationReader) -> EpochGoal? {
        func number(_ key: String, _ range: ClosedRange<Double>) -> Double? {
            reader.value(key, "a number from \(range.lowerBound) to \(range.upperBound)") { text in
                Double(text).flatMap { range.contains($0) ? $0 : nil }
            }
        }
        let latency = number("target_latency_ms", TuningRange.targetLatency)
        let overhead = number("target_overhead_percent", TuningRange.targetOverhead)
        if latency != nil, overhead != nil {
            reader.problems.add(
                nil,
                "“\(reader.path("target_latency_ms"))” and “\(reader.path("target_overhead_percent"))” exclude each other"
            )
        }
        return latency.map { .latency(milliseconds: $0) } ?? overhead.map { .overhead(percent: $0) }
    }

    private static func readStandby(_ reader: inout ConfigurationReader) -> Standby {
        let absolutePath = ConfigurationReader.absolutePath
        var standby = Standby()
        var disks = reader.section("disks")
        for (name, _) in disks.names {
            if disks.isMapping(name) {
                var disk = disks.section(name)
                let path = disk.required("path", "the absolute path of an image", absolutePath)
                let formats: [(String, Disk.Format?)] = Disk.Format.allCases.map { ($0.rawValue, $0) }
                let format = disk.choice("format", formats, default: nil)
                disk.finish()
                if let path { standby.disks[name] = Disk(path: path, format: format) }
            } else if let path = disks.value(name, "the absolute path of an image", absolutePath) {
                standby.disks[name] = Disk(path: path, format: nil)
            }
        }
        let interface = "the name of a network interface (1-15 characters)"
        standby.taps = Dictionary(reader.texts("taps", interface, interfaceName)) { $1 }
        var files = reader.section("files")
        for (name, line) in files.names {
            if absolutePath(name) == nil {
                files.problems.add(line, "“\(name)” in “\(files.place)” must be an absolute path at the primary")
            }
            standby.files[name] = files.value(name, "the absolute path of the file here", absolutePath)
        }
        if reader.isPresent("display") { standby.display = optionLines(&reader, "display") }
        standby.accelerator = reader.text("accelerator", "the name of an accelerator, such as kvm or tcg")?.text
        standby.add = optionLines(&reader, "add")
        standby.remove = optionLines(&reader, "remove")
        standby.replace = reader.texts("replace", "an option line, such as -device virtio-rng-pci", optionLine).map {
            Replacement(match: $0.0, with: $0.1)
        }
        return standby
    }

    private static func optionLines(_ reader: inout ConfigurationReader, _ key: String) -> [String] {
        reader.list(key, "a list of option lines, such as -device virtio-rng-pci", optionLine)
    }

    private static func optionLine(_ text: String) -> String? {
        text.hasPrefix("-") && text.count > 1 ? text : nil
    }

    private static func level(_ reader: inout ConfigurationReader, default standard: Level) -> Level {
        reader.value("level", "system (the levels restart and component are not available in this version)") { text in
            Level(rawValue: text).flatMap { $0 == .system ? $0 : nil }
        } ?? standard
    }

    private static func hostName(_ text: String) -> String? {
        // The alphabet of VM names fits hosts too; a label of a certificate's name ends at 63.
        VMName(text) != nil && text.utf8.count <= 63 ? text : nil
    }

    private static func socketPath(_ text: String) -> String? {
        // sun_path holds 108 bytes with the closing zero, unix(7).
        text.utf8.count <= 107 ? ConfigurationReader.absolutePath(text) : nil
    }

    private static func interfaceName(_ text: String) -> String? {
        (1...15).contains(text.utf8.count) && !text.contains(where: { $0.isWhitespace || $0 == "/" || $0 == ":" })
            ? text : nil
    }
}
