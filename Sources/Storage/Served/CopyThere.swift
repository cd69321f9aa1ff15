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

    private struct State {
        var queue: [(header: [UInt8], data: ServedRequest?)] = []
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

    /// `done` is called with the error number, 0 for none, on a thread of this copy.
    /// - Parameter target: of a read: where the bytes go.
    func perform(_ request: ServedRequest, done: @escaping @Sendable (UInt32) -> Void) {
        state.change { state in
            guard !state.isBroken else { return }
            let cookie = state.nextCookie
            state.nextCookie += 1
            let isRead = request.kind == .read
            state.waiting[cookie] = Waiting(
                target: isRead ? request : nil, length: isRead ? Int(request.length) : 0, done: done)
            state.queue.append((Self.header(of: request, cookie), request.kind == .write ? request : nil))
        }
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

    private func sendAll() {
        while true {
            let batch = state.wait { state -> [(header: [UInt8], data: ServedRequest?)]? in
                if state.isBroken { return [] }
                guard !state.queue.isEmpty else { return nil }
                defer { state.queue = [] }
                return state.queue
            }
            if batch.isEmpty { return }
            for (header, data) in batch {
                do {
                    try header.withUnsafeBytes { try NBDSocket.send($0, to: descriptor.number) }
                    if let data { try NBDSocket.send(UnsafeRawBufferPointer(data.data), to: descriptor.number) }
                } catch {
                    return end()
                }
            }
        }
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
