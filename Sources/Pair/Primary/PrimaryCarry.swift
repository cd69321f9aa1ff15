import Foundation
import Hypervisor
import LinuxSystem
import Messages
import Model
import NIOCore
import Protocol
import Shipping
import Synchronization
import TapDetour
import Transport
import Wire

/// The part *detour* of a guest at level `component`, for one session: watches the uplinks of its bridges with the standby, and carries
/// out what `CarryMachine` decides about each NIC. One thread; the link's event loop hands in what the standby says.
final class PrimaryCarry: Sendable {
    fileprivate struct NIC {
        let index: UInt16
        let netdev: String
        let tap: String
        let address: [UInt8]
        let watch: Uplinks.Watch
        var machine = CarryMachine()
        /// The last order to the standby, and whether its port was to be inside.
        var order: UInt32 = 0
        var wantsInside = false
        /// What it said last.
        var news: CarryNews?
        var carried: CarriedTap?
        var pump: FramePump?
        var cause: CarryMachine.Cause?
        /// Since when the standby's port is inside.
        var since: Date?
    }

    private struct State {
        var nics: [NIC] = []
        var answer: AttachedMessage?
        var isStopped = false
    }

    /// The standby makes its ports within this, in nanoseconds.
    private static let attachMax: UInt64 = 10_000_000_000
    /// How often the machines are asked, in nanoseconds.
    private static let period: UInt64 = 20_000_000

    private weak let shell: PrimaryShell?
    private let vm: VMName
    private let peer: NodeName
    private let guest: GuestDescription
    private let uplinks: Uplinks
    private let link: Link
    private let wake: SharedEvent
    private let state = Mutex(State())

    /// `hear` of the duty follows, with what came of it.
    init(_ shell: PrimaryShell, _ guest: GuestDescription, _ uplinks: Uplinks, to peer: NodeName, over link: Link)
        throws(SystemError)
    {
        self.shell = shell
        vm = shell.options.vm
        self.peer = peer
        self.guest = guest
        self.uplinks = uplinks
        self.link = link
        wake = try SharedEvent()
        _ = try NamedThread.start("carry-\(vm)") { [self] in run() }
    }

    /// Why the guest's frames cannot be carried, as far as this host is concerned; nil when they can.
    static func obstacle(_ guest: GuestDescription, _ uplinks: Uplinks?) -> String? {
        guard uplinks != nil else { return "this agent watches no uplinks" }
        do throws(CarryObstacle) {
            for nic in guest.nics where nic.netdev != nil { _ = try Bridges.bridge(of: nic.interface ?? "") }
            return nil
        } catch {
            return "\(error)"
        }
    }

    // MARK: - From any thread

    var carried: [CarriedNIC] {
        state.withLock { state in
            state.nics.compactMap { nic in
                guard let since = nic.since, let cause = nic.cause else { return nil }
                return CarriedNIC(
                    nic: nic.netdev, bridge: nic.watch.bridge, reason: cause.words(nic.watch.bridge), since: since)
            }
        }
    }

    /// The standby has its ports, or why not.
    func answered(_ message: AttachedMessage) {
        state.withLock { $0.answer = message }
        wake.signal()
    }

    /// What came over the link.
    func take(_ header: FrameHeader, _ body: ByteBuffer) throws(SessionError) {
        try body.parsed(from: "standby") { (bytes) throws(WireError) in
            if header.type == .carryNews {
                take(try CarryNews(parsing: bytes))
            } else {
                deliver(try CarriedFrames(parsing: bytes))
            }
        }
    }

    private func take(_ news: CarryNews) {
        state.withLock { state in
            guard let index = state.nics.firstIndex(where: { $0.index == news.nic }) else { return }
            state.nics[index].news = news
        }
        wake.signal()
    }

    /// Frames of the network, for the guest.
    private func deliver(_ frames: CarriedFrames) {
        guard let tap = state.withLock({ $0.nics.first { $0.index == frames.nic }?.carried }) else { return }
        frames.forEachPacket { _ = tap.send($0) }
    }

    /// Every NIC is at its own bridge when this returns, and stays there.
    func stop() {
        let left = state.withLock { state -> [NIC] in
            defer { (state.isStopped, state.nics) = (true, []) }
            return state.isStopped ? [] : state.nics
        }
        for nic in left {
            nic.pump?.stop()
            do throws(DetourError) {
                try nic.carried?.release(announcing: nic.address)
                if nic.since != nil { tellHome(nic) }
            } catch {
                tellStuck(nic, error)
            }
        }
        wake.signal()
    }

    private func tellHome(_ nic: NIC) {
        tell(
            .carriedHome,
            "the frames of \(vm)'s NIC \(nic.netdev) take the way through bridge \(nic.watch.bridge) again")
    }

    private func tellStuck(_ nic: NIC, _ failure: DetourError) {
        tell(.error, "what carried the frames of \(vm)'s NIC \(nic.netdev) cannot be taken away: \(failure)")
    }

    private func tell(_ kind: EventKind, _ text: String) { shell?.report(.event(kind, text)) }

    // MARK: - The thread

    private func run() {
        if let obstacle = prepare() {
            stop()
            shell?.tell { $0.hear(.attachFailed(.detour, obstacle)) }
            return
        }
        shell?.tell { $0.hear(.attached(.detour)) }
        while !state.withLock({ $0.isStopped }), let shell {
            let (mayLeave, isUp) = shell.state.withLock { ($0.duty.mayCarry, $0.duty.connection.linkDown == nil) }
            // Nobody carries anything any more: the guest is better off at home.
            guard isUp else { return stop() }
            look(mayLeave: mayLeave)
            waitReadable([wake.number], nanoseconds: wait)
            wake.take()
        }
    }

