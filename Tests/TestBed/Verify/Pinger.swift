import Foundation
import Synchronization

/// Asks a guest for an echo again and again, and counts the answers: a frame that takes two ways is answered twice.
public final class Pinger: Sendable {
    private struct State {
        var answers = [Int](repeating: 0, count: 1 << 16)
        var asked = 0
        var isOver = false
    }
    private let state = Mutex(State())
    private let descriptor: Int32
    private let period: UInt32

    /// - Parameter period: in milliseconds.
    public init(from client: BedHost, to address: String, everyMs period: UInt32 = 20) throws {
        self.period = period
        // IPPROTO_ICMP
        descriptor = try within(client) { socket(AF_INET, Int32(SOCK_RAW.rawValue | SOCK_NONBLOCK.rawValue), 1) }
        guard descriptor >= 0 else { throw BedError("no socket for echoes: \(errno)") }
        var target = sockaddr_in()
        target.sin_family = sa_family_t(AF_INET)
        target.sin_addr.s_addr = inet_addr(address)
        let (to, number) = (target, descriptor)
        let thread = Thread { [self] in
            let deadline = ContinuousClock.now + .seconds(180)
            while !state.withLock({ $0.isOver }), ContinuousClock.now < deadline {
                ask(number, to)
                usleep(period * 1000)
                while take(number) {}
            }
        }
        thread.name = "pinger"
        thread.start()
    }

    deinit { close(descriptor) }

    /// The longest time, in milliseconds, over whose questions nobody answered, at `period` for each.
    public var longestGap: Int {
        state.withLock { state in
            var (gap, longest) = (0, 0)
            for count in state.answers[..<state.asked] {
                gap = count > 0 ? 0 : gap + 1
                longest = max(longest, gap)
            }
            return longest * Int(period)
        }
    }

    /// Ends it. How many echoes were answered, and how many of them more than once.
    public func end() -> (answered: Int, twice: Int) {
        state.withLock { state in
            state.isOver = true
            return (state.answers.count { $0 > 0 }, state.answers.count { $0 > 1 })
        }
    }

    private func ask(_ number: Int32, _ target: sockaddr_in) {
        let sequence = state.withLock { state in
            defer { state.asked = (state.asked + 1) & 0xffff }
            return UInt16(state.asked)
        }
        // Type 8, code 0, checksum, identifier, sequence.
        var words: [UInt16] = [0x0800, 0, 0x524d, sequence]
        var sum = words.reduce(UInt32(0)) { $0 + UInt32($1) }
        sum = (sum & 0xffff) + (sum >> 16)
        words[1] = ~UInt16(truncatingIfNeeded: sum + (sum >> 16))
        let packet = words.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xff)] }
        withUnsafePointer(to: target) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                _ = sendto(number, packet, packet.count, 0, address, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    /// One answer, behind its IP header. False when there is none.
    private func take(_ number: Int32) -> Bool {
        var packet = [UInt8](repeating: 0, count: 128)
        let count = recv(number, &packet, packet.count, 0)
        guard count > 0 else { return false }
        let start = Int(packet[0] & 0xf) * 4
        guard count >= start + 8, packet[start] == 0, packet[start + 4] == 0x52, packet[start + 5] == 0x4d else {
            return true
        }
        let sequence = Int(packet[start + 6]) << 8 | Int(packet[start + 7])
        state.withLock { $0.answers[sequence] += 1 }
        return true
    }
}
