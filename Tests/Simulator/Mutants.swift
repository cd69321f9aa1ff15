/// Planted defects. Each changes what a duty is told or how what it wants is carried out, or what the arbiter does, in the
/// way in which a wrong machine, duty, shell or arbiter would: machines and duties themselves stay as they are shipped. A
/// checker that misses one of them would miss the real thing.
enum Mutant: String, CaseIterable {
    // what leaves
    case releasesBeforeAcknowledgement = "output of an epoch is released when it is sealed"
    case releasesAllOnAcknowledgement = "an acknowledgement releases what was sealed after its epoch too"
    case releasesOnFence = "held output is let out, not dropped, when the host is deposed"
    case holdsLate = "holding begins when PAIRED is won, not before it is asked for"
    case releasesOnUnprotect = "unprotect releases before SOLO is won"
    case standbyReleasesUncommitted = "a standby that takes over lets out output of incomplete epochs too"

    // the register
    case soloWithoutAsking = "a primary that lost its standby goes on without asking"
    case takesOverWithoutAsking = "a standby that lost its primary goes on without asking"
    case takesSilenceForYes = "no answer of the arbiter counts as success"
    case forgetsToBurn = "after an unknown PAIRED the primary goes back to SOLO without a new term"
    case comparesOwnerOnly = "the arbiter compares the owner, not the term"
    case arbiterLosesWrites = "the arbiter answers before its write is durable, and crashes"
    case trustsEmptyArbiter = "an arbiter that forgot everything is simply told again"
    case reusesNonces = "all requests of a life have one nonce"
    case skipsEligibility = "a standby takes over whatever pair the register names"
    case ignoresConflict = "a conflict is treated as no answer"
    case usesManualPolicy = "the primary follows the policy for two nodes although there is an arbiter"

    // what is durable
    case forgetsToPersist = "the term is not written"
    case persistsLate = "the term counts as written before it is"
    case startsWithoutClaim = "a restarted agent goes on where it was"
    case startsWithoutHolding = "a restarted agent takes the filters up again open"
    case resumesTwice = "the image is not marked as used up when the guest runs from it"
    case runsWhenLoaded = "the guest runs as soon as it is loaded, before the term is won and durable"
    case skipsSecondApply = "an epoch that was half applied counts as applied after a restart"

    // the image
    case acknowledgesBeforeStaging = "an epoch is acknowledged when its first frame comes"
    case acknowledgesBeforeFirstCopy = "checkpoint 1 is acknowledged before it is applied"
    case acknowledgesAfterAsking = "epochs are acknowledged while and after the arbiter is asked"
    case acceptsDamage = "the digest is not compared"
    case acceptsGaps = "a checkpoint with a missing frame counts as whole"
    case appliesPartly = "applying leaves a page group out"
    case reportsAppliedEarly = "an epoch counts as applied before it is written"
    case loadsUnapplied = "QEMU loads the state when the arbiter is asked, before everything is applied"
    case dropsLoaded = "a restarted agent gives up an image because its QEMU has loaded it"
    case appliesIncomplete = "frames of an incomplete epoch are written at a takeover"
    case keepsIncarnation = "another image keeps the old one's incarnation"
    case acceptsOldTerms = "an offer of an older term is accepted"
    case acceptsStaleFrames = "frames of an older session are taken for this one's"
    case acceptsStaleAcknowledgements = "acknowledgements of an older session count"
    case givesUpWhileAsking = "an image can be given up while the arbiter is asked"
    case dropsImageOnSilence = "a standby drops its image when the link is lost"

    // the guest
    case capturesTooLittle = "a dirty page group is not captured"
    case fencesOnPaper = "a deposed guest is reported dead and lives on"
    case handsOverRunning = "the guest goes on running while it is handed over"
    case handsOverEarly = "a switchover asks the standby before the last acknowledgement"
    case stopsUnasked = "the guest is stopped for a switchover although the arbiter does not answer"
    case loadsUnasked = "the standby uses its image up for a switchover although the arbiter does not answer it"
    case standsUntilDecided = "a guest that was stopped for a switchover stands still until the arbiter decides"
    case givesBackRunning = "a standby gives the guest of a switchover back while its own copy runs"
    case bootsUnasked = "a guest whose state is refused is booted from its disk before the arbiter agreed"
    case bootsUnapplied = "a guest is booted from what its disk was when the arbiter was asked"
    case bootsAtSwitchover =
        "a guest that a switchover's new host cannot load is booted there, and goes on at the old one"
    case standbyActsAlone = "without an arbiter, the standby takes over by itself"
    case mergesForks = "without an arbiter, two histories are merged by giving the older term up silently"
    case takesAskingForConfirmation = "a peer counts as off as soon as its fence command is started"
    case takesFailureForConfirmation = "a fence command that failed counts as a confirmation"
    case usesOldConfirmation = "a confirmation counts for later silences of a peer that came back"
    case promisesAndRunsAlone = "a primary that promised to wait for fencing goes on alone without it"
    case fencesUnpromised = "a standby fences a primary that made no promise"
    case fencesUnpaired = "a standby fences before it was told of the pair"
    case leavesUnanswered = "protection ends before the standby has let go"
    case keepsLineageByWord = "a promise is broken by the operator's word within one lineage"
    case boundless = "nothing stops the guest when much is held"
}
