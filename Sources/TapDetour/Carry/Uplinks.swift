import Glibc
import LinuxSystem
import Model
import Synchronization

/// Watches the uplinks of bridges, for all guests of a host: whether they have a carrier, and whether another host is heard through
/// them. One thread, which works only while something is watched.
public final class Uplinks: Sendable {
    /// How often probes are sent and looked for, in nanoseconds.
    private static let period: UInt64 = 100_000_000
    /// A look at the devices that no message asked for, in periods.
    private static let lookEvery = 20
    /// The window in which senders are counted, in periods.
    static let window: UInt32 = 8

    struct Place: Hashable {
        var bridge: String
        var peer: String
    }

    struct Watched {
        var watchers: [UInt64: @Sendable () -> Void] = [:]
        var isHeard = true
        var missed: UInt32 = 0
        var senders: Set<[UInt8]> = []
        var sources: UInt32 = 0

        /// A period is over.
        mutating func count() {
            missed = isHeard ? 0 : missed &+ 1
            isHeard = false
            if missed <= 1 { (senders, sources) = ([], 0) }
            guard missed > 0, missed % Uplinks.window == 0 else { return }
            (sources, senders) = (UInt32(senders.count), [])
        }
    }

    private struct State {
        var places: [Place: Watched] = [:]
        var links: [NetworkLink] = []
        var nextNumber: UInt64 = 0
        var isRunning = false
    }

    private let node: String
    /// Whether probes are sent, and expected.
    private let probes: Bool
    private let state = Mutex(State())
    private let wake = Mutex<SharedEvent?>(nil)

    /// - Parameter node: this host's name, as the other hosts know it.
    public init(node: String, probes: Bool) {
        self.node = node
        self.probes = probes
    }

    /// What is watched of a bridge for as long as it lives.
    public final class Watch: Sendable {
        private let uplinks: Uplinks
        private let place: Place
        private let number: UInt64
        public var bridge: String { place.bridge }
        public var sight: UplinkSight { uplinks.sight(place) }

        fileprivate init(_ uplinks: Uplinks, _ place: Place, _ number: UInt64) {
            (self.uplinks, self.place, self.number) = (uplinks, place, number)
        }

        deinit { uplinks.end(place, number) }
    }

    /// - Parameters:
    ///   - peer: the host whose probes are expected there.
    ///   - changed: called when a device changed, on a thread that must not wait.
    public func watch(
        _ bridge: String, peer: String, changed: @escaping @Sendable () -> Void
    ) throws(SystemError) -> Watch {
        let place = Place(bridge: bridge, peer: peer)
        let number = state.withLock { state in
            state.nextNumber += 1
            state.places[place, default: Watched()].watchers[state.nextNumber] = changed
            return state.nextNumber
        }
        let watch = Watch(self, place, number)
        // The thread ends when nothing is watched.
        try start()
        look()
        return watch
    }

    private func end(_ place: Place, _ number: UInt64) {
        let isLast = state.withLock { state in
            state.places[place]?.watchers[number] = nil
            if state.places[place]?.watchers.isEmpty == true { state.places[place] = nil }
            return state.places.isEmpty
        }
        if isLast { wake.withLock { $0 }?.signal() }
    }

    private func sight(_ place: Place) -> UplinkSight {
        state.withLock { state in
            let watched = state.places[place]
            guard let bridge = state.links.first(where: { $0.name == place.bridge }) else {
                return UplinkSight(isThere: false, isConnected: false, missed: probes ? 0 : nil, sources: 0)
            }
            let uplinks = Bridges.uplinks(of: bridge.number, in: state.links)
            return UplinkSight(
                isThere: !uplinks.isEmpty, isConnected: uplinks.contains(where: \.isConnected),
                missed: probes ? watched?.missed ?? 0 : nil, sources: watched?.sources ?? 0)
        }
    }

    // MARK: - The thread

