import TapDetour

/// Frees taps that an agent which is no more left shut, once nobody has them open.
struct TapSweep: Sendable {
    private static let period = Duration.seconds(2)

    let chronicle: Chronicle

    func look() {
        for tap in Detour.sweep() {
            chronicle.note(
                nil, .agent, "an agent that is gone had left tap \(tap) shut: it is free again, as nobody has it open")
        }
    }

    func run() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.period)
            look()
        }
    }
}
