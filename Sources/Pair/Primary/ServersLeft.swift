import Disk
import Hypervisor
import LinuxSystem
import Model
import Shipping

/// The servers of disks that an earlier agent left to a guest.
struct ServersLeft {
    private let shell: PrimaryShell
    /// For so long it is tried to ask for them, in nanoseconds.
    private static let askingMax: UInt64 = 20_000_000_000

    init(_ shell: PrimaryShell) { self.shell = shell }

    /// Throws where the guest's disks are not known to be whole here. When nobody could be asked that is tried for a while, behind
    /// the gate that stands as long as this session has the guest.
    func look(at guest: any Guest, _ places: ServingPlaces) throws(SessionError) {
        let end = MonotonicClock.now() + Self.askingMax
        var isTold = false
        while true {
            do throws(SessionError) {
                _ = try LeftServers(of: guest, places)
                return
            } catch {
                guard shell.origin.asksAgain(after: error), guest.isAlive, MonotonicClock.now() < end else {
                    throw error
                }
                if !isTold { shell.report(.event(.state, "\(error.message): its disks are asked for again")) }
                isTold = true
                waitReadable([shell.wake.number], nanoseconds: 500_000_000)
                _ = shell.wake.take()
            }
        }
    }
}
