/// What the house may measure at most: today's figures. A figure that grows fails its test, and so does one that has
/// shrunk until its limit is lowered here, so that what was won stays won. Nothing is added here but by a decision that is
/// worth a line in the commit's message.
enum HouseLimits {
    /// Limits of lines are whole steps, so that not every small change has to be written down here.
    static let step = 100

    static let longestFile = 500
    static let filesOver400Lines: Set<String> = [
        "Journal/EventJournal.swift",
        "Transport/LinkChannel.swift",
    ]
    static let functionsOver70Lines: Set<String> = ["Telemetry/VMMetrics.swift init"]
    /// By target and type: the lines of `Type.swift` and `Type+Aspect.swift`. Of the two machines this is the intended size:
    /// they are one value each.
    static let typesOver600Lines: [String: Int] = [
        "Protocol.PrimaryMachine": 1100,
        "Protocol.StandbyMachine": 900,
    ]
    /// Folders of one target of which each names types of the other; `.` are the files beside the folders.
    static let twoWayPairs: Set<String> = []
    /// Files that import QEMU, by target.
    static let importersOfQEMU: [String: Int] = ["Agent": 1]
}
