import Glibc
import Synchronization

/// Keeps this host's processors out of sleep that they wake from slowly, while somebody of this process waits for them.
///
/// A checkpoint passes from thread to thread, and each of them finds a processor that sleeps: it wakes within a microsecond from
/// the lightest sleep, within a hundred from the deepest, and a virtual processor only when its host runs it again. The kernel
/// takes a request for how long that may last in `/dev/cpu_dma_latency`, as 32 bits of microseconds
/// (Documentation/power/pm_qos_interface.rst), and forgets it with its descriptor: a process that is killed leaves nothing
/// behind. It is for all processors; one that nobody needs computes nothing in its light sleep, but takes more power. Needs root.
public final class ProcessorSleep: Sendable {
    /// As far as light sleep goes, in microseconds.
    private static let lightest: Int32 = 3
    /// The request of who has none (PM_QOS_DEFAULT_VALUE).
    private static let unlimited: Int32 = -1

    private let descriptor: OwnedDescriptor
    /// How long waking may take while it is limited, in microseconds; 0 lets no processor sleep at all.
    public let limit: Int32
    private let holders = Mutex(0)

    /// - Parameters:
    ///   - device: where the kernel takes requests.
    ///   - states: where it tells of the processors' sleep.
    public init(
        device: String = "/dev/cpu_dma_latency", states: String = "/sys/devices/system/cpu"
    ) throws(SystemError) {
        let number = open(device, O_WRONLY | O_CLOEXEC)
        guard number >= 0 else {
            throw SystemError(
                operation: "open", errno: errno, subject: device,
                advice: "run the agent as root, or switch “defaults.awake” off")
        }
        descriptor = OwnedDescriptor(owning: number)
        limit = Self.lightLimit(states)
    }

    /// The time that the deepest of the light kinds of sleep takes to wake from. In a virtual machine all of them are told to be
    /// light and none is.
    private static func lightLimit(_ states: String) -> Int32 {
        guard let driver = try? Files.text(of: states + "/cpuidle/current_driver"), !driver.hasPrefix("haltpoll") else {
            return 0
        }
        var limit: Int32 = 0
        var index = 0
        while let text = try? Files.text(of: "\(states)/cpu0/cpuidle/state\(index)/latency") {
            if let latency = Int32(text.prefix { $0.isNumber }), latency <= lightest { limit = max(limit, latency) }
            index += 1
        }
        return limit
    }

    /// From here on processors sleep lightly, until `release` was called as often.
    public func hold() {
        holders.withLock { holders in
            holders += 1
            if holders == 1 { request(limit) }
        }
    }

    public func release() {
        holders.withLock { holders in
            precondition(holders > 0, "processors are let sleep more often than they were held awake")
            holders -= 1
            if holders == 0 { request(Self.unlimited) }
        }
    }

    private func request(_ microseconds: Int32) {
        var value = microseconds
        // The kernel refuses no such request; if it did, checkpoints would merely take longer.
        _ = write(descriptor.number, &value, 4)
    }
}
