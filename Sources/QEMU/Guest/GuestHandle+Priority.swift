import Hypervisor
import LinuxSystem

extension GuestHandle {
    private static let encoderPriority: Int32 = 3

    /// With busy vCPUs most of a long pause is waiting for a processor: QEMU's threads that serve a checkpoint (all but the
    /// vCPUs), the calling one, `helper` and `encoder` come first from here on, until what is returned goes. Nil, and a line
    /// in the log, where that is not allowed.
    package func raisePriority(and helper: Int32?, encoder: Int32?) -> EpochPriority? {
        do {
            return EpochPriority(
                checkpoint: try RealTimePriority(
                    threads: try monitor.servingThreads() + [NamedThread.currentID] + (helper.map { [$0] } ?? []),
                    priority: RealTimePriority.checkpoint),
                encoder: try encoder.map { (thread) throws(SystemError) in
                    try RealTimePriority(threads: [thread], priority: Self.encoderPriority)
                })
        } catch {
            log.warning("checkpoints of \(vm) wait for a processor like everything else: \(error)")
            return nil
        }
    }
}

extension QMPConnection {
    /// QEMU's threads without its vCPUs.
    package func servingThreads() throws -> [Int32] {
        let vcpus = try execute("query-cpus-fast").array ?? []
        let running = Set(vcpus.compactMap { $0["thread-id"]?.int64 })
        return try ProcessFiles.threads(of: peer.pid).filter { !running.contains(Int64($0)) }
    }
}