    private func start() throws(SystemError) {
        let wasRunning = state.withLock { state in
            defer { state.isRunning = true }
            return state.isRunning
        }
        guard !wasRunning else { return }
        do throws(SystemError) {
            let own = try SharedEvent()
            let links = try LinkWatch("uplink-links") { [weak self] in
                self?.look()
                return true
            }
            wake.withLock { $0 = own }
            _ = try NamedThread.start("uplinks") { [weak self] in
                var sockets: [UInt32: UplinkSocket] = [:]
                var (next, turns) = (MonotonicClock.now(), 0)
                while true {
                    Self.wait(own.number, sockets, until: next)
                    own.take()
                    guard let self, turn(&sockets, &next, &turns) else { break }
                }
                _ = links
            }
        } catch {
            state.withLock { $0.isRunning = false }
            throw error
        }
    }

    /// What the devices are like now.
    private func look() {
        guard let links = try? NetworkLinks.all() else { return }
        let watchers = state.withLock { state -> [@Sendable () -> Void] in
            guard state.links != links else { return [] }
            state.links = links
            return state.places.values.flatMap { $0.watchers.values }
        }
        for watcher in watchers { watcher() }
    }

    private static func wait(_ wake: Int32, _ sockets: [UInt32: UplinkSocket], until deadline: UInt64) {
        var poller = Poller(capacity: sockets.count + 1)
        _ = poller.add(wake)
        for socket in sockets.values { _ = poller.add(socket.number) }
        let now = MonotonicClock.now()
        _ = try? poller.wait(timeout: deadline > now ? deadline - now : 0)
    }

    /// False when there is nothing to do any more.
    private func turn(
        _ sockets: inout [UInt32: UplinkSocket], _ next: inout UInt64, _ turns: inout Int
    ) -> Bool {
        let isOver = state.withLock { state in
            if state.places.isEmpty { state.isRunning = false }
            return state.places.isEmpty
        }
        if isOver { return false }
        if probes { hear(sockets) }
        let now = MonotonicClock.now()
        guard now >= next else { return true }
        // After a late turn the next one is a whole period away: what was not heard meanwhile was not listened for.
        next = now + Self.period
        turns = (turns + 1) % Self.lookEvery
        if turns == 0 { look() }
        if probes { probe(&sockets) }
        return true
    }

    private func hear(_ sockets: [UInt32: UplinkSocket]) {
        for socket in sockets.values {
            let bridge = state.withLock { state in state.links.first { $0.number == socket.link.master }?.name }
            guard let bridge else { continue }
            socket.take { frame in
                state.withLock { state in
                    if let peer = Probe.node(of: frame) {
                        state.places[Place(bridge: bridge, peer: peer)]?.isHeard = true
                    } else if frame.count >= 14 {
                        let sender = Array(frame[6..<12])
                        for place in state.places.keys where place.bridge == bridge {
                            guard let watched = state.places[place], watched.missed > 0, watched.senders.count < 4096
                            else { continue }
                            state.places[place]?.senders.insert(sender)
                        }
                    }
                }
            }
        }
    }

    private func probe(_ sockets: inout [UInt32: UplinkSocket]) {
        let (uplinks, missing) = state.withLock { state in
            for place in state.places.keys { state.places[place]?.count() }
            var uplinks: [NetworkLink] = []
            var missing: Set<UInt32> = []
            for bridge in Set(state.places.keys.map(\.bridge)) {
                guard let link = state.links.first(where: { $0.name == bridge }) else { continue }
                uplinks += Bridges.uplinks(of: link.number, in: state.links)
                let isMissed = state.places.contains { $0.key.bridge == bridge && $0.value.missed > 0 }
                if isMissed { missing.insert(link.number) }
            }
            return (uplinks, missing)
        }
        for gone in Set(sockets.keys).subtracting(uplinks.map(\.number)) { sockets[gone] = nil }
        for link in uplinks {
            if sockets[link.number] == nil { sockets[link.number] = try? UplinkSocket(at: link) }
            guard let socket = sockets[link.number] else { continue }
            socket.hear(all: link.master.map(missing.contains) ?? false)
            socket.send(Probe.frame(of: node, from: link.address))
        }
    }
}
