import Foundation
import LinuxSystem
import Storage
import Testing

/// The other end of an NBD conversation, byte by byte.
final class NBDTalker {
    private let socket: OwnedDescriptor

    /// Connected to a server of its own end of a socket pair. Reads give up after 20 s.
    init(_ server: NBDServer) throws {
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
        socket = OwnedDescriptor(owning: ends[0])
        try server.serve(OwnedDescriptor(owning: ends[1]))
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(socket.number, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    func send(_ bytes: [UInt8]) {
        // A server that has hung up is what some tests want.
        _ = bytes.withUnsafeBytes { Foundation.send(socket.number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    func finishSending() { shutdown(socket.number, Int32(SHUT_WR)) }

    func receive(_ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let complete = try bytes.withUnsafeMutableBytes { try socket.readAll(into: $0) }
        try #require(complete, "the server hung up")
        return bytes
    }

    /// True when something has come that was not read yet.
    var hasInput: Bool {
        var byte: UInt8 = 0
        return recv(socket.number, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT)) > 0
    }

    /// Everything until the server hangs up.
    func receiveAll() throws -> [UInt8] {
        var all: [UInt8] = []
        var bytes = [UInt8](repeating: 0, count: 65536)
        while true {
            let count: Int
            do {
                count = try bytes.withUnsafeMutableBytes { try socket.read(into: $0) }
            } catch let error as SystemError where error.errno == ECONNRESET {
                return all
            }
            if count == 0 { return all }
            all += bytes[..<count]
        }
    }

    // MARK: - Words of the protocol

    static let greeting: [UInt8] = Array("NBDMAGICIHAVEOPT".utf8) + [0, 3]

    static func option(_ number: UInt32, _ data: [UInt8] = []) -> [UInt8] {
        Array("IHAVEOPT".utf8) + big(number) + big(UInt32(data.count)) + data
    }

    static func go(_ name: String, information: [UInt16] = [], option number: UInt32 = 7) -> [UInt8] {
        option(
            number,
            big(UInt32(name.utf8.count)) + Array(name.utf8) + big(UInt16(information.count))
                + information.flatMap { big($0) })
    }

    static func request(
        _ type: UInt16, flags: UInt16 = 0, cookie: UInt64 = 7, offset: UInt64 = 0, length: UInt32 = 0,
        magic: UInt32 = 0x2560_9513
    ) -> [UInt8] {
        big(magic) + big(flags) + big(type) + big(cookie) + big(offset) + big(length)
    }

    static func big<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }

    struct OptionReply: Equatable {
        var option: UInt32
        var type: UInt32
        var data: [UInt8]
    }

    func optionReply() throws -> OptionReply {
        let header = try receive(20)
        try #require(Array(header[..<8]) == Self.big(UInt64(0x0003_e889_0455_65a9)))
        let length = number(header[16..<20], as: UInt32.self)
        return OptionReply(
            option: number(header[8..<12]), type: number(header[12..<16]), data: try receive(Int(length)))
    }

    /// The error number of a simple reply to the request with that cookie.
    func reply(cookie: UInt64 = 7) throws -> UInt32 {
        let (answered, failure) = try anyReply()
        try #require(answered == cookie)
        return failure
    }

    /// The cookie and the error number of the next simple reply.
    func anyReply() throws -> (cookie: UInt64, failure: UInt32) {
        let header = try receive(16)
        try #require(Array(header[..<4]) == Self.big(UInt32(0x6744_6698)))
        return (number(header[8..<16]), number(header[4..<8]))
    }

    func number<T: FixedWidthInteger>(_ bytes: ArraySlice<UInt8>, as type: T.Type = T.self) -> T {
        bytes.reduce(0) { $0 << 8 | T($1) }
    }

    /// Through the handshake by NBD_OPT_GO.
    func open(_ name: String = "disk") throws {
        #expect(try receive(18) == Self.greeting)
        send(Self.big(UInt32(3)))
        send(Self.go(name))
        while try optionReply().type != 1 {}
    }
}
