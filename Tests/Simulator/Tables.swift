/// The cells of the two tables in docs/PROTOCOL.md: which events have an effect in which state. A run of the whole program
/// has to visit each of them and no other.
enum Tables {
    static let primary: [(state: String, events: String)] = [
        ("adopting", "started guestLost guestEnded unprotect answered registerRead registerUnreadable persisted"),
        (
            "solo",
            "candidate peerRegister guestLost guestEnded "
                + "unprotect setLevel answered registerRead registerUnreadable persisted guestStarted"
        ),
        ("offering", "accepted refused peerRegister standbyLost guestLost guestEnded unprotect"),
        ("copying", "sealed standbyLost standbyLeaves guestLost guestEnded unprotect"),
        (
            "pairing",
            "peerRegister acknowledged standbyLost standbyLeaves guestLost guestEnded "
                + "unprotect answered registerRead registerUnreadable persisted guarded"
        ),
        (
            "paired",
            "peerRegister sealedLast acknowledged standbyLost standbyLeaves guestLost guestEnded unprotect "
                + "switchOver setLevel giveUp answered registerRead registerUnreadable persisted letGo "
                + "startable unstartable"
        ),
        ("handingOver", "peerRegister standbyLost handOverOverdue handedBack declined guestLost guestEnded goOn"),
        ("lonely", "guestLost guestEnded unprotect answered registerRead registerUnreadable persisted"),
        (
            "frozen",
            "peerRegister guestLost guestEnded unprotect goOn giveUp peerFenced fencingFailed peerHeard"
        ),
        ("forked", "guestLost guestEnded goOn giveUp"),
        ("fencing", "guestLost"),
    ]
    static let standby: [(state: String, events: String)] = [
        ("none", "offered"),
        ("preparing", "offered prepared prepareFailed linkLost dismissed imageLost persisted"),
        ("receiving", "offered staged applied linkLost dismissed imageLost"),
        ("holding", "offered staged registerTold linkLost takeOver dismissed imageLost"),
        ("orphaned", "started offered force giveUp imageLost peerFenced fencingFailed peerHeard"),
        (
            "arbitrating",
            "offered applied giveUp imageLost answered registerRead registerUnreadable loaded loadFailed"
        ),
        ("takingOver", "applied imageLost persisted loaded loadFailed cleared peerFenced"),
        ("resuming", "resumed resumeFailed"),
        ("consulting", "offered linkLost dismissed imageLost registerRead registerUnreadable"),
        ("loading", "offered applied imageLost loaded loadFailed"),
        ("returning", "offered replicaEnded"),
        ("failed", "force giveUp"),
    ]

    /// `machine state event` of each.
    static let cells: Set<String> = Set(
        primary.flatMap { row in row.events.split(separator: " ").map { "primary \(row.state) \($0)" } }
            + standby.flatMap { row in row.events.split(separator: " ").map { "standby \(row.state) \($0)" } })
}
