/// Every family of series that an agent shows. `docs/METRICS.md` lists the same ones; a test keeps the two together.
public enum Families {
    // epochs
    public static let epochs = Family(
        "romulus_epochs_total", .counter, "Checkpoints, by how they ended: committed at the standby or aborted.")
    public static let pause = Family(
        "romulus_pause_seconds", .histogram(bounds: milliseconds(pauseBounds)),
        "How long the guest stood still for one checkpoint.")
    public static let standstill = Family(
        "romulus_standstill_seconds", .histogram(bounds: milliseconds(pauseBounds)),
        "How long the guest stood still for something else than a checkpoint, by cause.")
    public static let phase = Family(
        "romulus_phase_seconds", .histogram(bounds: milliseconds(phaseBounds)),
        "Time spent in one phase of an epoch.")
    public static let outputHold = Family(
        "romulus_output_hold_seconds", .histogram(bounds: milliseconds(holdBounds)),
        "How long a network frame of the guest was held until its epoch was acknowledged.")
    public static let dirtyPages = Family(
        "romulus_dirty_pages_total", .counter, "Guest pages (4096 bytes) found written at the checkpoints.")
    public static let checkpointBytes = Family(
        "romulus_checkpoint_bytes_total", .counter,
        "Bytes in committed checkpoints as they went into the frames, by content.")
    public static let epoch = Family("romulus_epoch", .gauge, "Number of the last committed epoch of this term.")
    public static let lastCommit = Family(
        "romulus_last_commit_timestamp_seconds", .gauge, "When the last checkpoint was committed, in Unix time.")
    public static let deviceStateBytes = Family(
        "romulus_device_state_bytes", .gauge, "Size of the device state of the last checkpoint.")
    public static let targetLatency = Family(
        "romulus_target_latency_seconds", .gauge, "How long answers may wait, as it was asked for; 0 when it was not.")
    public static let reachedLatency = Family(
        "romulus_reached_latency_seconds", .gauge,
        "How long an answer that comes at a bad moment is expected to wait; 0 without that target.")
    public static let targetOverhead = Family(
        "romulus_target_overhead_ratio", .gauge,
        "The share of the guest's work that protection may cost, as it was asked for; 0 when it was not.")
    public static let reachedOverhead = Family(
        "romulus_reached_overhead_ratio", .gauge,
        "The share of the guest's work that protection cost lately; 0 without that target.")
    public static let targetHeld = Family(
        "romulus_target_held", .gauge, "0 while the epochs cannot hold the target that was asked for, else 1.")

    // link and output
    public static let linkSent = Family(
        "romulus_link_sent_bytes_total", .counter, "Bytes given to the link for this VM, framing included.")
    public static let linkReceived = Family(
        "romulus_link_received_bytes_total", .counter, "Bytes taken from the link for this VM, framing included.")
    public static let heldBytes = Family(
        "romulus_held_output_bytes", .gauge, "Bytes of guest output that wait for an acknowledgement.")
    public static let heldFrames = Family(
        "romulus_held_output_frames", .gauge, "Frames of guest output that wait for an acknowledgement.")
    public static let referenceBytes = Family(
        "romulus_reference_bytes", .gauge, "Memory of the copies that the guest's pages are compared with.")
    public static let linkConnections = Family(
        "romulus_link_connections", .gauge, "Connections that the link to the standby is made of.")
    public static let epochsInFlight = Family(
        "romulus_epochs_in_flight", .gauge, "Checkpoints that are taken and not acknowledged yet.")
    public static let releasedFrames = Family(
        "romulus_released_frames_total", .counter, "Frames of guest output that were released.")
    public static let droppedFrames = Family(
        "romulus_dropped_output_frames_total", .counter,
        "Frames of guest output of uncommitted epochs that were dropped.")
    public static let peerUp = Family(
        "romulus_peer_up", .gauge, "1 while the session with the other host is up, else 0.")
    public static let peerRTT = Family(
        "romulus_peer_rtt_seconds", .histogram(bounds: milliseconds(phaseBounds)),
        "The round-trip time of the link as the kernel knows it, sampled at each scrape.")
    public static let silenceBorne = Family(
        "romulus_silence_borne_seconds", .gauge, "How much silence of the other host is borne now.")
    public static let secondPathUp = Family(
        "romulus_second_path_up", .gauge, "1 while the other host is heard over the second path, else 0.")
    public static let secondPathRTT = Family(
        "romulus_second_path_rtt_seconds", .histogram(bounds: milliseconds(phaseBounds)),
        "Time from a heartbeat over the second path to the other agent's answer.")

