import Foundation
import LinuxSystem
import TestBed

/// A client of the guest's echo server that prints how long each answer took, as a process of its own in the client's
/// network namespace.
enum EchoProbe {
    static let order = "--echo"
    private static let recordBytes = 64

    /// When the client asks.
    enum Mode {
        /// As soon as it was answered, after so long a pause.
        case closed(thinkMilliseconds: Double)
        /// At moments of its own, exponentially distributed; an answer's time counts from then, also where the client was
        /// late.
        case open(perSecond: Double)

        fileprivate var words: [String] {
            switch self {
            case .closed(let think): ["closed", "\(think)"]
            case .open(let rate): ["open", "\(rate)"]
            }
        }

        fileprivate init?(_ kind: String, _ value: Double) {
            switch kind {
            case "closed": self = .closed(thinkMilliseconds: value)
            case "open": self = .open(perSecond: value)
            default: return nil
            }
        }
    }

    /// The answer times of so many seconds, in milliseconds.
    static func answerTimes(_ rig: Rig, _ mode: Mode, seconds: Double) throws -> [Double] {
        let words =
            [CommandLine.arguments[0], order, rig.guest.configuration.address, "7"] + mode.words + ["\(seconds)"]
        return try rig.bed.client.run(words).split(separator: "\n").compactMap { Double($0) }
    }

    /// - Parameter words: address, port, mode and its value, seconds.
    static func run(_ words: [String]) throws {
        guard words.count == 5, let port = UInt16(words[1]), let value = Double(words[3]),
            let mode = Mode(words[2], value), let seconds = Double(words[4])
        else { throw BedError("\(order) ADDRESS PORT closed|open VALUE SECONDS") }
        let socket = try ProbeSocket.connect(words[0], port)
        // What the first answers take is the connection's, not the guest's.
        _ = try closed(socket, think: 0, seconds: 0.3)
        let times =
            switch mode {
            case .closed(let think): try closed(socket, think: UInt64(think * 1e6), seconds: seconds)
            case .open(let rate): try open(socket, perSecond: rate, seconds: seconds)
            }
        print(times.map { "\($0)" }.joined(separator: "\n"))
    }

    private static func closed(_ socket: Int32, think: UInt64, seconds: Double) throws -> [Double] {
        let end = MonotonicClock.now() + UInt64(seconds * 1e9)
        var times: [Double] = []
        while true {
            let asked = MonotonicClock.now()
            guard asked < end else { return times }
            try ask(socket)
            try hear(socket)
            let heard = MonotonicClock.now()
            times.append(Double(heard - asked) / 1e6)
            MonotonicClock.sleep(until: heard + think)
        }
    }

    private static func open(_ socket: Int32, perSecond rate: Double, seconds: Double) throws -> [Double] {
        var moments: [UInt64] = []
        let began = MonotonicClock.now()
        var next = began
        while next < began + UInt64(seconds * 1e9) {
            next += UInt64(-log(Double.random(in: .leastNonzeroMagnitude..<1)) / rate * 1e9)
            moments.append(next)
        }
        let plan = moments
        Thread.detachNewThread {
            for moment in plan {
                MonotonicClock.sleep(until: moment)
                guard (try? ask(socket)) != nil else { return }
            }
        }
        // Each answer is awaited, the last ones too: to leave them out would leave out the longest.
        return try plan.map { moment in
            try hear(socket)
            return Double(MonotonicClock.now() - moment) / 1e6
        }
    }

    private static func ask(_ socket: Int32) throws {
        let record = [UInt8](repeating: 0x5a, count: recordBytes)
        guard send(socket, record, record.count, Int32(MSG_NOSIGNAL)) == record.count else {
            throw BedError("the guest hung up.")
        }
    }

    private static func hear(_ socket: Int32) throws {
        var record = [UInt8](repeating: 0, count: recordBytes)
        guard recv(socket, &record, record.count, Int32(MSG_WAITALL)) == record.count else {
            throw BedError("the guest hung up.")
        }
    }
}

/// A plain TCP client.
enum ProbeSocket {
    static func connect(_ address: String, _ port: UInt16) throws -> Int32 {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        var one: Int32 = 1
        setsockopt(socket, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        guard inet_pton(AF_INET, address, &name.sin_addr) == 1,
            withUnsafePointer(
                to: &name,
                { pointer in
                    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                        Glibc.connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                    }
                }) == 0
        else { throw BedError("no connection to \(address):\(port): \(String(cString: strerror(errno))).") }
        return socket
    }
}
