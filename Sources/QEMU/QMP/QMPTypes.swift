import Hypervisor

/// Something QEMU reported by itself.
public struct QMPEvent: Hashable, Sendable {
    /// QEMU's name of it, for example `STOP` or `BLOCK_JOB_READY`.
    public var name: String
    public var data: JSONValue
    /// Wall clock of QEMU's host in microseconds since 1970.
    public var timestamp: Int64

    package init(name: String, data: JSONValue, timestamp: Int64) {
        self.name = name
        self.data = data
        self.timestamp = timestamp
    }
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

extension QEMUVersion {
    /// From the `version` member of a greeting, or the answer to `query-version`.
    init?(_ value: JSONValue?) {
        guard let numbers = value?["qemu"], let major = numbers["major"]?.int64, let minor = numbers["minor"]?.int64,
            let micro = numbers["micro"]?.int64, let major = Int(exactly: major), let minor = Int(exactly: minor),
            let micro = Int(exactly: micro)
        else { return nil }
        self.init(major: major, minor: minor, micro: micro, package: value?["package"]?.string ?? "")
    }
}

extension MemorySize {
    /// From the answer to `query-memory-size-summary`.
    public init?(_ value: JSONValue) {
        guard let base = value["base-memory"]?.uint64 else { return nil }
        self.init(base: base, plugged: value["plugged-memory"]?.uint64 ?? 0)
    }
}
