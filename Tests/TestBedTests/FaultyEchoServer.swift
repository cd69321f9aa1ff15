import Foundation
import Synchronization
import TestBed

/// An echo server on loopback that makes one chosen mistake, on its first connection only.
final class FaultyEchoServer: Sendable {
    enum Mistake: String, CaseIterable {
        case none
        case dropByte
        case changeByte
        case doubleByte
        case swapBytes
        case keepTheLast
        case answerTwiceAtTheEnd
        case hangUp
    }

    let port: UInt16
    private let listener: Int32
    private let mistake: Mistake
    /// The mistake is made at this byte of the stream.
    private static let place = 5000

    init(_ mistake: Mistake) throws {
        self.mistake = mistake
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_addr.s_addr = inet_addr("127.0.0.1")
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        let isBound = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, size) == 0 && listen(listener, 16) == 0 && getsockname(listener, $0, &size) == 0
            }
        }
        guard isBound else { throw BedError("no socket on loopback: \(String(cString: strerror(errno))).") }
        port = UInt16(bigEndian: name.sin_port)
        Thread { [self] in
            var isFirst = true
            while true {
                let connection = accept(listener, nil, nil)
                guard connection >= 0 else { return }
                let mistake = isFirst ? self.mistake : .none
                isFirst = false
                Thread { Self.serve(connection, mistake) }.start()
            }
        }.start()
    }

    /// Ends the thread that accepts.
    func close() {
        shutdown(listener, Int32(SHUT_RDWR))
        Glibc.close(listener)
    }

    private static func serve(_ connection: Int32, _ mistake: Mistake) {
        defer { Glibc.close(connection) }
        var seen = 0
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(connection, &buffer, buffer.count, 0)
            guard count > 0 else { return }
            var answer = Array(buffer[..<count])
            let at = place - seen
            if (0..<count - 1).contains(at) {
                switch mistake {
                case .dropByte: answer.remove(at: at)
                case .changeByte: answer[at] ^= 0x10
                case .doubleByte: answer.insert(answer[at], at: at)
                case .swapBytes:
                    answer[at...at + 1] = answer[at] == answer[at + 1] ? [1, 2] : [answer[at + 1], answer[at]]
                case .hangUp: return
                case .none, .keepTheLast, .answerTwiceAtTheEnd: break
                }
            }
            seen += count
            if mistake == .keepTheLast, seen > place { continue }
            if mistake == .answerTwiceAtTheEnd, seen > place { answer += answer }
            guard send(connection, answer, answer.count, Int32(MSG_NOSIGNAL)) == answer.count else { return }
        }
    }
}
