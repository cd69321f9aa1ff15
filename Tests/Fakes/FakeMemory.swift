import Glibc
import Hypervisor
import LinuxSystem
import Model

/// The memory of a `FakeGuest`.
public final class FakeMemory: GuestMemory {
    private let guest: FakeGuest

    init(_ guest: FakeGuest) { self.guest = guest }

    public var exitNumber: Int32 { guest.exitDescriptor }
    public var helperThread: Int32? { nil }

    public func scanPopulated(from position: inout ScanPosition, into runs: inout RunBuffer) throws(SystemError) -> Bool
    {
        try scan(from: &position, pagesMax: .max, into: &runs) { $0.touched }
    }

    public func protectRest() throws(SystemError) {
        // What was written since the look at what is touched is found by the next scan.
    }

    public func scanWritten(
        from position: inout ScanPosition, pagesMax: Int, into runs: inout RunBuffer
    ) throws(SystemError) -> Bool {
        try scan(from: &position, pagesMax: pagesMax, into: &runs) { $0.written }
    }

    private func scan(
        from position: inout ScanPosition, pagesMax: Int, into runs: inout RunBuffer,
        _ wanted: (FakeGuest.State) -> Set<Int>
    ) throws(SystemError) -> Bool {
        let first = Int(position.offset) / pageSize
        let room = pagesMax - runs.pages
        let found = try serve(.scan) { state -> (pages: ArraySlice<Int>, isWhole: Bool) in
            let all = wanted(state).filter { $0 >= first }.sorted()
            let pages = all.prefix(max(0, min(room, state.pagesPerScan)))
            state.written.subtract(pages)
            return (pages, pages.count == all.count)
        }
        for page in found.pages { runs.append(TrackedRun(block: FakeGuest.block, first: UInt32(page), count: 1)) }
        position.offset = UInt64((found.isWhole ? guest.pages : (found.pages.last ?? first - 1) + 1) * pageSize)
        return found.isWhole
    }

    public func copy(
        _ runs: borrowing RunBuffer, from first: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemError) {
        let wanted = (first..<runs.count).map { runs[$0] }
        try serve(.copy) { state in
            var target = 0
            for run in wanted {
                let bytes = Int(run.first) * pageSize..<Int(run.first + run.count) * pageSize
                state.copied.replaceSubrange(bytes, with: state.memory[bytes])
                state.memory[bytes].withUnsafeBytes {
                    (buffer.baseAddress! + target).copyMemory(from: $0.baseAddress!, byteCount: $0.count)
                }
                target += bytes.count
            }
        }
    }

    /// A process that is gone has no memory.
    private func serve<Value>(_ call: FakeGuest.Call, _ body: (inout FakeGuest.State) -> Value) throws(SystemError)
        -> Value
    {
        do throws(SessionError) {
            return try guest.step(call, body)
        } catch {
            throw SystemError(
                operation: "\(call) the memory of", errno: error.code == .guestLost ? ESRCH : EIO, subject: "the guest")
        }
    }
}
