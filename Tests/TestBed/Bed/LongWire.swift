import Foundation

/// A cable between two hosts in which every frame is under way for some time: netem in user space, for kernels without it.
/// Each host has a tap of the same name as its end of it. Runs as a process of its own: `romulus-bed-client wire`.
struct LongWire {
    /// Frames under way in one direction.
    private struct Lane {
        let from: Int32
        let to: Int32
        var frames: [(due: UInt64, bytes: [UInt8])] = []
        var first = 0
        var bytes = 0

        var due: UInt64? { first < frames.count ? frames[first].due : nil }

        mutating func append(_ frame: [UInt8], due: UInt64) {
            bytes += frame.count
            frames.append((due, frame))
        }

        mutating func removeFirst() -> [UInt8] {
            let frame = frames[first].bytes
            frames[first].bytes = []
            first += 1
            bytes -= frame.count
            if first > 1024, first * 2 > frames.count {
                frames.removeFirst(first)
                first = 0
            }
            return frame
        }
    }

    /// A frame more is lost, as in a switch without room.
    private static let bytesMax = 64 << 20

    private let delay: UInt64
    private var lanes: [Lane]

    /// Opens `link` in the namespace that this process is in and in the one named `peer`, where it stays.
    init(link: String, peer: String, delayMilliseconds: Int) throws(BedError) {
        delay = UInt64(delayMilliseconds) * 1_000_000
        let near = try Namespace.openTap(link)
        try Namespace.enter(peer)
        let far = try Namespace.openTap(link)
        lanes = [Lane(from: near, to: far), Lane(from: far, to: near)]
    }

    mutating func run(while goesOn: () -> Bool) {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while goesOn() {
            let next = lanes.lazy.compactMap(\.due).min()
            let now = monotonicNanoseconds()
            let wait = next.map { $0 > now ? Int32(($0 - now) / 1_000_000 + 1) : 0 } ?? 100
            var slots = lanes.map { pollfd(fd: $0.from, events: Int16(POLLIN), revents: 0) }
            _ = poll(&slots, UInt(slots.count), min(wait, 100))
            for index in lanes.indices {
                let arrived = monotonicNanoseconds()
                while true {
                    let count = read(lanes[index].from, &buffer, buffer.count)
                    guard count > 0 else { break }
                    guard lanes[index].bytes < Self.bytesMax else { continue }
                    lanes[index].append(Array(buffer[..<count]), due: arrived + delay)
                }
                while let due = lanes[index].due, due <= monotonicNanoseconds() {
                    let frame = lanes[index].removeFirst()
                    _ = write(lanes[index].to, frame, frame.count)
                }
            }
        }
    }
}

extension Bed {
    /// Makes the replication link a long one: what either host sends arrives so much later. Call it before anything listens
    /// there. `BedHost.limitRate` and `setLink` work on it as before.
    public func stretchLink(delayMilliseconds: Int) async throws {
        try a.ip(["link delete repl0"])
        for host in hosts {
            try host.ip([
                "tuntap add dev repl0 mode tap", "link set repl0 up",
                "address add \(host.replicationAddress ?? "")/24 dev repl0",
            ])
        }
        let wire = try a.spawn(
            [
                try Programs.path("romulus-bed-client"), "wire", "link=repl0", "peer=\(b.namespace)",
                "delay_ms=\(delayMilliseconds)",
            ], name: "wire")
        try await eventually("the long wire", within: .seconds(10)) {
            if let exit = wire.exit { throw BedError("the wire ended (\(exit)): \(wire.errors)") }
            return wire.output.contains("ready") ? true : nil
        }
    }
}
