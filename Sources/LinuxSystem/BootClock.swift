import CLinux

/// CLOCK_BOOTTIME in nanoseconds: the clock of leases. No setting of the time of day moves it, and it goes on while the
/// host is suspended; its speed is steered by the host's time service. Never compared with another host's.
public enum BootClock {
    @inline(__always)
    public static func now() -> UInt64 { rml_boottime() }
}
