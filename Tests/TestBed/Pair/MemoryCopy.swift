/// First copies, as the primary's agent tells of them.
extension Pair {
    /// In pages: those that were sent, and those with contents that the standby held already.
    public struct MemoryCopy: Sendable {
        public var sent: Int
        public var present: Int
        public var milliseconds: Int
    }

    /// The first copies of the VM's memory from `host`, oldest first.
    public func memoryCopies(_ host: BedHost, _ vm: String) throws(BedError) -> [MemoryCopy] {
        let text = try romulus(host, ["events", vm, "--limit", "1000"]).output
        let pattern = /(\d+) of \d+ pages (?:had contents and )?were copied in (\d+) ms(?:, (\d+) with contents)?/
        return text.matches(of: pattern).map { match in
            MemoryCopy(
                sent: Int(match.1) ?? 0, present: match.3.flatMap { Int($0) } ?? 0, milliseconds: Int(match.2) ?? 0)
        }
    }

    /// How long the standby took to read its images for each first copy from `host`, in milliseconds, oldest first.
    public func diskReads(_ host: BedHost, _ vm: String) throws(BedError) -> [Int] {
        let text = try romulus(host, ["events", vm, "--limit", "1000"]).output
        return text.matches(of: /the standby told in (\d+) ms/).map { Int($0.1) ?? 0 }
    }
}
