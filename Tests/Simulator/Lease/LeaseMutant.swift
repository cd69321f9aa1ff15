/// Planted defects of the lease: each changes what the shell, the kernel's gate or the arbiter does; the machine stays as
/// it is shipped.
enum LeaseMutant: String, CaseIterable {
    case leaseCountsFromAnswer = "a lease counts from when the answer came"
    case takerDoesNotWait = "who wins the register opens the gate at once"
    case restartSkipsWait = "a restarted agent that finds itself the owner takes the guest for running"
    case ignoresDrift = "the wait is the length of the lease, whatever the clocks do"
    case ignoresMargin = "the wait leaves no room for a gate that shuts late"
    case usesWallClock = "time is read from a clock that is set"
    case promisesAfterAsking = "a standby promises while and after it asks to take over"
    case anyAnswerCounts = "an answer counts for the newest question"
    case staleReadings = "the arbiter reads from a copy that lags behind"
    case fencesOnPaper = "the other host counts as off when that was asked for"
    case withoutTicket = "a request to the kernel is carried out however late it comes"
    case wholeLengthEachTime = "the kernel is given the whole length at each renewal"
    case gateInTheAgent = "the gate shuts when the agent says so"
    case renewsByAdding = "a renewal adds the element without deleting it"
    case asksTooLate = "the owner asks when its lease has run out"
    case asksArbiterOnly = "the standby's promise is not asked for"
}
