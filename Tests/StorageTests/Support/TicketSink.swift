import LinuxSystem
import Storage

/// A disk in memory whose writes, zeros and flushes are done when the test says so. Tickets are numbered from 1; a flush
/// waits for all that were given.
final class TicketSink: DiskSink {
    private struct Waiting {
        var ticket: UInt64
        var cookie: UInt64
        var replies: any LaterReplies
    }

    private struct State {
        var bytes: [UInt8]
        var given: UInt64 = 0
        var granted: UInt64 = 0
        /// Everything that was given is granted when so much waits.
        var batch: UInt64?
        var failures: [UInt64: StorageError] = [:]
        var waitedFor: [UInt64] = []
        var waiting: [Waiting] = []

        mutating func give() -> DiskTicket {
            given += 1
            if let batch, given > granted, given - granted >= batch { granted = given }
            return DiskTicket(given)
        }
    }

    private static let all = UInt64.max
    private let state: Monitor<State>

    init(size: Int) { state = Monitor(State(bytes: [UInt8](repeating: 0, count: size))) }

    var bytes: [UInt8] { state.look(\.bytes) }
    var given: UInt64 { state.look(\.given) }
    /// The tickets that the server asked for, in order.
    var waitedFor: [UInt64] { state.look(\.waitedFor) }

    func grant(through number: UInt64) {
        state.change { $0.granted = number }
        settle()
    }
    func grantAll() { grant(through: Self.all) }
    /// Grants no more than what was given; returns how many that were.
    func holdAll() -> UInt64 {
        let given = state.change { state in
            state.granted = state.given
            return state.given
        }
        settle()
        return given
    }
    func grant(inBatchesOf count: UInt64) { state.change { $0.batch = count } }
    /// The ticket does not come true.
    func fail(_ number: UInt64, with error: StorageError) { state.change { $0.failures[number] = error } }
    func await(given count: UInt64) { state.await { $0.given >= count } }
    /// For so many tickets somebody waits, or waited.
    func await(waitedFor count: Int) { state.await { $0.waitedFor.count >= count } }

    func write(
        disk: UInt16, offset: UInt64, data: UnsafeRawBufferPointer, fua: Bool
    ) throws(StorageError) -> DiskTicket {
        state.change { state in
            state.bytes.replaceSubrange(Int(offset)..<Int(offset) + data.count, with: data)
            return state.give()
        }
    }

    func zero(
        disk: UInt16, offset: UInt64, length: UInt64, mayUnmap: Bool, fua: Bool
    ) throws(StorageError) -> DiskTicket {
        state.change { state in
            state.bytes.replaceSubrange(
                Int(offset)..<Int(offset + length), with: repeatElement(0, count: Int(length)))
            return state.give()
        }
    }

    func flush(disk: UInt16) throws(StorageError) -> DiskTicket { DiskTicket(given) }

    func read(disk: UInt16, offset: UInt64, into: UnsafeMutableRawBufferPointer) throws(StorageError) {
        let length = into.count
        into.copyBytes(from: state.look { Array($0.bytes[Int(offset)..<Int(offset) + length]) })
    }

    func answer(_ ticket: DiskTicket, _ cookie: UInt64, to replies: any LaterReplies) {
        state.change { state in
            state.waitedFor.append(ticket.number)
            state.waiting.append(Waiting(ticket: ticket.number, cookie: cookie, replies: replies))
        }
        settle()
    }

    private func settle() {
        let (granted, failures) = state.look { state in
            let granted = state.waiting.filter { $0.ticket <= state.granted }
            state.waiting.removeAll { $0.ticket <= state.granted }
            return (granted, state.failures)
        }
        for waiting in granted { waiting.replies.settle(waiting.cookie, failures[waiting.ticket]) }
    }
}