    // standing
    public static let info = Family(
        "romulus_vm_info", .gauge, "1 for the name of the other host, which is a label; 0 for one that it was before.")
    public static let role = Family("romulus_role", .gauge, "1 for the role that this host has for the VM, else 0.")
    public static let state = Family("romulus_state", .gauge, "1 for the state that protection is in, else 0.")
    public static let level = Family("romulus_level", .gauge, "1 for the level that was asked for, else 0.")
    public static let degraded = Family(
        "romulus_degraded", .gauge, "1 while the VM is below the level that was asked for because it fell, else 0.")
    public static let degrades = Family(
        "romulus_degrades_total", .counter, "Falls of the VM to a lower level than was asked for.")
    public static let disksLost = Family(
        "romulus_disks_lost", .gauge,
        "Disks of the guest whose copy at this host is lost: it goes on with the standby's.")
    public static let carriedNICs = Family(
        "romulus_carried_nics", .gauge, "NICs of the guest whose frames travel through the other host.")
    public static let desired = Family(
        "romulus_vm_desired", .gauge, "1 for a VM that should be protected, whether it runs or not, else 0.")
    public static let term = Family("romulus_term", .gauge, "The fencing number of the VM.")
    public static let syncProgress = Family(
        "romulus_sync_progress_ratio", .gauge, "Share of the first copy of memory and disks that is done, 0 to 1.")
    public static let failovers = Family(
        "romulus_failovers_total", .counter, "Failovers to this host, by what caused them.")
    public static let failover = Family(
        "romulus_failover_seconds", .histogram(bounds: milliseconds(failoverBounds)),
        "Time from the decision to fail over to the guest running here.")
    public static let diskFaults = Family(
        "romulus_disk_faults_total", .counter,
        "Disks of the guest that failed or hang at this host, by what came of it; each once in a session.")
    public static let coldBoots = Family(
        "romulus_cold_boots_total", .counter,
        "Failovers to this host at which the guest lost its memory and was booted from its disk.")
    public static let restarts = Family(
        "romulus_restarts_total", .counter,
        "Starts of the guest on this host, from its disk, after it or its host was lost.")
    public static let hangs = Family(
        "romulus_guest_hangs_total", .counter, "How often the guest hung, as its watchdog or its guest agent told.")
    public static let stagedBytes = Family(
        "romulus_staged_bytes", .gauge, "Bytes of checkpoints that are staged and not yet applied to the replica.")
    public static let errors = Family(
        "romulus_errors_total", .counter, "Errors that cost an epoch, a session or a request, by component.")

    public static let firstCopyPages = Family(
        "romulus_first_copy_pages_total", .counter,
        "Guest pages (4096 bytes) looked at for first copies, by what became of them.")
    // verification
    public static let verifyPages = Family(
        "romulus_verify_pages", .gauge, "Guest pages (4096 bytes) by what the last verification of the replica found.")
    public static let verifyTimestamp = Family(
        "romulus_verify_timestamp_seconds", .gauge,
        "When the last verification of the replica was over, in Unix time; 0 before.")
    public static let verifyDuration = Family(
        "romulus_verify_duration_seconds", .gauge, "How long the last verification of the replica took.")
    public static let keptMemory = Family(
        "romulus_kept_memory_bytes", .gauge, "Bytes of former replicas' memory that are kept as a base of later ones.")
    public static let startMemoryMissing = Family(
        "romulus_start_memory_missing_bytes", .gauge,
        "Memory that guests of the host whose guests want most would lack here if that were lost; 0 where all would fit."
    )
    public static let arbiterUp = Family(
        "romulus_arbiter_up", .gauge, "1 while the arbiter answers, else 0; not there without one.")
    // fencing
    public static let fencing = Family(
        "romulus_fencing_total", .counter, "Fence commands of peers, by what came of them.")

    // witness
    public static let witnessRequests = Family(
        "romulus_witness_requests_total", .counter, "Requests that this witness answered, by outcome.")
    public static let witnessRefusedLinks = Family(
        "romulus_witness_refused_links_total", .counter, "Connections to this witness that were refused.")
    public static let witnessVMs = Family("romulus_witness_vms", .gauge, "VMs whose register this witness keeps.")
    public static let witnessLogBytes = Family(
        "romulus_witness_log_bytes", .gauge, "Size of the log of this witness.")

    // process
    public static let buildInfo = Family(
        "romulus_build_info", .gauge, "Always 1; carries the version of the agent as a label.")
    public static let processCPU = Family(
        "process_cpu_seconds_total", .counter, "User and system time that the agent has used.")
    public static let processMemory = Family(
        "process_resident_memory_bytes", .gauge, "Resident memory of the agent.")
    public static let processDescriptors = Family("process_open_fds", .gauge, "Open file descriptors of the agent.")
    public static let processStart = Family(
        "process_start_time_seconds", .gauge, "When the agent was started, in Unix time.")

    public static let all: [Family] = [
        epochs, pause, standstill, phase, outputHold, dirtyPages, checkpointBytes, epoch, lastCommit, deviceStateBytes,
        targetLatency, reachedLatency, targetOverhead, reachedOverhead, targetHeld,
        linkSent, linkReceived, heldBytes, heldFrames, linkConnections, epochsInFlight, referenceBytes, releasedFrames,
        droppedFrames,
        peerUp,
        peerRTT, silenceBorne, secondPathUp, secondPathRTT,
        info, role, state, level, degraded, degrades, disksLost, carriedNICs, desired, term, syncProgress, failovers,
        failover, coldBoots, restarts, hangs, diskFaults,
        stagedBytes,
        errors,
        firstCopyPages, verifyPages, verifyTimestamp, verifyDuration, keptMemory, startMemoryMissing, arbiterUp,
        fencing,
        witnessRequests, witnessRefusedLinks, witnessVMs, witnessLogBytes,
        buildInfo, processCPU, processMemory, processDescriptors, processStart,
    ]

    // Chosen around what was measured: a pause of 1-5 ms, phases well below a millisecond, output held for one epoch
    // of 20 ms, 40 ms from decision to running.
    private static let pauseBounds = [0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 20, 35, 60, 100, 250, 1000]
    private static let phaseBounds = [0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 250, 1000]
    private static let holdBounds = [1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 200, 500, 1000, 5000].map(
        Double.init)
    private static let failoverBounds = [10, 20, 30, 40, 60, 80, 100, 150, 250, 500, 1000, 2500, 5000, 10000].map(
        Double.init)

    private static func milliseconds(_ values: [Double]) -> [UInt64] {
        values.map { UInt64(($0 * 1e6).rounded()) }
    }
}
