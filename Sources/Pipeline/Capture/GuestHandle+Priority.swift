import LinuxSystem
import QEMU

extension GuestHandle {
    /// With busy vCPUs most of a long pause is waiting for a processor: QEMU's threads that serve a checkpoint (all but the
    /// vCPUs), the calling one and `helper` come first from here on, until what is returned goes. Nil, and a line in the
    /// log, where that is not allowed.
    func raisePriority(and helper: Int32?) -> RealTimePriority? {
        do {
            let vcpus = try monitor.execute("query-cpus-fast").array ?? []
            let running = Set(vcpus.compactMap { $0["thread-id"]?.int64 })
            let others = try ProcessFiles.threads(of: pid).filter { !running.contains(Int64($0)) }
            return try RealTimePriority(
                threads: others + [NamedThread.currentID] + (helper.map { [$0] } ?? []), priority: 5)
        } catch {
            log.warning("checkpoints of \(vm) wait for a processor like everything else: \(error)")
            return nil
        }
    }
}
