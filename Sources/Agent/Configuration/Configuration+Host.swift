import Foundation
import LinuxSystem
import PKI

/// Whether this host is as the configuration says: what `--check-config` and the start look at alike.
extension Configuration {
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

    /// Throws everything that is wrong; `path` is for the messages.
    public func checkHost(path: String) throws(ConfigurationError) {
        var problems = unreadable.map { "“\($0.key)”: \($0.path) cannot be read; \(hint(for: $0.key))" }
        if problems.isEmpty { problems += identityProblems }
        problems += programsNeeded.filter { !FileManager.default.isExecutableFile(atPath: $0.path) }.map {
            "“\($0.key)”: \($0.path) cannot be executed: install it, or name another program"
        }
        if let group = api.group, getgrnam(group) == nil {
            problems.append("“api.group”: there is no group “\(group)” on this host: make it, or name another")
        }
        if witness == nil, let place = diskUnder(memoryDirectory) {
            problems.append(
                "“memory_directory”: \(memoryDirectory) would lie on a disk (\(place)), which is"
                    + " too slow for the memory of guests: name a directory below /dev/shm, or mount a tmpfs there")
        }
        guard problems.isEmpty else {
            throw ConfigurationError(path: path, problems.map { .init(line: nil, message: $0) })
        }
    }

    private var unreadable: [(key: String, path: String)] {
        filesNeeded.filter { !FileManager.default.isReadableFile(atPath: $0.path) }
    }

    private func hint(for key: String) -> String {
        key.hasPrefix("tls.")
            ? "“romulus pki issue \(node)” makes it; check that the name is that of this host's file"
            : "check the name, or copy the file there"
    }

    /// Certificate and key are of this node, belong together and are closed to others.
    private var identityProblems: [String] {
        do throws(PKIError) {
            let identity = try loadIdentity()
            guard identity.node != node else { return [] }
            return [
                "“node” is \(node), and \(tls.certificate) is the certificate of \(identity.node): name the node as its"
                    + " certificate does, or use the certificate that “romulus pki issue \(node)” makes"
            ]
        } catch {
            return ["“tls”: \(error)"]
        }
    }

    /// The file system that a directory would lie in, when that is one on a disk; nil when it is in memory.
    private func diskUnder(_ directory: String) -> String? {
        let path = URL(fileURLWithPath: directory).resolvingSymlinksInPath().path
        var found: (place: String, kind: String)?
        // proc(5): the fifth field is the mount point, the one behind the dash the type; of two at one place the later counts.
        for line in ((try? Files.text(of: "/proc/self/mountinfo")) ?? "").split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard let dash = fields.firstIndex(of: "-"), fields.count > dash + 1, dash > 4 else { continue }
            let place = String(fields[4])
            guard path == place || path.hasPrefix(place == "/" ? "/" : place + "/") else { continue }
            if place.count >= found?.place.count ?? 0 { found = (place, String(fields[dash + 1])) }
        }
        guard let found, !["tmpfs", "hugetlbfs", "ramfs"].contains(found.kind) else { return nil }
        return "\(found.place), \(found.kind)"
    }

    /// The files that have to be there, with the keys that name them.
    private var filesNeeded: [(key: String, path: String)] {
        var files = [("tls.ca", tls.ca), ("tls.certificate", tls.certificate), ("tls.key", tls.key)]
        if case .etcd(let etcd)? = arbiter, let tls = etcd.tls {
            files += [
                ("arbiter.etcd.ca", tls.ca), ("arbiter.etcd.certificate", tls.certificate),
                ("arbiter.etcd.key", tls.key),
            ]
        }
        return files
    }

    /// The programs that have to be there, with the keys that name them.
    private var programsNeeded: [(key: String, path: String)] {
        peers.sorted { $0.key < $1.key }.compactMap { name, peer in
            peer.fence?.command.first.map { ("peers.\(name).fence.command", $0) }
        }
    }
}
