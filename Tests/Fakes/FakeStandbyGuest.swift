import Hypervisor
import Model
import Synchronization

/// A waiting guest that notes what was done with it.
package final class FakeStandbyGuest: StandbyGuest {
    package enum Deed: Equatable {
        /// The blocks' numbers and bytes, and the device state.
        case load([Int: [UInt8]], state: [UInt8])
        case send(nic: String, [UInt8])
        case run, forgetSharing
        case removeOutlet(nic: String)
        case close, kill
    }

    package let pid: Int32
    package let isLoaded: Bool
    package private(set) var deeds: [Deed] = []
    private let end = Mutex<String?>(nil)
    package var ending: String? { end.withLock { $0 } }
    /// What refuses to be done.
    package var failing: Set<FakeStandbys.Step> = []

    package init(pid: Int32, isLoaded: Bool) {
        (self.pid, self.isLoaded) = (pid, isLoaded)
    }

    package var exitDescriptor: Int32 { -1 }

    package func servingThreads() throws(SessionError) -> [Int32] { throw SessionError(.qemu, "a fake has no threads") }

    package func outlet(of nic: GuestNIC, index: UInt16) throws(SessionError) -> any NICOutlet {
        try check(.outlet, .refused)
        return Outlet(nic.name, of: self)
    }

    package func load(_ memory: [BlockContents], deviceState: [UInt8]) throws(SessionError) {
        try check(.load, .qemu)
        note(.load(Dictionary(uniqueKeysWithValues: memory.map { ($0.block, Array($0.bytes)) }), state: deviceState))
    }

    package func run() throws(SessionError) {
        try check(.run, .qemu)
        note(.run)
    }

    package func forgetSharing() throws(SessionError) { note(.forgetSharing) }
    package func close() { note(.close) }

    package func kill() {
        note(.kill)
        end(by: 9)
    }

    /// It ends by itself, in a test's thread.
    package func end(by signal: Int) { end.withLock { $0 = "was ended by signal \(signal)" } }

    private func note(_ deed: Deed) { deeds.append(deed) }

    private func check(_ step: FakeStandbys.Step, _ code: SessionError.Code) throws(SessionError) {
        if failing.contains(step) { throw SessionError(code, "the fake refuses to \(step)") }
    }

    private final class Outlet: NICOutlet {
        private let nic: String
        private unowned let guest: FakeStandbyGuest

        init(_ nic: String, of guest: FakeStandbyGuest) { (self.nic, self.guest) = (nic, guest) }

        func send(_ frames: [UInt8]) { guest.note(.send(nic: nic, frames)) }
        func remove() throws(SessionError) { guest.note(.removeOutlet(nic: nic)) }
    }
}
