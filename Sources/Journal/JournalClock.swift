import Glibc

/// Where the journal has the time from.
public struct JournalClock: Sendable {
    public var now: @Sendable () -> JournalTime

    public init(now: @escaping @Sendable () -> JournalTime) {
        self.now = now
    }

    public static let system: JournalClock = {
        let bootID = thisBoot()
        return JournalClock {
            JournalTime(
                wall: nanoseconds(CLOCK_REALTIME), boot: nanoseconds(CLOCK_BOOTTIME), bootID: bootID)
        }
    }()

    private static func nanoseconds(_ clock: Int32) -> Int64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    /// Empty where /proc does not tell.
    private static func thisBoot() -> String {
        guard let file = fopen("/proc/sys/kernel/random/boot_id", "re") else { return "" }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 64)
        guard fgets(&line, Int32(line.count), file) != nil else { return "" }
        return String(decoding: line.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
