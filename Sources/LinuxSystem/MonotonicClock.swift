import CLinux

/// CLOCK_MONOTONIC in nanoseconds: for measuring and for pacing, never for comparing two hosts.
public enum MonotonicClock {
    @inline(__always)
    public static func now() -> UInt64 { rml_monotonic() }

    /// Blocks the calling thread until `deadline`; signals do not shorten it. A deadline in the past returns at once.
    public static func sleep(until deadline: UInt64) { rml_sleep_until(deadline) }
}
