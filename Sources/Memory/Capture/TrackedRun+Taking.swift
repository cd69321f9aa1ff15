import LinuxSystem

extension ArraySlice<TrackedRun> {
    /// Takes `count` pages off the first run, which has as many or more.
    package mutating func takeFirst(_ count: UInt32) -> TrackedRun {
        var taken = self[startIndex]
        taken.count = count
        if count == self[startIndex].count {
            removeFirst()
        } else {
            self[startIndex].first += count
            self[startIndex].count -= count
        }
        return taken
    }
}
