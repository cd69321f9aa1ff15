import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// The copy of a served disk that is at the standby: an NBD conversation with the agent, which carries requests there. Many are
/// under way at once; each is told of when it is done.
final class CopyThere: Sendable {
    private struct Waiting {
        var target: ServedRequest?
        var length: Int
        var done: @Sendable (UInt32) -> Void
    }

    /// A request on its way: its header, and of a write its data.
    private struct Outgoing {
        var header: [UInt8]
        var data: ServedRequest?
        var sent = 0

        var count: Int { header.count + (data.map { $0.data.count } ?? 0) }
    }

    private struct State {
        var queue: [Outgoing] = []
        /// Somebody sends what is queued.
        var isSending = false
        /// The socket was full: the thread goes on with what is queued.
        var isFull = false
        var waiting: [UInt64: Waiting] = [:]
        var nextCookie: UInt64 = 1
        var isBroken = false
    }

    private let descriptor: OwnedDescriptor
    private let state = Monitor(State())
    private let broken: @Sendable () -> Void

    /// Shakes hands, which waits for the agent.
    /// - Parameter broken: called once, when nobody answers any more: what waits is not done.
    init(_ descriptor: consuming OwnedDescriptor, size: UInt64, broken: @escaping @Sendable () -> Void) throws {
        self.broken = broken
        self.descriptor = descriptor
        var socket = NBDSocket(borrowing: self.descriptor.number)
        let terms = try NBDClient.shakeHands(&socket, export: "")
        guard terms.size == size else {
            throw StorageError.nbd(peer: "the agent", reason: "its disk has \(terms.size) bytes, not \(size)")
        }
        // Nothing was asked yet, so nothing lies in that socket's buffer.
        _ = try NamedThread.start("disk-there-out") { [self] in sendAll() }
        _ = try NamedThread.start("disk-there-in") { [self] in receiveAll() }
    }

    /// Sends it, as far as the socket takes it without a wait. `done` is called with the error number, 0 for none, on a thread of
    /// this copy.
    func perform(_ request: ServedRequest, done: @escaping @Sendable (UInt32) -> Void) {
        let sends = state.look { state -> Bool in
            guard !state.isBroken else { return false }
            let cookie = state.nextCookie
            state.nextCookie += 1
            let isRead = request.kind == .read
            state.waiting[cookie] = Waiting(
                target: isRead ? request : nil, length: isRead ? Int(request.length) : 0, done: done)
            state.queue.append(
                Outgoing(header: Self.header(of: request, cookie), data: request.kind == .write ? request : nil))
            defer { state.isSending = true }
            return !state.isSending
        }
        if sends, !sendQueued(waits: false) { state.change { $0.isFull = true } }
    }

    private static func header(of request: ServedRequest, _ cookie: UInt64) -> [UInt8] {
        let fua = request.fua ? NBD.CommandFlag.fua : 0
        let (type, flags): (UInt16, UInt16) =
            switch request.kind {
            case .read: (NBD.Command.read, 0)
            case .write: (NBD.Command.write, fua)
            case .flush: (NBD.Command.flush, 0)
            case .zero(let mayUnmap): (NBD.Command.writeZeroes, fua | (mayUnmap ? 0 : NBD.CommandFlag.noHole))
            }
        return NBDClient.header(type, flags, cookie, request.offset, UInt32(request.length))
    }

    /// Hangs up.
    func end() { shutdown(descriptor.number, Int32(SHUT_RDWR)) }

    // MARK: -

    /// What did not fit into the socket at once.
    private func sendAll() {
        while true {
            let isBroken = state.wait { state -> Bool? in
                guard state.isFull || state.isBroken else { return nil }
                state.isFull = false
                return state.isBroken
            }
            if isBroken { return }
            _ = sendQueued(waits: true)
        }
    }

    /// By one thread at a time, which `isSending` stands for. False when the socket takes no more at present, and something is left.
    private func sendQueued(waits: Bool) -> Bool {
        while true {
            let next = state.look { state -> Outgoing? in
                if state.isBroken { state.queue = [] }
                if state.queue.isEmpty { state.isSending = false }
                return state.queue.first
            }
            guard var next else { return true }
            do throws(SystemError) {
                guard try send(&next, waits: waits) else {
                    state.look { if !$0.queue.isEmpty { $0.queue[0] = next } }
                    return false
                }
            } catch {
                end()
                state.look { ($0.queue, $0.isSending) = ([], false) }
                return true
            }
            state.look { if !$0.queue.isEmpty { $0.queue.removeFirst() } }
        }
    }

    private func send(_ next: inout Outgoing, waits: Bool) throws(SystemError) -> Bool {
        let data = next.data.map { UnsafeRawBufferPointer($0.data) } ?? UnsafeRawBufferPointer(start: nil, count: 0)
        while next.sent < next.count {
            let (inHeader, inData) = (min(next.sent, next.header.count), max(0, next.sent - next.header.count))
            let sent = next.header.withUnsafeBytes { header in
                rml_send_both(
                    descriptor.number, header.baseAddress! + inHeader, header.count - inHeader,
                    data.baseAddress.map { $0 + inData }, data.count - inData, waits)
            }
            if sent == -Int(EINTR) { continue }
            if sent == -Int(EAGAIN), !waits { return false }
            if sent < 0 { throw SystemError(operation: "write to", errno: Int32(-sent), subject: "the NBD socket") }
            next.sent += sent
        }
        return true
    }

    private func receiveAll() {
        var socket = NBDSocket(borrowing: descriptor.number)
        while let (cookie, failure) = try? NBDClient.takeReply(&socket),
            let waiting = state.look({ $0.waiting.removeValue(forKey: cookie) })
        {
            if failure == NBD.Failure.none, let target = waiting.target, (try? socket.fill(target.data)) != true {
                break
            }
            waiting.done(failure)
        }
        end()
        state.change { state in
            state.isBroken = true
            state.waiting = [:]
        }
        broken()
    }
}
