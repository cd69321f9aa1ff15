import GuestNetwork
import Hypervisor
import Messages
import Model
import Output

/// A replica's QEMU with its ways out for held frames: it waits for the guest's state, or was started to boot the guest.
final class ReplicaGuest {
    private let vm: VMName
    private let guest: any StandbyGuest
    private let output: StandbyOutput
    /// From the beginning until it runs.
    private var priority: TakeOverPriority?

    /// One that cannot have its ways out is ended.
    init(_ guest: any StandbyGuest, of offer: OfferMessage) throws(SessionError) {
        (vm, self.guest) = (offer.vm, guest)
        do throws(SessionError) {
            output = try StandbyOutput(offer.nics, of: offer.guest, through: guest)
        } catch {
            Self.end(guest)
            throw error
        }
    }

    var pid: Int32 { guest.pid }
    var exitDescriptor: Int32 { guest.exitDescriptor }
    var ending: String? { guest.ending }
    var isLoaded: Bool { guest.isLoaded }

    /// - Parameter keeps: false gives back what an earlier run of the agent left raised.
    func raisePriority(keeps: Bool) throws {
        priority = try TakeOverPriority(raising: guest)
        if !keeps { priority = nil }
    }

    func load(_ memory: [BlockContents], deviceState: [UInt8]) throws(SessionError) {
        try guest.load(memory, deviceState: deviceState)
    }

    /// The thread that is about to load the state comes first.
    func raiseCaller() { priority?.raiseCaller() }

    func lowerVCPUs() { priority?.lowerVCPUs() }

    /// Lets out what was held, in order; returns how many frames had a way.
    func send(_ held: [HeldOutput]) -> Int { output.send(held) }

    func run() throws(SessionError) { try guest.run() }

    /// It runs: nothing of a replica's is left in it. `warn` is told what stays.
    func leave(warn: (String) -> Void) {
        do throws(SessionError) {
            try guest.forgetSharing()
        } catch {
            warn("\(vm) cannot be migrated by others before it is started anew: \(error)")
        }
        output.detach { warn("a filter could not be taken out of \(vm): \($0)") }
        priority = nil
        guest.close()
    }

    func kill() { guest.kill() }

    /// Returns when the process is gone.
    func end() { Self.end(guest) }

    /// The same before another one takes its place. Its ways out led into it, or lie at the taps that the next one opens.
    func giveWay() {
        end()
        priority = nil
        output.detach { _ in }
    }

    private static func end(_ guest: any StandbyGuest) { repeat { guest.kill() } while guest.ending == nil }
}
