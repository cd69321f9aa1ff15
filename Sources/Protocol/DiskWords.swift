import Model

/// What is told of a disk that is lost here.
enum DiskWords {
    static let needsStandby =
        "the guest lives by the standby's copy of a disk, as the one of this host is lost: let it rejoin first, or give this copy"
        + " of the guest up"

    static let waits =
        "a disk is lost here and so is the standby that had it: the guest waits until the standby goes on with it; where it cannot,"
        + " as its disk failed too: give this copy up, mend that disk and start the guest from it"

    static func stays(_ standby: NodeName, of node: NodeName) -> String {
        "\(standby) wants to be the standby no longer, and stays it: the guest lives by its copy of a disk, as the one of \(node)"
            + " is lost; mend that disk and let it rejoin, or give this copy of the guest up, which starts it at \(standby)"
    }

    static func alone(at node: NodeName) -> String {
        "a disk is lost at \(node), which has the guest alone: the guest sees the errors of its disk; mend the disk, or end the guest"
            + " here and start it from the copy of its last standby"
    }
}
