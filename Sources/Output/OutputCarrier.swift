import Carriers
import GuestNetwork
import Hypervisor
import LinuxSystem
import Logging
import Model

/// A guest's output, NIC by NIC: each frame waits at its gate for the acknowledgement of its epoch, and travels with the epoch,
/// so that the standby can let it out. Who releases it has the gates.
package final class OutputCarrier: Carrier {
    package let kind = CarrierKind.output
    private var outputs: [NICOutput] = []
    /// What the last cut ended.
    private var ended: [HeldOutput] = []
    private let guest: any Guest
    private let log: Logger
    private let hand: (HeldOutput) -> Void
    private let firstHeld: @Sendable () -> Void

    /// What may leave is delivered within this before a filter is taken out, in nanoseconds, of all NICs together.
    private static let deliveryTimeout: UInt64 = 1_000_000_000

    /// - Parameters:
    ///   - hand: takes the output of a NIC's epoch to the standby.
    ///   - firstHeld: called on a gate's thread when the first output of an epoch is held.
    package init(
        of guest: any Guest, log: Logger, hand: @escaping (HeldOutput) -> Void,
        firstHeld: @escaping @Sendable () -> Void
    ) {
        self.guest = guest
        self.log = log
        self.hand = hand
        self.firstHeld = firstHeld
    }

    package var gates: [OutputGate] { outputs.map(\.gate) }
    /// When the first output of the epoch that runs began to wait; nil while there is none.
    package var firstHeldAt: UInt64? { outputs.lazy.compactMap(\.gate.firstHeldAt).min() }
    /// What waits for the standby, over all epochs.
    package var heldBytes: Int { outputs.reduce(0) { $0 + $1.gate.held.bytes } }
    package var heldFrames: Int { outputs.reduce(0) { $0 + $1.gate.held.frames } }

    /// From here on what the guest sends takes the way through the gates, unheld.
    package func prepare(_ look: Look) throws(SessionError) -> String? {
        for nic in guest.offeredNICs { outputs.append(try NICOutput(nic, of: guest, firstHeld: firstHeld)) }
        return nil
    }

    package func cut(_ epoch: Epoch, isFirst: Bool) throws(SessionError) {
        ended.removeAll(keepingCapacity: true)
        do throws(GateError) {
            for output in outputs {
                if isFirst {
                    try output.gate.startHolding(next: epoch.next)
                } else {
                    ended.append(try output.gate.cut(epoch))
                }
            }
        } catch {
            throw SessionError(.qemu, "\(guest.vm) cannot be checkpointed: \(error)")
        }
    }

    package func ship(_ epoch: Epoch) { for output in ended where output.frames > 0 { hand(output) } }

    package func complete(_ epoch: Epoch, _ timings: inout EpochTimings) {
        timings.heldFrames = UInt64(ended.reduce(0) { $0 + $1.frames })
        timings.heldBytes = UInt64(ended.reduce(0) { $0 + $1.bytes.count })
        ended.removeAll(keepingCapacity: true)
    }

    package func detach() {
        let deadline = MonotonicClock.now() + Self.deliveryTimeout
        for output in outputs {
            guest.standstill.passed(.change)
            _ = output.gate.waitUntilDelivered(deadline: deadline)
            guest.standstill.passed(.delivery)
            output.gate.close()
            do throws(SessionError) {
                try output.detach()
            } catch {
                log.warning("a filter could not be taken out of \(guest.vm): \(error)")
            }
        }
        outputs = []
    }

    /// What is still held is dropped.
    package func close() {
        for output in outputs { output.gate.close() }
        outputs = []
    }
}
