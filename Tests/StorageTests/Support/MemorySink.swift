import Storage
import Synchronization

/// A disk in memory that notes what it was asked for.
final class MemorySink: DiskSink {
    enum Call: Equatable {
        case write(disk: UInt16, offset: UInt64, length: Int, fua: Bool)
        case zero(disk: UInt16, offset: UInt64, length: UInt64, mayUnmap: Bool, fua: Bool)
        case flush(disk: UInt16)
        case read(disk: UInt16, offset: UInt64, length: Int)
    }

    struct State {
        var bytes: [UInt8]
        var calls: [Call] = []
        var failure: StorageError?
    }
    let state: Mutex<State>

    init(size: Int) { state = Mutex(State(bytes: [UInt8](repeating: 0, count: size))) }

    var bytes: [UInt8] { state.withLock { $0.bytes } }
    var calls: [Call] { state.withLock { $0.calls } }

    /// Every call from now on fails like that.
    func fail(with error: StorageError?) { state.withLock { $0.failure = error } }

    func write(
        disk: UInt16, offset: UInt64, data: UnsafeRawBufferPointer, fua: Bool
    ) throws(StorageError) -> DiskTicket {
        let data = Array(data)
        return try take(.write(disk: disk, offset: offset, length: data.count, fua: fua)) {
            $0.replaceSubrange(Int(offset)..<Int(offset) + data.count, with: data)
        }
    }

    func zero(disk: UInt16, offset: UInt64, length: UInt64, mayUnmap: Bool, fua: Bool) throws(StorageError)
        -> DiskTicket
    {
        try take(.zero(disk: disk, offset: offset, length: length, mayUnmap: mayUnmap, fua: fua)) {
            $0.replaceSubrange(
                Int(offset)..<Int(offset + length), with: repeatElement(0, count: Int(length)))
        }
    }

    func flush(disk: UInt16) throws(StorageError) -> DiskTicket { try take(.flush(disk: disk)) { _ in } }

    func read(disk: UInt16, offset: UInt64, into: UnsafeMutableRawBufferPointer) throws(StorageError) {
        let length = into.count
        _ = try take(.read(disk: disk, offset: offset, length: length)) { _ in }
        into.copyBytes(from: state.withLock { Array($0.bytes[Int(offset)..<Int(offset) + length]) })
    }

    func answer(_ ticket: DiskTicket, _ cookie: UInt64, to replies: any LaterReplies) { replies.settle(cookie, nil) }

    private func take(_ call: Call, _ change: @Sendable (inout [UInt8]) -> Void) throws(StorageError) -> DiskTicket {
        let failure = state.withLock { state in
            state.calls.append(call)
            if state.failure == nil { change(&state.bytes) }
            return state.failure
        }
        if let failure { throw failure }
        return .done
    }
}
