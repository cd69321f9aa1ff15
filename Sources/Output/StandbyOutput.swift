import GuestNetwork
import Hypervisor
import Model

/// The ways out at a standby for held frames, one for each NIC of a session.
package final class StandbyOutput {
    private var outlets: [UInt16: any NICOutlet] = [:]

    /// Makes them in the waiting `standby` of `guest`.
    package init(
        _ nics: [OfferedNIC], of guest: GuestDescription, through standby: any StandbyGuest
    ) throws(SessionError) {
        for nic in nics {
            guard Int(nic.index) < guest.nics.count else {
                throw SessionError(.protocolBroken, "the offer names NIC \(nic.index), which its guest does not have")
            }
            outlets[nic.index] = try standby.outlet(of: guest.nics[Int(nic.index)], index: nic.index)
        }
    }

    /// Lets out what was held, in order; returns how many frames had a way.
    package func send(_ held: [HeldOutput]) -> Int {
        var frames = 0
        for output in held where output.frames > 0 {
            guard let outlet = outlets[output.nic] else { continue }
            frames += output.frames
            outlet.send(output.bytes)
        }
        return frames
    }

    /// Takes them out of the guest, which runs on; `failed` hears of each that stays.
    package func detach(failed: (SessionError) -> Void) {
        for (_, outlet) in outlets.sorted(by: { $0.key < $1.key }) {
            do throws(SessionError) { try outlet.remove() } catch { failed(error) }
        }
        outlets = [:]
    }
}
