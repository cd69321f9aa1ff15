import Foundation
import Synchronization

/// A watchdog device as a program sees it, for machines whose kernel has none: a FUSE file system with one file that
/// takes `WDIOC_SETTIMEOUT`, notes every write, and tells a magic close from an ordinary one. Nothing happens to the
/// machine. The file system is mounted nowhere and goes with this object.
public final class WatchdogFile: Sendable {
    public struct Seen: Sendable, Equatable {
        public var opened = 0
        public var timeouts: [Int32] = []
        public var pets = 0
        public var lastPet: ContinuousClock.Instant?
        /// The last write before it was closed was `V`: a driver would have stopped the watchdog.
        public var disarmed = 0
        /// It was closed without that: a driver would let it run on.
        public var abandoned = 0
        var lastByte: UInt8 = 0
    }

    /// What another process opens.
    public var path: String { "/proc/\(getpid())/fd/\(mount)/watchdog" }
    private let mount: Int32
    private let connection: Int32
    private let state: Mutex<Seen>
    private let ended = DispatchSemaphore(value: 0)
    private let refusesTimeout: Bool
    private let timeoutMax: Int32

    public var seen: Seen { state.withLock { $0 } }

    /// - Parameters:
    ///   - refusesTimeout: it does not know `WDIOC_SETTIMEOUT`.
    ///   - timeoutMax: what a longer timeout is shortened to, in seconds.
    public init(refusesTimeout: Bool = false, timeoutMax: Int32 = 60) throws(BedError) {
        self.refusesTimeout = refusesTimeout
        self.timeoutMax = timeoutMax
        state = Mutex(Seen())
        connection = open("/dev/fuse", O_RDWR | O_CLOEXEC)
        guard connection >= 0 else { throw BedError("/dev/fuse: \(String(cString: strerror(errno))).") }
        do throws(BedError) {
            mount = try Kernel.fuse(connection)
        } catch {
            close(connection)
            throw error
        }
        let connection = connection
        Thread.detachNewThread { [weak self, ended] in
            // Requests are small: one page holds any that this file gets.
            var buffer = [UInt8](repeating: 0, count: 1 << 17)
            while true {
                let count = read(connection, &buffer, buffer.count)
                if count < 0, errno == EINTR || errno == ENOENT { continue }
                guard count >= 40, let reply = self?.answer(Array(buffer[..<count])) else { break }
                if !reply.isEmpty { _ = write(connection, reply, reply.count) }
            }
            close(connection)
            ended.signal()
        }
    }

    /// Gives the file system back; who still has the file open gets errors.
    public func remove() { close(mount) }

    // MARK: - FUSE, as linux/fuse.h has it

    /// The reply to one request; empty where none is expected.
    private func answer(_ request: [UInt8]) -> [UInt8]? {
        let (code, unique) = (request.number(4, as: UInt32.self), request.number(8, as: UInt64.self))
        func reply(_ body: [UInt8] = [], error: Int32 = 0) -> [UInt8] {
            Bytes(UInt32(16 + body.count), error, unique).all + body
        }
        switch code {
        case 26:  // INIT: version 7.31, writes of one page
            return reply(Bytes(UInt32(7), UInt32(31), UInt32(0), UInt32(0), UInt32(0), UInt32(4096)).padded(to: 64))
        case 1:  // LOOKUP: whatever the name, it is the file
            return reply(Bytes(UInt64(2), UInt64(0), UInt64(0), UInt64(0), UInt64(0)).all + attributes(of: 2))
        case 3:  // GETATTR
            return reply(Bytes(UInt64(0), UInt64(0)).all + attributes(of: request.number(16, as: UInt64.self)))
        case 14:  // OPEN, direct and not seekable
            state.withLock { $0.opened += 1 }
            return reply(Bytes(UInt64(1), UInt32(1 | 4), UInt32(0)).all)
        case 16:  // WRITE
            let size = request.number(56, as: UInt32.self)
            state.withLock { state in
                state.lastByte = request.last ?? 0
                if state.lastByte != UInt8(ascii: "V") {
                    state.pets += 1
                    state.lastPet = .now
                }
            }
            return reply(Bytes(size, UInt32(0)).all)
        case 39:  // IOCTL: WDIOC_SETTIMEOUT is _IOWR('W', 6, int)
            guard request.number(52, as: UInt32.self) == 0xc004_5706, !refusesTimeout else {
                return reply(error: -ENOTTY)
            }
            let asked = Int32(bitPattern: request.number(72, as: UInt32.self))
            let taken = min(asked, timeoutMax)
            state.withLock { $0.timeouts.append(asked) }
            return reply(Bytes(Int32(0), UInt32(0), UInt32(0), UInt32(0), taken).all)
        case 18:  // RELEASE
            state.withLock { state in
                if state.lastByte == UInt8(ascii: "V") { state.disarmed += 1 } else { state.abandoned += 1 }
                state.lastByte = 0
            }
            return reply()
        case 25: return reply()  // FLUSH
        case 2, 42: return []  // FORGET, BATCH_FORGET
        case 38: return nil  // DESTROY
        default: return reply(error: -ENOSYS)
        }
    }

