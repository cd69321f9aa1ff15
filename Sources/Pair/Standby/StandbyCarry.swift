import Hypervisor
import LinuxSystem
import Messages
import Model
import NIOCore
import Protocol
import Shipping
import Standby
import Synchronization
import TapDetour
import Transport
import Wire

/// The standby's part *detour* at level `component`: a port for each NIC of the guest, which is in the bridge only while the primary
/// wants it there, and what this host sees of its uplinks. Closed before this host asks for the guest: from then on nothing that is
/// carried leaves here (I39).
final class StandbyCarry: Sendable {
    private struct NIC {
        let index: UInt16
        let address: [UInt8]
        let port: CarryPort
        let watch: Uplinks.Watch
        var pump: FramePump?
        /// The last order that came, and the last that was carried out.
        var wanted: CarryOrder?
        var done: UInt32 = 0
    }

    private struct State {
        var nics: [NIC] = []
        var isClosed = false
    }

    /// How often the primary is told, in nanoseconds.
    private static let period: UInt64 = 50_000_000

    private let vm: VMName
    private let link: Link
    private let log: @Sendable (String) -> Void
    private let wake: SharedEvent
    private let state: Mutex<State>

    /// Makes the ports. Throws what stands in the way, as a sentence.
    init(
        _ offered: [OfferedNIC], of replica: Replica, _ uplinks: Uplinks, over link: Link,
        log: @escaping @Sendable (String) -> Void
    ) throws {
        vm = replica.offer.vm
        self.link = link
        self.log = log
        let wake = try SharedEvent()
        self.wake = wake
        var nics: [NIC] = []
        for nic in offered {
            let described = replica.offer.guest.nics
            guard Int(nic.index) < described.count else {
                throw SessionError(.protocolBroken, "the guest has no NIC \(nic.index)")
            }
            let own = described[Int(nic.index)]
            guard let tap = replica.tap(of: own) else {
                throw SessionError(.refused, "no tap is known here for NIC \(own.name) (netdev \(nic.netdev))")
            }
            let bridge = try Bridges.bridge(of: tap)
            let watch = try uplinks.watch(bridge, peer: "\(replica.peer)") { wake.signal() }
            nics.append(
                NIC(index: nic.index, address: own.address, port: try CarryPort(for: bridge), watch: watch))
        }
        state = Mutex(State(nics: nics))
        _ = try NamedThread.start("carry-\(vm)") { [weak self] in
            while let self, self.turn() {}
        }
    }

    deinit { close() }

    /// What the primary asked for. On the apply thread.
    static func attach(_ message: AttachMessage, to shell: StandbyShell) {
        var carry: StandbyCarry?
        var refusal: String?
        if let uplinks = shell.custody.uplinks, let link = shell.state.withLock({ $0.link }) {
            do {
                carry = try StandbyCarry(message.nics, of: shell.replica, uplinks, over: link) {
                    [report = shell.report] in
                    report(.event(.error, $0))
                }
            } catch {
                refusal = "\(error)"
            }
        } else {
            refusal = "its agent watches no uplinks"
        }
        shell.state.withLock { $0.take(carry, refusal: refusal) }
    }

    // MARK: - From any thread

    /// No port is in a bridge when this returns, and none will be.
    func close() {
        state.withLock { state in
            for nic in state.nics {
                nic.port.leave()
                nic.pump?.stop()
            }
            (state.nics, state.isClosed) = ([], true)
        }
        wake.signal()
    }

    func take(_ order: CarryOrder) {
        state.withLock { state in
            guard let index = state.nics.firstIndex(where: { $0.index == order.nic }) else { return }
            state.nics[index].wanted = order
        }
        wake.signal()
    }

    /// Frames of the guest. Called under the session's lock, under which this is closed as well.
    func letOut(_ frames: CarriedFrames) {
        guard let port = state.withLock({ $0.nics.first { $0.index == frames.nic }?.port }) else { return }
        frames.forEachPacket { _ = port.send($0) }
    }

    // MARK: - The thread

    /// False when all is over.
    private func turn() -> Bool {
        let news = state.withLock { state -> [CarryNews]? in
            guard !state.isClosed else { return nil }
            for index in state.nics.indices { follow(&state.nics[index]) }
            return state.nics.map { nic in
                CarryNews(nic: nic.index, sight: nic.watch.sight, isInside: nic.port.isCarrying, order: nic.done)
            }
        }
        guard let news, link.isOpen else { return false }
        for one in news { link.send(controlFrame(one)) }
        waitReadable([wake.number], nanoseconds: Self.period)
        wake.take()
        return true
    }

    private func follow(_ nic: inout NIC) {
        guard let order = nic.wanted, order.order != nic.done else { return }
        nic.done = order.order
        guard order.isInside else {
            nic.port.leave()
            nic.pump?.stop()
            nic.pump = nil
            return
        }
        do {
            if nic.pump == nil {
                nic.pump = try FramePump("pump-\(vm)", nic: nic.index, of: nic.port, nic.port.descriptor, to: link)
            }
            try nic.port.enter(announcing: nic.address)
        } catch {
            nic.pump?.stop()
            nic.pump = nil
            log("the frames of \(vm) cannot be carried here: \(error)")
        }
    }
}
