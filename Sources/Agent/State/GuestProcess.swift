import LinuxSystem

/// What the kernel says of a process that may be a guest's.
enum GuestProcess {
    /// True while it runs; one that ended and was not reaped yet does not.
    static func runs(_ pid: Int32) -> Bool {
        guard let fields = ProcessFiles.statistics(of: pid) else { return false }
        return fields.first != "Z"
    }

    /// Field 22 of `/proc/PID/stat`, in clock ticks since the host was started; nil when there is no such process.
    static func startTime(of pid: Int32) -> UInt64? {
        guard let fields = ProcessFiles.statistics(of: pid) else { return nil }
        return fields.count > 19 ? UInt64(fields[19]) : nil
    }
}
