import Glibc
import LinuxSystem
import Model

/// The socket, what is installed, and how a transaction is sent and its answers are read.
struct GateCore: ~Copyable {
    private let socket: NetlinkSocket
    private var sequence: UInt32 = 1
    var guests: [VMName: [GatedLink]] = [:]
    /// The kernel's numbers of the devices, which they keep when they are renamed.
    private var indices: [GatedLink: UInt32] = [:]
    var hasTable = false
    /// See `GateTable.ownerFlags`; 0 on a kernel older than 6.9.
    private(set) var flags: UInt32
    private let faults: KernelGate.Faults

    init(socket: consuming NetlinkSocket, faults: KernelGate.Faults) {
        self.socket = socket
        self.faults = faults
        flags = faults.contains(.oldKernel) ? 0 : GateTable.ownerFlags
    }

    func standStill() {
        guard faults.contains(.stallsBeforeRequests) else { return }
        MonotonicClock.sleep(until: MonotonicClock.now() + (KernelGate.ticketMilliseconds + 30) * 1_000_000)
    }

    /// How often a request is made that the kernel refused for its lateness.
    static let attempts = 3

    /// What is left of the time, rounded down; nil for less than a millisecond.
    static func milliseconds(until deadline: UInt64) -> UInt64? {
        let now = BootClock.now()
        guard deadline > now, deadline - now >= 1_000_000 else { return nil }
        return (deadline - now) / 1_000_000
    }

    func links(of vm: VMName) throws(KernelGateError) -> [GatedLink] {
        guard let links = guests[vm] else { throw .unknownGuest(vm.description) }
        return links
    }

    /// Takes note of who stands before what, once the kernel has it so.
    mutating func note(_ links: [GatedLink], of vm: VMName) {
        guests[vm] = links
        for link in links { indices[link] = if_nametoindex(link.name) }
        let standing = Set(guests.values.joined())
        indices = indices.filter { standing.contains($0.key) }
    }

    /// Why a renamed device is not gated by its new name.
    private(set) var unfollowed: KernelGateError?

    /// Follows the devices that were renamed; called in the table's network namespace. False when that failed.
    mutating func followAll() -> Bool {
        do throws(KernelGateError) {
            try follow()
            unfollowed = nil
        } catch {
            unfollowed = error
        }
        return unfollowed == nil
    }

    /// The rules know devices by their names: one that was renamed meanwhile is gated by its new name, shut, and the old name
    /// no longer is.
    private mutating func follow() throws(KernelGateError) {
        var followed = guests
        var moved: [(vm: VMName, from: GatedLink, to: GatedLink)] = []
        for (vm, links) in guests {
            for (position, link) in links.enumerated() {
                guard let to = renamed(link) else { continue }
                followed[vm]?[position] = to
                moved.append((vm, link, to))
            }
        }
        if moved.isEmpty { return }
        let standing = Set(followed.values.joined())
        var batch = batch()
        for (vm, _, to) in moved {
            GateTable.addChain(&batch, to, of: vm)
            GateTable.destroy(&batch, [to])
        }
        for (_, from, _) in moved where !standing.contains(from) {
            GateTable.destroy(&batch, [from])
            GateTable.destroyChain(&batch, from)
        }
        try carryOut(&batch, "follow a renamed device in")
        for (vm, links) in followed { note(links, of: vm) }
    }

    /// The device's link under its new name; nil when it has the old one or is gone.
    private func renamed(_ link: GatedLink) -> GatedLink? {
        guard let index = indices[link], index != 0 else { return nil }
        var name = [CChar](repeating: 0, count: Int(IFNAMSIZ))
        guard if_indextoname(index, &name) != nil else { return nil }
        let now = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return now == link.name ? nil : try? GatedLink(now, hook: link.hook)
    }

    func batch() -> NetlinkBatch { NetlinkBatch(sequence: sequence) }

    /// Makes the table, or takes it for this process if an earlier one left it; the sets are made with it.
    mutating func makeTable() throws(KernelGateError) {
        if hasTable { return }
        let operation = "make"
        while true {
            var batch = batch()
            GateTable.addTable(&batch, flags: flags)
            GateTable.addSets(&batch)
            let failures = try send(&batch, operation)
            if failures.isEmpty { break }
            let errno = failures.min { $0.key < $1.key }?.value ?? EPROTO
            // A kernel that does not know the flags, or a table that an agent on such a kernel made.
            guard errno == EOPNOTSUPP || errno == EINVAL, flags != 0 else { throw error(failures, operation) }
            flags = 0
        }
        hasTable = true
    }

