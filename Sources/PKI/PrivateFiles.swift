import Glibc

/// Files with exact modes, made at once or not at all.
enum PrivateFiles {
    /// Creates `path` and its missing parents, each with mode 0700; an existing directory is left as it is.
    static func makeDirectory(_ path: String) throws(PKIError) {
        guard !path.isEmpty else { throw .unwritable(path: "the directory ''", reason: "its name is empty") }
        var information = stat()
        if stat(path, &information) == 0 {
            guard information.st_mode & S_IFMT == S_IFDIR else {
                throw .unwritable(path: path, reason: "it is not a directory")
            }
            return
        }
        if let slash = path.lastIndex(of: "/"), slash != path.startIndex, path.index(after: slash) != path.endIndex {
            try makeDirectory(String(path[..<slash]))
        }
        // Another process may have made it in between; that is as good.
        if mkdir(path, 0o700) != 0, errno != EEXIST { throw .unwritable(path: path, reason: message(errno)) }
    }

    /// Writes a file that did not exist, with exactly `mode`, and waits until it is on the disk. Nothing stays behind
    /// when that fails.
    static func create(_ path: String, _ text: String, mode: mode_t) throws(PKIError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode)
        guard descriptor >= 0 else {
            if errno == EEXIST || errno == ELOOP { throw .exists(path: path) }
            throw .unwritable(path: path, reason: message(errno))
        }
        defer { close(descriptor) }
        if let failure = fill(descriptor, Array(text.utf8), mode: mode) {
            unlink(path)
            throw .unwritable(path: path, reason: message(failure))
        }
    }

    private static func fill(_ descriptor: Int32, _ bytes: [UInt8], mode: mode_t) -> Int32? {
        // The umask narrowed the mode at creation, never widened it; this sets what is meant.
        guard fchmod(descriptor, mode) == 0 else { return errno }
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                return errno
            }
            written += count
        }
        return fsync(descriptor) == 0 ? nil : errno
    }

    /// The whole of a small file. A secret one must be closed to group and others; the mode is read from the opened
    /// file, so that what was checked is what is read.
    static func read(_ path: String, secret: Bool) throws(PKIError) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            if errno == ENOENT || errno == ENOTDIR { throw .missing(path: path) }
            throw .unreadable(path: path, reason: message(errno))
        }
        defer { close(descriptor) }
        var information = stat()
        guard fstat(descriptor, &information) == 0 else { throw .unreadable(path: path, reason: message(errno)) }
        guard information.st_mode & S_IFMT == S_IFREG else {
            throw .unreadable(path: path, reason: "it is not a plain file")
        }
        if secret, information.st_mode & 0o077 != 0 {
            throw .keyTooOpen(path: path, mode: information.st_mode)
        }
        var bytes = [UInt8](repeating: 0, count: Profile.fileBytesMax + 1)
        var count = 0
        while count < bytes.count {
            let got = bytes[count...].withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
            if got == 0 { break }
            if got < 0 {
                if errno == EINTR { continue }
                throw .unreadable(path: path, reason: message(errno))
            }
            count += got
        }
        guard count <= Profile.fileBytesMax else {
            throw .unreadable(
                path: path,
                reason: "it is longer than \(Profile.fileBytesMax) bytes, so it is neither a "
                    + "certificate nor a key of ours")
        }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    static func path(_ directory: String, _ file: String) -> String {
        directory.hasSuffix("/") ? directory + file : directory + "/" + file
    }

    private static func message(_ code: Int32) -> String { String(cString: strerror(code)) }
}
