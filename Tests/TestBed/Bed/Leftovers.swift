import Foundation

/// Finds and removes what runs of the bed leave in the system. Everything of a run carries the run's name:
/// namespaces in `/run/netns`, directories in `/tmp` and `/dev/shm`; processes are found by their namespace.
/// The name holds the id and the start time of the process that made it, so that a reused id is not mistaken for it.
public enum Leftovers {
    static let word = "rmls"
    static let namespaces = "/run/netns"
    static let directories = ["/tmp", "/dev/shm"]

    /// A name for a run of this process; `number` tells the beds of one process apart.
    static func runName(_ number: Int) -> String {
        let pid = getpid()
        return "\(word)-\(pid)-\(startTime(of: pid) ?? 0)-\(number)"
    }

    /// Removes what belongs to the run of that name.
    public static func remove(run: String) {
        let names = entries(of: namespaces).filter { $0 == run || $0.hasPrefix(run + "-") }
        let identities = names.compactMap { identity(ofNamespace: $0) }
        killProcesses(inNamespaces: identities)
        for name in names {
            // A namespace that is still named in a mount elsewhere stays busy; the name goes in any case.
            umount2("\(namespaces)/\(name)", Int32(MNT_DETACH))
            unlink("\(namespaces)/\(name)")
        }
        // One that was on its way into a namespace has arrived by now.
        killProcesses(inNamespaces: identities)
        for directory in directories where !run.isEmpty {
            for name in entries(of: directory) where name == run || name.hasPrefix(run + "-") {
                unmountAll(below: "\(directory)/\(name)/")
                try? FileManager.default.removeItem(atPath: "\(directory)/\(name)")
            }
        }
    }

    private static func unmountAll(below directory: String) {
        let mounts = FileManager.default.contents(atPath: "/proc/self/mounts") ?? Data()
        for line in String(decoding: mounts, as: UTF8.self).split(separator: "\n").reversed() {
            let words = line.split(separator: " ")
            if words.count > 1, words[1].hasPrefix(directory) { umount2(String(words[1]), Int32(MNT_DETACH)) }
        }
    }

    /// Removes what runs left whose process is gone.
    public static func sweep() {
        var runs = Set<String>()
        for directory in [namespaces] + directories {
            for name in entries(of: directory) {
                let parts = name.split(separator: "-")
                guard parts.count >= 4, parts[0] == word, let pid = pid_t(parts[1]), let start = UInt64(parts[2]) else {
                    continue
                }
                if startTime(of: pid) != start { runs.insert(parts[0..<4].joined(separator: "-")) }
            }
        }
        for run in runs { remove(run: run) }
    }

    /// The ids of the processes whose network namespace is one of these.
    static func processes(inNamespaces identities: [UInt64]) -> [pid_t] {
        entries(of: "/proc").compactMap { pid_t($0) }.filter { pid in
            identity(ofPath: "/proc/\(pid)/ns/net").map { identities.contains($0) } ?? false
        }
    }

    /// Kills until none is left: a process may have started another between the look and the signal.
    static func killProcesses(inNamespaces identities: [UInt64]) {
        guard !identities.isEmpty else { return }
        for _ in 0..<2000 {
            let found = processes(inNamespaces: identities).filter { $0 != getpid() }
            if found.isEmpty { return }
            for pid in found { kill(pid, SIGKILL) }
            usleep(1000)
        }
    }

    static func identity(ofNamespace name: String) -> UInt64? { identity(ofPath: "\(namespaces)/\(name)") }

    private static func identity(ofPath path: String) -> UInt64? {
        var status = stat()
        return stat(path, &status) == 0 ? UInt64(status.st_ino) : nil
    }

    /// Clock ticks from boot to the start of a process, field 22 of `/proc/PID/stat`; nil when there is none.
    private static func startTime(of pid: pid_t) -> UInt64? {
        guard let data = FileManager.default.contents(atPath: "/proc/\(pid)/stat") else { return nil }
        let text = String(decoding: data, as: UTF8.self)
        guard let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return fields.count > 19 ? UInt64(fields[19]) : nil
    }

    private static func entries(of directory: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    }
}