    /// An agent that was killed as it made the table left nothing in it. Where it is not ours to take away, it stays.
    mutating func removeEmptyTable() {
        var batch = batch()
        GateTable.destroyTable(&batch)
        _ = try? send(&batch, "take an empty table out of")
    }

    mutating func drawTicket() throws(KernelGateError) {
        var batch = batch()
        GateTable.drawTicket(&batch, milliseconds: KernelGate.ticketMilliseconds)
        try carryOut(&batch, "draw a ticket from")
    }

    mutating func carryOut(_ batch: inout NetlinkBatch, _ operation: String) throws(KernelGateError) {
        let failures = try send(&batch, operation)
        if !failures.isEmpty { throw error(failures, operation) }
    }

    /// Which error the failed messages amount to.
    func error(_ failures: [UInt32: Int32], _ operation: String) -> KernelGateError {
        let errno = failures.min { $0.key < $1.key }?.value ?? EPROTO
        if errno == ENOENT, hasTable { return .vanished }
        return KernelGateError(errno, doing: operation)
    }

    /// Sends a batch and returns what failed, by the number of the message; nothing was done unless nothing failed. The
    /// number of the batch's beginning stands for the batch.
    mutating func send(_ batch: inout NetlinkBatch, _ operation: String) throws(KernelGateError) -> [UInt32: Int32] {
        batch.end()
        sequence = batch.next
        let last = batch.next - 2
        var failures: [UInt32: Int32] = [:]
        var isDone = false
        for reply in try exchange(batch.bytes, operation) where (batch.first..<batch.next).contains(reply.sequence) {
            guard case .error(let errno) = reply.kind else { continue }
            if errno != 0 {
                failures[reply.sequence] = errno
            } else if reply.sequence == last {
                isDone = true
            }
        }
        // Who may not do anything at all is told so at the batch's beginning (nfnetlink_rcv).
        if failures[batch.first] == EPERM { throw .notPermitted }
        if failures.isEmpty, !isDone { failures[batch.first] = EPROTO }
        return failures
    }

    private func exchange(_ bytes: [UInt8], _ operation: String) throws(KernelGateError) -> [NetlinkReply] {
        do throws(SystemError) {
            try socket.send(bytes)
            var replies: [NetlinkReply] = []
            while let datagram = try socket.receive() { replies += NetlinkReply.parse(datagram) }
            return replies
        } catch {
            throw KernelGateError(error.errno, doing: operation)
        }
    }

    /// The guests whose chains stand in the table.
    /// - Returns: also whether there are chains of which it is not known what they stand before.
    mutating func readChains() throws(KernelGateError) -> (guests: [VMName: [GatedLink]], hasOthers: Bool) {
        var hasOthers = false
        var guests: [VMName: [GatedLink]] = [:]
        let request = NetlinkBatch.single(.getChain, flags: NetlinkFlag.dump, sequence: sequence) { _ in }
        for attributes in try dump(request, "read") {
            guard attributes[1]?.text == GateTable.name else { continue }
            guard let chain = attributes[3]?.text, let link = GatedLink(chain: chain),
                let vm = GateTable.guest(in: attributes[12])
            else {
                hasOthers = true
                continue
            }
            guests[vm, default: []].append(link)
        }
        return (guests, hasOthers)
    }

    /// Devices whose frames pass, with the milliseconds that are left.
    mutating func readOpen() throws(KernelGateError) -> [String: UInt64] {
        var alive: [String: UInt64] = [:]
        let request = NetlinkBatch.single(.getElement, flags: NetlinkFlag.dump, sequence: sequence) {
            $0.put(1, GateTable.name)
            $0.put(2, GateTable.open)
        }
        for attributes in try dump(request, "read") {
            for (_, element) in NetlinkReply.list(attributes[3] ?? []) {
                let fields = NetlinkReply.attributes(element)
                guard let key = fields[1], let value = NetlinkReply.attributes(key)[1],
                    let left = fields[5]?.big(UInt64.self), left > 0
                else { continue }
                alive[value.text] = left
            }
        }
        return alive
    }

    /// What a request for a list brings, as the attributes of each answer.
    private mutating func dump(
        _ request: [UInt8], _ operation: String
    ) throws(KernelGateError) -> [[UInt16: [UInt8]]] {
        let asked = sequence
        sequence += 1
        var answers: [[UInt16: [UInt8]]] = []
        for reply in try exchange(request, operation) where reply.sequence == asked {
            switch reply.kind {
            case .answer: answers.append(reply.attributes)
            case .done: return answers
            case .error(EPERM): throw .notPermitted
            case .error(let errno): throw error([asked: errno], operation)
            }
        }
        throw KernelGateError(EPROTO, doing: operation)
    }
}