    /// Until the machines are asked again.
    private var wait: UInt64 {
        let now = MonotonicClock.now()
        let due = state.withLock { $0.nics.compactMap(\.machine.due).filter { $0 > now }.min() } ?? .max
        return min(due - now, Self.period)
    }

    /// Returns why the part cannot be had.
    private func prepare() -> String? {
        var offered: [OfferedNIC] = []
        for (index, nic) in guest.nics.enumerated() {
            guard let netdev = nic.netdev else { continue }
            let watch: Uplinks.Watch
            do {
                let bridge = try Bridges.bridge(of: nic.interface ?? "")
                watch = try uplinks.watch(bridge, peer: "\(peer)") { [weak self] in self?.wake.signal() }
            } catch {
                return "\(error)"
            }
            offered.append(OfferedNIC(index: UInt16(index), netdev: netdev))
            let new = NIC(
                index: UInt16(index), netdev: netdev, tap: nic.interface ?? "", address: nic.address, watch: watch)
            state.withLock { if !$0.isStopped { $0.nics.append(new) } }
        }
        link.send(AttachMessage(.detour, blocks: [], nics: offered).frame)
        let deadline = MonotonicClock.now() + Self.attachMax
        while MonotonicClock.now() < deadline, link.isOpen {
            let (answer, isStopped) = state.withLock { ($0.answer, $0.isStopped) }
            if isStopped { return "the session ended" }
            if let answer { return answer.refusal.map { "at \(peer): \($0)" } }
            waitReadable([wake.number], nanoseconds: 100_000_000)
            wake.take()
        }
        return link.isOpen ? "\(peer) did not answer within 10 s" : "the link to \(peer) is down"
    }

    /// Asks each machine, and does what it wants.
    private func look(mayLeave: Bool) {
        let now = MonotonicClock.now()
        let count = state.withLock { $0.nics.count }
        for index in 0..<count {
            let actions = state.withLock { state -> [CarryMachine.Action] in
                guard index < state.nics.count else { return [] }
                return state.nics[index].decide(mayLeave: mayLeave, at: now)
            }
            for action in actions { perform(action, index) }
        }
    }

    private func perform(_ action: CarryMachine.Action, _ index: Int) {
        switch action {
        case .lead(let cause): lead(cause, index)
        case .callBack: order(index, isInside: false)
        case .arrived(let cause):
            guard let nic = change(index, { $0.since = Date() }) else { return }
            tell(
                .carried,
                "the frames of \(vm)'s NIC \(nic.netdev) travel through \(peer): \(cause.words(nic.watch.bridge))")
        case .release: release(index)
        }
    }

    /// Nil when all is over.
    private func change(_ index: Int, _ body: (inout NIC) -> Void) -> NIC? {
        state.withLock { state in
            guard index < state.nics.count else { return nil }
            body(&state.nics[index])
            return state.nics[index]
        }
    }

    private func order(_ index: Int, isInside: Bool) {
        let nic = change(index) { nic in
            nic.order += 1
            nic.wantsInside = isInside
        }
        guard let nic else { return }
        link.send(controlFrame(CarryOrder(nic: nic.index, isInside: isInside, order: nic.order)))
    }

    private func lead(_ cause: CarryMachine.Cause, _ index: Int) {
        // The dial has to know first.
        shell?.tell { [peer] in $0.hear(.livesBy(.detour, "a NIC is carried through \(peer)")) }
        var failure: String?
        let nic = change(index) { nic in
            do {
                let carried = try CarriedTap(nic.tap)
                nic.pump = try FramePump(
                    "pump-\(vm)", nic: nic.index, of: carried, carried.descriptor, to: link)
                (nic.carried, nic.cause) = (carried, cause)
            } catch {
                failure = "\(error)"
            }
        }
        guard let nic else { return }
        guard let failure else { return order(index, isInside: true) }
        tell(.error, "the frames of \(vm)'s NIC \(nic.netdev) cannot be carried: \(failure)")
        let actions = state.withLock { state in
            index < state.nics.count ? state.nics[index].machine.handle(.failed, at: MonotonicClock.now()) : []
        }
        for action in actions { perform(action, index) }
    }

    private func release(_ index: Int) {
        var failure: DetourError?
        var wasCarried = false
        let nic = change(index) { nic in
            nic.pump?.stop()
            wasCarried = nic.since != nil
            do throws(DetourError) {
                try nic.carried?.release(announcing: nic.address)
            } catch {
                failure = error
            }
            (nic.pump, nic.carried, nic.since, nic.cause) = (nil, nil, nil, nil)
        }
        guard let nic else { return }
        if let failure { tellStuck(nic, failure) }
        if wasCarried {
            tellHome(nic)
        } else if failure == nil {
            tell(.error, "\(peer) did not let the frames of \(vm)'s NIC \(nic.netdev) into its bridge")
        }
        if state.withLock({ $0.nics.allSatisfy { $0.carried == nil } }) {
            shell?.tell { $0.hear(.livesBy(.detour, nil)) }
        }
    }
}

extension PrimaryCarry.NIC {
    /// What follows from what is seen now, and from what the standby says of the last order.
    fileprivate mutating func decide(mayLeave: Bool, at now: UInt64) -> [CarryMachine.Action] {
        var actions: [CarryMachine.Action] = []
        if let news, order > 0, news.order == order {
            actions += machine.handle(news.isInside == wantsInside ? .done : .failed, at: now)
        }
        return actions
            + machine.handle(.looked(own: watch.sight, other: news?.sight, mayLeave: mayLeave), at: now)
    }
}
