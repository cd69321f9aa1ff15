/// The lengths of a lease, all in nanoseconds. Part of the protocol and not of any configuration: who takes over has to
/// wait by the length that the former owner counts with.
public struct LeaseTiming: Hashable, Sendable {
    /// For how long one confirmation keeps the gate open, on the owner's clock.
    public var length: UInt64
    /// How often the owner asks.
    public var interval: UInt64
    /// What may come on top of the length: how late a gate shuts (`KernelGate.overshoot`), and frames that passed it and are
    /// still on their way out of the host.
    public var margin: UInt64
    /// How much faster or slower than true time a host's clock may run, in parts of a million. Linux lets a time service
    /// steer by 10 % and 500 ppm at most (adjtimex(2): tick, freq); a crystal adds some 100 ppm.
    public var drift: UInt64

    public init(length: UInt64, interval: UInt64, margin: UInt64, drift: UInt64) {
        self.length = length
        self.interval = interval
        self.margin = margin
        self.drift = drift
    }

    public static let standard = LeaseTiming(
        length: 3_000_000_000, interval: 500_000_000, margin: 250_000_000, drift: 101_000)

    /// How long, on its own clock, who takes over waits: the former owner's clock may be slow by `drift` and its own fast by
    /// as much. Rounded up.
    public var wait: UInt64 {
        let million: UInt64 = 1_000_000
        let microseconds = (length + margin + 999) / 1000
        return (microseconds * (million + drift) / (million - drift) + 1) * 1000
    }
}
