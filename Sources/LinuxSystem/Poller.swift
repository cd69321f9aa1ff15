import CLinux
import Glibc

/// poll(2) over a fixed, small set of descriptors.
// SAFETY: the storage belongs to this value alone, so the value may move to another thread.
public struct Poller: ~Copyable, @unchecked Sendable {
    private let slots: UnsafeMutableBufferPointer<pollfd>
    public private(set) var count = 0

    /// Room for `capacity` descriptors.
    public init(capacity: Int) {
        slots = .allocate(capacity: capacity)
        slots.initialize(repeating: pollfd(fd: -1, events: 0, revents: 0))
    }

    deinit { slots.deallocate() }

    /// Watches for input or for room to write, always for hang-up and errors too; returns the slot to ask about later. The caller keeps
    /// the descriptor open.
    public mutating func add(_ descriptor: Int32, reading: Bool = true, writing: Bool = false) -> Int {
        precondition(count < slots.count, "the poller is full")
        // poll skips negative numbers, and so do we, by the complement: its complement is a descriptor of somebody else's.
        precondition(descriptor >= 0, "descriptor \(descriptor) cannot be watched")
        slots[count] = pollfd(fd: descriptor, events: 0, revents: 0)
        count += 1
        watch(count - 1, reading: reading, writing: writing)
        return count - 1
    }

    /// Changes what a slot is watched for; neither means that it is left out.
    public mutating func watch(_ slot: Int, reading: Bool, writing: Bool) {
        precondition(slot < count)
        let number = slots[slot].fd
        // The complement of a number is negative, which poll skips, and can be turned back.
        slots[slot].fd = (reading || writing) == (number >= 0) ? number : ~number
        slots[slot].events = Int16((reading ? POLLIN : 0) | (writing ? POLLOUT : 0))
    }

    /// Waits until a slot is ready or `timeout` nanoseconds have passed (nil: for as long as it takes, 0: not at all);
    /// returns how many slots are ready. A signal ends the wait early with 0.
    public mutating func wait(timeout: UInt64?) throws(SystemError) -> Int {
        let limit = timeout.map { Int64(clamping: $0) } ?? -1
        let result = rml_poll(slots.baseAddress, nfds_t(count), limit)
        if result == -EINTR {
            for slot in 0..<count { slots[slot].revents = 0 }
            return 0
        }
        return Int(try checked(result, "wait for", "\(count) descriptors"))
    }

    /// Input, end of file, hang-up or an error: a read will not block.
    public func isReadable(_ slot: Int) -> Bool {
        slots[slot].revents & Int16(POLLIN | POLLHUP | POLLERR | POLLNVAL) != 0
    }

    /// Room, hang-up or an error: a write will not block.
    public func isWritable(_ slot: Int) -> Bool {
        slots[slot].revents & Int16(POLLOUT | POLLHUP | POLLERR | POLLNVAL) != 0
    }
}