    private func attributes(of node: UInt64) -> [UInt8] {
        let mode: UInt32 = node == 1 ? 0o040_755 : 0o100_600
        return Bytes(node, UInt64(0), UInt64(0), UInt64(0), UInt64(0), UInt64(0)).all
            + Bytes(UInt32(0), UInt32(0), UInt32(0), mode, UInt32(1), UInt32(0)).padded(to: 40)
    }
}

/// Little-endian numbers, one after the other.
private struct Bytes {
    var all: [UInt8] = []

    init(_ numbers: any FixedWidthInteger...) {
        for number in numbers { add(number) }
    }

    private mutating func add<Number: FixedWidthInteger>(_ number: Number) {
        withUnsafeBytes(of: number.littleEndian) { all += $0 }
    }

    func padded(to count: Int) -> [UInt8] { all + [UInt8](repeating: 0, count: count - all.count) }
}

extension [UInt8] {
    fileprivate func number<Number: FixedWidthInteger>(_ offset: Int, as: Number.Type) -> Number {
        guard offset + MemoryLayout<Number>.size <= count else { return 0 }
        return withUnsafeBytes { Number(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Number.self)) }
    }
}

/// A mount that is attached nowhere: fsopen(2), fsconfig(2), fsmount(2), which the C library of Debian 12 lacks.
private enum Kernel {
    private typealias Call = @convention(c) (Int, Int, Int, Int, Int, Int) -> Int

    static func fuse(_ connection: Int32) throws(BedError) -> Int32 {
        guard let symbol = dlsym(nil, "syscall") else { throw BedError("the C library has no syscall().") }
        let call = unsafeBitCast(symbol, to: Call.self)
        func checked(_ what: String, _ result: Int) throws(BedError) -> Int32 {
            guard result >= 0 else {
                throw BedError("\(what) of a FUSE file system: \(String(cString: strerror(errno))).")
            }
            return Int32(result)
        }
        func withText(_ text: String, _ body: (Int) -> Int) -> Int {
            text.withCString { body(Int(bitPattern: $0)) }
        }
        let context = try checked("fsopen", withText("fuse") { call(430, $0, 1, 0, 0, 0) })
        defer { close(context) }
        let options = ["fd": "\(connection)", "rootmode": "40000", "user_id": "\(getuid())", "group_id": "\(getgid())"]
        for (key, value) in options {
            // 1 is FSCONFIG_SET_STRING.
            _ = try checked(
                "fsconfig", withText(key) { key in withText(value) { call(431, Int(context), 1, key, $0, 0) } })
        }
        // 6 is FSCONFIG_CMD_CREATE.
        _ = try checked("fsconfig", call(431, Int(context), 6, 0, 0, 0))
        return try checked("fsmount", call(432, Int(context), 1, 0, 0, 0))
    }
}
