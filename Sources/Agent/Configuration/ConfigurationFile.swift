import Foundation
import Journal
import Logging
import Model
import RomulusAPI
import Yams

/// The file while it is read: from its text to a `Configuration`, by the table of settings, with everything that is wrong.
struct ConfigurationFile {
    /// A configuration file larger than this is something else.
    static let fileBytesMax = 1 << 20

    var top: ConfigurationReader
    let problems: ConfigurationReader.Problems

    /// Reads and checks the file at `path`.
    static func load(path: String) throws(ConfigurationError) -> Configuration {
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
    static func load(_ text: String, path: String) throws(ConfigurationError) -> Configuration {
        let problems = ConfigurationReader.Problems()
        var file = ConfigurationFile(
            top: ConfigurationReader(try root(text, path), place: "", line: 1, problems: problems), problems: problems)
        let configuration = file.read()
        file.top.finish()
        guard let configuration, problems.list.isEmpty else {
            throw ConfigurationError(
                path: path,
                problems.list.enumerated().sorted {
                    ($0.element.line ?? 0, $0.offset) < ($1.element.line ?? 0, $1.offset)
                }.map(\.element))
        }
        return configuration
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
    private mutating func read() -> Configuration? {
        let node = top.required(Settings.node)
        let listen = top.read(Settings.listen)
        let heartbeatListen = top.value(Settings.heartbeatListen)
        let tls = readTLS()
        let peerSection = top.section(Settings.Peer.entry.key)
        let peers = readPeers(peerSection, node: node)
        let arbiter = readArbiter(node: node, peers: Array(peers.keys))
        let witness = readWitness(peers: Array(peers.keys))
        let watchdog = readWatchdog()
        let stateDirectory = top.read(Settings.stateDirectory)
        let runtimeDirectory = top.read(Settings.runtimeDirectory)
        let memoryDirectory = top.read(Settings.memoryDirectory)
        let logLevel = top.read(Settings.logLevel)
        let api = readAPI(runtimeDirectory)
        var metrics = top.section(Settings.Metrics.entry.key)
        let metricsListen = metrics.value(Settings.Metrics.listen)
        metrics.finish()
        let defaults = readDefaults(hasArbiter: arbiter != nil)
        let detection = readDetection()
        let journal = readJournal()
        let qemu = readQEMU()
        let libvirt = readLibvirt()
        let vms = readVMs(peers: peerSection.names.map(\.name), defaults: defaults, hasArbiter: arbiter != nil)
        guard let node, let tls else { return nil }
        return Configuration(
            node: node, listen: listen, heartbeatListen: heartbeatListen, tls: tls, peers: peers, arbiter: arbiter,
            witness: witness, watchdog: watchdog, api: api, metricsListen: metricsListen,
            stateDirectory: stateDirectory, runtimeDirectory: runtimeDirectory, memoryDirectory: memoryDirectory,
            defaults: defaults, detection: detection, journal: journal, qemu: qemu, libvirt: libvirt, vms: vms,
            logLevel: logLevel)
    }

    private mutating func readTLS() -> Configuration.TLS? {
        var section = top.section(Settings.TLS.entry.key)
        defer { section.finish() }
        let ca = section.required(Settings.TLS.ca)
        let certificate = section.required(Settings.TLS.certificate)
        let key = section.required(Settings.TLS.key)
        guard let ca, let certificate, let key else { return nil }
        return Configuration.TLS(ca: ca, certificate: certificate, key: key)
    }

    private mutating func readAPI(_ runtimeDirectory: String) -> Configuration.API {
        var section = top.section(Settings.API.entry.key)
        defer { section.finish() }
        return Configuration.API(
            socket: section.value(Settings.API.socket) ?? runtimeDirectory + "/romulusd.sock",
            group: section.value(Settings.API.group))
    }

    private mutating func readDetection() -> Configuration.Detection {
        var section = top.section(Settings.Detection.entry.key)
        defer { section.finish() }
        let heartbeat = section.read(Settings.Detection.heartbeat)
        let silence = section.read(Settings.Detection.silence)
        let floor =
            section.value(Settings.Detection.silenceFloor)
            ?? min(silence, max(Configuration.Detection.floorMilliseconds, 3 * heartbeat))
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
        return Configuration.Detection(
            heartbeatMilliseconds: heartbeat, silenceMilliseconds: silence, silenceFloorMilliseconds: floor,
            probesNetworks: section.read(Settings.Detection.networkProbes))
    }

    private mutating func readJournal() -> JournalLimits {
        var section = top.section(Settings.Journal.entry.key)
        defer { section.finish() }
        return JournalLimits(
            days: section.read(Settings.Journal.days), events: section.read(Settings.Journal.events))
    }

    private mutating func readLibvirt() -> Configuration.LibvirtPlace {
        var section = top.section(Settings.Libvirt.entry.key)
        defer { section.finish() }
        return Configuration.LibvirtPlace(
            uri: section.read(Settings.Libvirt.uri), monitorDirectory: section.read(Settings.Libvirt.monitors))
    }

    private mutating func readQEMU() -> Configuration.QEMU {
        var section = top.section(Settings.QEMU.entry.key)
        defer { section.finish() }
        return Configuration.QEMU(
            binary: section.value(Settings.QEMU.binary), sandbox: section.read(Settings.QEMU.sandbox))
    }
}
