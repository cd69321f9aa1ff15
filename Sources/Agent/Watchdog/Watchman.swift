import Fencing
import LinuxSystem
import Logging
import NIOCore
import Synchronization

/// Keeps the watchdogs of this agent from acting - the host's device, the service manager - for as long as the agent can
/// answer for itself, and not a moment longer. What they do then: `docs/FENCING.md`.
final class Watchman: Sendable {
    /// One that acts unless it is petted in time.
    private struct Dog: Sendable {
        var name: String
        /// In nanoseconds.
        var timeout: UInt64
        /// Between two pettings, in nanoseconds.
        var interval: UInt64
        var pet: @Sendable (Watchman) -> Void
    }

    private let vouching: Vouching
    private let dogs: [Dog]
    private let device: Mutex<WatchdogDevice?>
    private let isStopped = Atomic(false)
    private let log: Logger

    /// Opens the device, which starts it.
    init(
        device wanted: Configuration.Watchdog?, serviceManager: ServiceManager, group: any EventLoopGroup, log: Logger
    ) throws(SystemError) {
        vouching = Vouching(group: group)
        self.log = log
        var taken: WatchdogDevice?
        var dogs: [Dog] = []
        if let period = serviceManager.watchdogNanoseconds {
            // sd_watchdog_enabled(3): at half of the time.
            dogs.append(
                Dog(
                    name: "the service manager", timeout: period, interval: period / 2,
                    pet: { _ in serviceManager.pet() }))
        }
        if let wanted {
            let opened = try WatchdogDevice(path: wanted.device, timeoutSeconds: wanted.timeoutSeconds)
            if opened.timeoutSeconds != wanted.timeoutSeconds {
                log.warning(
                    "\(wanted.device) acts after \(opened.timeoutSeconds) s, not after the \(wanted.timeoutSeconds) s of the configuration"
                )
            }
            let timeout = UInt64(max(1, opened.timeoutSeconds)) * 1_000_000_000
            taken = consume opened
            dogs.append(Dog(name: wanted.device, timeout: timeout, interval: timeout / 4, pet: { $0.petDevice() }))
        }
        device = Mutex(consume taken)
        self.dogs = dogs
        if !dogs.isEmpty { _ = try NamedThread.start("watchdog") { [self] in watch() } }
    }

    /// Ends the petting. The device is disarmed where nothing that runs here has to be made sure to stop.
    func stop(disarming: Bool) {
        isStopped.store(true, ordering: .releasing)
        device.withLock { device in
            guard let taken = device.take() else { return }
            if disarming { taken.disarm() }
        }
    }

    private func petDevice() {
        device.withLock { device in
            guard let taken = device.take() else { return }
            taken.pet()
            device = consume taken
        }
    }

    private func watch() {
        let tick = min(500_000_000, (dogs.map(\.interval).min() ?? 0) / 2)
        var petted = [UInt64](repeating: 0, count: dogs.count)
        var complained = [Bool](repeating: false, count: dogs.count)
        while !isStopped.load(ordering: .acquiring) {
            vouching.ask()
            let now = MonotonicClock.now()
            for (index, dog) in dogs.enumerated() where now >= petted[index] + dog.interval {
                if let (part, silence) = vouching.silent(for: dog.timeout / 2) {
                    if !complained[index] {
                        log.critical(
                            "\(dog.name) is not petted: \(part) has not answered for \(silence / 1_000_000) ms")
                    }
                    complained[index] = true
                } else {
                    complained[index] = false
                    petted[index] = now
                    dog.pet(self)
                }
            }
            MonotonicClock.sleep(until: MonotonicClock.now() + tick)
        }
    }
}
