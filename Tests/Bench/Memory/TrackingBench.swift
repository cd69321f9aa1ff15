import LinuxSystem

/// What the first write to a page costs the writer, by the way in which writes are tracked.
enum TrackingBench {
    private static let mebibytes = 256
    private static let rounds = 5

    static func measure() throws -> [Figure] {
        Bench.say("the first write to each page of \(mebibytes) MiB, tracked in four ways")
        let toy = try MemoryToy(mebibytes: mebibytes, .small)
        var (plain, ours, faults, signals) = ([Double](), [Double](), [Double](), [Double]())
        for _ in 1...rounds {
            plain.append(try toy.ask("write"))
            ours.append(try tracked(toy))
            faults.append(try toy.ask("fault"))
            signals.append(try toy.ask("signal"))
        }
        Bench.say("  untracked \(Int(median(plain))) ns, ours \(Int(median(ours))) ns")
        return [
            Figure("first write to a tracked page", ours, "ns", over: faults, "synchronous userfaultfd", goal: 0.15),
            Figure("first write to a tracked page", ours, "ns", over: signals, "mprotect and SIGSEGV", goal: 0.15),
        ]
    }

    private static func tracked(_ toy: MemoryToy) throws -> Double {
        let tracker = try toy.tracker()
        let taken = try toy.ask("write")
        try tracker.close()
        return taken
    }
}
