import Foundation
import LinuxSystem
import TestBed

/// A client that lets the guest send, or sends to it, as much as goes, as a process of its own in the client's network
/// namespace; it prints what went each half second.
enum BulkProbe {
    static let order = "--bulk"
    /// Of the guest's `stream-server`.
    private static let port: UInt16 = 11
    private static let slice: UInt64 = 500_000_000

    enum Direction: String, CaseIterable {
        /// Out of the guest.
        case out
        /// Into it.
        case into
    }

    /// MB/s in each half second of that time.
    static func rates(_ rig: Rig, _ direction: Direction, seconds: Int) throws -> [Double] {
        let words = [
            CommandLine.arguments[0], order, rig.guest.configuration.address, direction.rawValue, "\(seconds)",
        ]
        return try rig.bed.client.run(words).split(separator: "\n").compactMap { Double($0) }
    }

    /// - Parameter words: address, direction, seconds.
    static func run(_ words: [String]) throws {
        guard words.count == 3, let direction = Direction(rawValue: words[1]), let seconds = Int(words[2]) else {
            throw BedError("\(order) ADDRESS out|into SECONDS")
        }
        let socket = try ProbeSocket.connect(words[0], port)
        let line = direction == .out ? "send\n" : "receive\n"
        guard send(socket, line, line.utf8.count, Int32(MSG_NOSIGNAL)) == line.utf8.count else {
            throw BedError("the guest hung up.")
        }
        var buffer = [UInt8](repeating: 0x33, count: 1 << 18)
        func move() throws -> Int {
            let count =
                direction == .out
                ? recv(socket, &buffer, buffer.count, 0) : send(socket, buffer, buffer.count, Int32(MSG_NOSIGNAL))
            guard count > 0 else { throw BedError("the guest hung up.") }
            return count
        }
        // The first second fills windows and buffers.
        for index in 0...2 * seconds {
            let began = MonotonicClock.now()
            let end = began + (index == 0 ? 2 * slice : slice)
            var bytes = 0
            while MonotonicClock.now() < end { bytes += try move() }
            let took = Double(MonotonicClock.now() - began) / 1e9
            if index > 0 { print(Double(bytes) / took / 1e6) }
        }
    }
}
