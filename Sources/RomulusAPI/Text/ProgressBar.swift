/// The first copy as one line: a bar on a terminal, plain words elsewhere.
public enum ProgressBar {
    /// `web  [=========>          ]  47 %  memory 120.5 MiB of 256.0 MiB  disk 0 B of 0 B  12.3 MiB/s`, never longer
    /// than `columns`.
    public static func line(_ status: VMStatus, columns: Int) -> String {
        let tail = words(status)
        let percent = "\(Int((status.sync?.ratio ?? 0) * 100)) %"
        let head = "\(status.name)  "
        let room = min(30, columns - head.count - percent.count - tail.count - 7)
        var result = head
        if room >= 8 {
            let filled = min(Int((status.sync?.ratio ?? 0) * Double(room)), room)
            result += "[" + String(repeating: "=", count: filled) + String(repeating: " ", count: room - filled) + "]  "
        }
        result += "\(percent)  \(tail)"
        return String(result.prefix(max(columns - 1, 0)))
    }

    /// The same without a bar, for logs.
    public static func plain(_ status: VMStatus) -> String {
        guard let sync = status.sync else { return "\(status.name): \(status.state.rawValue)" }
        return "\(status.name): \(status.state.rawValue) \(Int(sync.ratio * 100)) %  \(words(status))"
    }

    private static func words(_ status: VMStatus) -> String {
        guard let sync = status.sync else { return status.state.rawValue }
        var parts = ["memory \(Units.bytes(sync.memoryDone)) of \(Units.bytes(sync.memoryTotal))"]
        if sync.diskTotal > 0 { parts.append("disk \(Units.bytes(sync.diskDone)) of \(Units.bytes(sync.diskTotal))") }
        if status.linkBytesPerSecond >= 1, status.linkBytesPerSecond < 1e18 {
            parts.append(Units.bytes(UInt64(status.linkBytesPerSecond)) + "/s")
        }
        return parts.joined(separator: "  ")
    }
}
