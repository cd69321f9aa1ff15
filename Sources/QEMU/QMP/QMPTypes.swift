/// Who is at the other end of a unix socket when it was connected (`SO_PEERCRED`).
public struct ProcessIdentity: Hashable, Sendable, Codable {
    public var pid: Int32
    public var uid: UInt32
    public var gid: UInt32

    public init(pid: Int32, uid: UInt32, gid: UInt32) {
        self.pid = pid
        self.uid = uid
        self.gid = gid
    }
}

public struct QEMUVersion: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
    public var major: Int
    public var minor: Int
    public var micro: Int
    /// The distribution's words, for example `Debian 1:7.2+dfsg-7+deb12u18`; may be empty.
    public var package: String

    public init(major: Int, minor: Int, micro: Int, package: String) {
        self.major = major
        self.minor = minor
        self.micro = micro
        self.package = package
    }

    /// From the `version` member of a greeting, or the answer to `query-version`.
    init?(_ value: JSONValue?) {
        guard let numbers = value?["qemu"], let major = numbers["major"]?.int64, let minor = numbers["minor"]?.int64,
            let micro = numbers["micro"]?.int64, let major = Int(exactly: major), let minor = Int(exactly: minor),
            let micro = Int(exactly: micro)
        else { return nil }
        self.init(major: major, minor: minor, micro: micro, package: value?["package"]?.string ?? "")
    }

    public var description: String { "\(major).\(minor).\(micro)" }
    public static func < (a: QEMUVersion, b: QEMUVersion) -> Bool {
        (a.major, a.minor, a.micro) < (b.major, b.minor, b.micro)
    }
}

/// Something QEMU reported by itself.
public struct QMPEvent: Hashable, Sendable {
    /// QEMU's name of it, for example `STOP` or `BLOCK_JOB_READY`.
    public var name: String
    public var data: JSONValue
    /// Wall clock of QEMU's host in microseconds since 1970.
    public var timestamp: Int64
}

/// A command as text, made once and sent often: only the id is written per call.
public struct QMPCommand: Sendable {
    public let name: String
    let prefix: [UInt8]

    public init(_ name: String, _ arguments: JSONValue? = nil) {
        self.name = name
        var text: [UInt8] = Array("{\"execute\":".utf8)
        JSONValue.string(name).write(into: &text)
        if let arguments, !arguments.isEmpty {
            text.append(contentsOf: ",\"arguments\":".utf8)
            arguments.write(into: &text)
        }
        text.append(contentsOf: ",\"id\":".utf8)
        prefix = text
    }
}
