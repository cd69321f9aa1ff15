import LinuxSystem

/// Why the frames of a tap's guest cannot be carried through another host; one sentence.
public struct CarryObstacle: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String

    init(_ description: String) { self.description = description }
}

/// The bridges of the calling thread's network namespace, as far as carrying is concerned.
public enum Bridges {
    /// Where the guest of `tap` is attached to a network. Throws what stands in the way of carrying its frames, in or out.
    public static func bridge(of tap: String) throws(CarryObstacle) -> String {
        let links: [NetworkLink]
        do throws(SystemError) {
            links = try NetworkLinks.all()
        } catch {
            throw CarryObstacle("the network devices cannot be listed: \(error)")
        }
        guard let own = links.first(where: { $0.name == tap }) else {
            throw CarryObstacle("\(DetourError.noDevice(tap))")
        }
        guard let master = own.master, let bridge = links.first(where: { $0.number == master }) else {
            throw CarryObstacle(
                "tap \(tap) is in no bridge, so there is no network that another host could be in as well")
        }
        guard bridge.kind == "bridge" else {
            throw CarryObstacle("tap \(tap) is in \(bridge.name), which is no bridge of Linux (\(bridge.kind))")
        }
        guard !bridge.filtersVLANs else {
            throw CarryObstacle(
                "bridge \(bridge.name) filters VLANs, which the other host's port would know nothing of")
        }
        guard !uplinks(of: bridge.number, in: links).isEmpty else {
            throw CarryObstacle("bridge \(bridge.name) has no uplink: it has no member but taps")
        }
        if let obstacle = Detour.obstacle(at: tap) { throw CarryObstacle("\(obstacle)") }
        return bridge.name
    }

    /// The members of a bridge by which a network is reached: taps are guests.
    static func uplinks(of bridge: UInt32, in links: [NetworkLink]) -> [NetworkLink] {
        links.filter { $0.master == bridge && $0.kind != "tun" }
    }
}
