import Model

/// A disk whose copy at this host is lost: who may go on without it (I40).
extension PrimaryMachine {
    /// The standby has the only whole copy of a disk.
    var livesByStandby: Bool { isCopyLost && session != nil }

    /// A write may be done in the standby's copy alone, once that knows of it. Not when SOLO was asked for or will be: it may take effect
    /// at any time (I12), and this host would go on without that write.
    public var mayLiveByStandby: Bool {
        guard case .paired = state, !isDismissing else { return false }
        return request?.purpose != .solo
    }

    /// Alone, a guest has the disk that it has.
    mutating func loseCopy(_ isLost: Bool) {
        switch state {
        case .solo, .offering, .ended: isCopyLost = false
        default: isCopyLost = isLost
        }
    }

    /// The register says SOLO. What was lost since it was asked for, the standby was not told of: nothing was done there alone.
    mutating func goOnWithoutDisk(_ actions: inout [Action]) {
        guard isCopyLost else { return }
        isCopyLost = false
        actions.append(.report(DiskWords.alone(at: node)))
    }

    /// It cannot go on alone, and whether anybody else does is decided elsewhere.
    mutating func waitForDisk(_ actions: inout [Action]) {
        state = .frozen
        request = nil
        actions += [.hold, .report(DiskWords.waits)]
    }
}
