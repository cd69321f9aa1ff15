import Glibc

/// The file of the API socket: makes sure that no other agent uses it, gives it its rights, takes it away again.
struct SocketDoor: Sendable {
    let path: String
    private let groupID: gid_t?

    /// Refuses a path at which somebody answers, and a group that does not exist. A socket that nobody listens on any
    /// more (an agent was killed) is left for the server to replace.
    init(path: String, group: String?) throws(APIServerError) {
        self.path = path
        groupID = if let group { try Self.resolve(group, path) } else { nil }
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw APIServerError(
                place: path, reason: "a file that is no socket is in the way; move it or choose another “api.socket”")
        }
        if Self.somebodyAnswers(at: path) {
            throw APIServerError(
                place: path, reason: "another agent listens there; stop it or choose another “api.socket”")
        }
    }

    /// Lets root and the group in (0660). Until here the umask kept others out: connecting needs the right to write.
    /// Gives what went wrong, in words.
    func open() -> String? {
        if let groupID, chown(path, uid_t.max, groupID) != 0 {
            return "the group of \(path) cannot be set: \(String(cString: strerror(errno))); only root can use it"
        }
        if chmod(path, 0o660) != 0 {
            return "the rights of \(path) cannot be set: \(String(cString: strerror(errno)))"
        }
        return nil
    }

    func remove() {
        unlink(path)
    }

    private static func resolve(_ group: String, _ path: String) throws(APIServerError) -> gid_t {
        var record = Glibc.group()
        var found: UnsafeMutablePointer<Glibc.group>?
        var buffer = [CChar](repeating: 0, count: 64 << 10)
        let code = getgrnam_r(group, &record, &buffer, buffer.count, &found)
        guard code == 0, found != nil else {
            throw APIServerError(
                place: path, reason: "the group “\(group)” of “api.group” does not exist; create it (groupadd \(group))"
            )
        }
        return record.gr_gid
    }

    private static func somebodyAnswers(at path: String) -> Bool {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return false }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
    }
}
