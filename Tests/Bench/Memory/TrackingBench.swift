import LinuxSystem

/// What the first write to a page costs the writer, by the way in which writes are tracked: each page of 256 MiB is written
/// once, one after the other.
enum TrackingBench {
    private static let mebibytes = 256
    private static let rounds = 5

    static let about = "what the first write to a page costs a process whose memory is tracked, in four ways"

    static func measure() throws -> Measured {
        let toy = try MemoryToy(mebibytes: mebibytes, .small)
        var (plain, ours, faults, signals) = ([Double](), [Double](), [Double](), [Double]())
        for _ in 1...rounds {
            plain.append(try toy.ask("write"))
            ours.append(try tracked(toy))
            faults.append(try toy.ask("fault"))
            signals.append(try toy.ask("signal"))
        }
        let name = "first write to a tracked page"
        return Measured(figures: [
            Figure(name, ours, "ns", over: faults, "synchronous userfaultfd", goal: 0.15),
            Figure(name, ours, "ns", over: signals, "mprotect and SIGSEGV"),
            Figure(name, ours, "ns", over: plain, "untracked"),
        ])
    }

    private static func tracked(_ toy: MemoryToy) throws -> Double {
        let tracker = try toy.tracker()
        let taken = try toy.ask("write")
        try tracker.close()
        return taken
    }
}
