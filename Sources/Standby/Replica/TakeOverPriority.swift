import Hypervisor
import LinuxSystem

/// Real-time priority of a waiting guest, undone with its owner.
///
/// The guest is away for as long as it is loaded, whatever else the host does then: what loads it comes first. Waiting, it wants
/// nothing.
final class TakeOverPriority {
    /// Of its threads but the vCPUs, and of the thread that has it load the state: until the guest runs here.
    private let serving: RealTimePriority
    private var caller: RealTimePriority?
    /// Of the vCPUs, which take the hypervisor's lock while it loads: until they are let run.
    private var vcpus: RealTimePriority?

    init(raising guest: any StandbyGuest) throws {
        let threads = try guest.servingThreads()
        let others = Set(try ProcessFiles.threads(of: guest.pid)).subtracting(threads)
        serving = try RealTimePriority(threads: threads, priority: RealTimePriority.checkpoint)
        vcpus = try RealTimePriority(threads: others.sorted(), priority: RealTimePriority.checkpoint)
    }

    /// The calling thread is about to load the state.
    func raiseCaller() {
        caller = try? RealTimePriority(threads: [NamedThread.currentID], priority: RealTimePriority.checkpoint)
    }

    /// The vCPUs are about to run.
    func lowerVCPUs() { vcpus = nil }
}
