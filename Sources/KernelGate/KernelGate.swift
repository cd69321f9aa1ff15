/// The gate before a guest's NICs, held by the host's kernel: frames pass while an element of an nf_tables set lives, and
/// the element dies by itself.
///
/// Owns the table `netdev romulus` of the network namespace in which it was made, and the netlink socket through which
/// alone the table is changed. May call LinuxSystem and Model. Upholds I28 and I29: a gate that was opened until T is
/// shut at T + `overshoot` whatever becomes of this process; a renewal never opens what had shut. `docs/GATE.md`
/// describes it.

import Glibc
import LinuxSystem
import Model
import Synchronization

public final class KernelGate: Sendable {
    /// Before each request to open or renew, the agent lays an element of this life into a second set and only then looks
    /// at the clock; the request takes the element out in the same transaction. So a request that lay about in a stalled
    /// agent for longer is refused as a whole.
    public static let ticketMilliseconds: UInt64 = 50
    /// How long after its T a gate may still be open, in nanoseconds: the life of a ticket, and one tick of the kernel for
    /// each of the two timeouts (10 ms at CONFIG_HZ=100, the slowest there is).
    public static let overshoot: UInt64 = (ticketMilliseconds + 20) * 1_000_000

    public enum Renewal: Sendable, Equatable {
        case renewed
        /// The kernel had shut the gate: open it again after a fresh confirmation, if there is one.
        case hadShut
        /// The time until which it should be open has passed; nothing was asked of the kernel.
        case overdue
    }

    private let core: Mutex<GateCore>
    /// Tells of renamed devices; there once something is installed.
    private let watch = Mutex<LinkWatch?>(nil)

    /// Named faults, so that a test can force a path that the kernel at hand would not take.
    public struct Faults: OptionSet, Sendable, Hashable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// As on a kernel older than 6.9: the table has no owner.
        public static let oldKernel = Faults(rawValue: 1 << 0)
        /// The agent stands still for longer than a ticket lives between reading the clock and asking the kernel.
        public static let stallsBeforeRequests = Faults(rawValue: 1 << 1)
    }

    /// Takes up what an earlier run of the agent left, in whatever state it is: guests that were installed still are.
    public init(faults: Faults = []) throws(KernelGateError) {
        let socket: NetlinkSocket
        do throws(SystemError) {
            // NETLINK_NETFILTER
            socket = try NetlinkSocket(protocol: 12)
        } catch { throw .unavailable(error) }
        var core = GateCore(socket: socket, faults: faults)
        let (found, hasOthers) = try core.readChains()
        for (vm, links) in found { core.note(links, of: vm) }
        if !found.isEmpty { try core.makeTable() } else if !hasOthers { core.removeEmptyTable() }
        self.core = Mutex(core)
        if !found.isEmpty { try watchLinks() }
    }

    /// From now on a gated device that is renamed is followed at once. While that fails it is tried again, and nothing is opened
    /// or renewed.
    private func watchLinks() throws(KernelGateError) {
        try watch.withLock { watch throws(KernelGateError) in
            guard watch == nil else { return }
            do throws(SystemError) {
                watch = try LinkWatch("gate-links") { [weak self] in self?.core.withLock { $0.followAll() } ?? true }
            } catch { throw .unavailable(error) }
        }
    }

    /// Who is installed, and before which devices.
    public var guests: [VMName: [GatedLink]] { core.withLock { $0.guests } }

    /// Whether other programs are kept from changing or flushing the table while this process lives, and the table outlives
    /// it; nil while there is none. False on kernels older than 6.9, where `nft flush ruleset` opens the gate.
    public var isProtected: Bool? {
        core.withLock { $0.hasTable ? $0.flags != 0 : nil }
    }

    /// Puts the gate before these devices, shut. Where it stood before it stays as it is, open or shut; it is taken away
    /// from devices that are not named any more.
    public func install(_ vm: VMName, before links: [GatedLink]) throws(KernelGateError) {
        for link in links where if_nametoindex(link.name) == 0 { throw .noDevice(link.name) }
        try watchLinks()
        try core.withLock { core throws(KernelGateError) in
            try core.makeTable()
            let dropped = (core.guests[vm] ?? []).filter { !links.contains($0) }
            var batch = core.batch()
            for link in links { GateTable.addChain(&batch, link, of: vm) }
            for link in dropped { GateTable.destroyChain(&batch, link) }
            if !dropped.isEmpty { GateTable.destroy(&batch, dropped) }
            try core.carryOut(&batch, "put the gate of \(vm) into")
            core.note(links, of: vm)
        }
    }

    /// Lets the guest's frames pass until CLOCK_BOOTTIME reads `deadline` nanoseconds. For the first time, and again after a
    /// gate shut; only ever with a deadline that a fresh confirmation gave.
    /// - Returns: false when the deadline has passed.
    @discardableResult
    public func open(_ vm: VMName, until deadline: UInt64) throws(KernelGateError) -> Bool {
        try core.withLock { core throws(KernelGateError) in
            if let error = core.unfollowed { throw error }
            let links = try core.links(of: vm)
            for _ in 0..<GateCore.attempts {
                try core.drawTicket()
                guard let milliseconds = GateCore.milliseconds(until: deadline) else { return false }
                var batch = core.batch()
                let ticket = GateTable.handInTicket(&batch)
                GateTable.destroy(&batch, links)
                GateTable.add(&batch, links, of: vm, milliseconds: milliseconds)
                core.standStill()
                let failures = try core.send(&batch, "open the gate of \(vm) in")
                if failures.isEmpty { return true }
                guard failures == [ticket: ENOENT] else { throw core.error(failures, "open the gate of \(vm) in") }
            }
            throw .late
        }
    }

    /// Lets guests' frames pass for longer: for each guest until CLOCK_BOOTTIME reads so many nanoseconds. All of it is one
    /// transaction, unless a gate among them had shut.
    public func renew(_ deadlines: [VMName: UInt64]) throws(KernelGateError) -> [VMName: Renewal] {
        try core.withLock { core throws(KernelGateError) in
            if let error = core.unfollowed { throw error }
            var results: [VMName: Renewal] = [:]
            var pending: [(vm: VMName, links: [GatedLink], deadline: UInt64)] = []
            for (vm, deadline) in deadlines { pending.append((vm, try core.links(of: vm), deadline)) }
            var attempts = GateCore.attempts
            while attempts > 0 {
                try core.drawTicket()
                var batch = core.batch()
                let ticket = GateTable.handInTicket(&batch)
                var asked: [UInt32: VMName] = [:]
                pending.removeAll { vm, links, deadline in
                    guard let milliseconds = GateCore.milliseconds(until: deadline) else {
                        results[vm] = .overdue
                        return true
                    }
                    asked[GateTable.delete(&batch, links)] = vm
                    GateTable.add(&batch, links, of: vm, milliseconds: milliseconds)
                    return false
                }
                if pending.isEmpty { return results }
                core.standStill()
                var failures = try core.send(&batch, "renew the gates in")
                if failures.isEmpty {
                    for (vm, _, _) in pending { results[vm] = .renewed }
                    return results
                }
                if failures.removeValue(forKey: ticket) == ENOENT { attempts -= 1 }
                for (number, errno) in failures {
                    guard errno == ENOENT, let vm = asked[number] else {
                        throw core.error(failures, "renew the gates in")
                    }
                    results[vm] = .hadShut
                    pending.removeAll { $0.vm == vm }
                }
                if pending.isEmpty { return results }
            }
            throw .late
        }
    }

    /// Shuts the gate now. A gate that is shut stays so.
    public func close(_ vm: VMName) throws(KernelGateError) {
        try core.withLock { core throws(KernelGateError) in
            var batch = core.batch()
            GateTable.destroy(&batch, try core.links(of: vm))
            try core.carryOut(&batch, "shut the gate of \(vm) in")
        }
    }

    /// Takes the gate away: the guest's frames pass as if there had never been one. With the last guest goes the table.
    public func remove(_ vm: VMName) throws(KernelGateError) {
        try core.withLock { core throws(KernelGateError) in
            guard let links = core.guests[vm] else { return }
            var batch = core.batch()
            if core.guests.count == 1 {
                GateTable.destroyTable(&batch)
            } else {
                GateTable.destroy(&batch, links)
                for link in links { GateTable.destroyChain(&batch, link) }
            }
            try core.carryOut(&batch, "take the gate of \(vm) out of")
            core.guests[vm] = nil
            if core.guests.isEmpty { core.hasTable = false }
        }
    }

    /// For how many more milliseconds frames of each of the guest's devices pass, as the kernel says; without those that
    /// are shut.
    public func remaining(_ vm: VMName) throws(KernelGateError) -> [GatedLink: UInt64] {
        try core.withLock { core throws(KernelGateError) in
            let links = try core.links(of: vm)
            let alive = try core.readOpen()
            return Dictionary(uniqueKeysWithValues: links.compactMap { link in alive[link.name].map { (link, $0) } })
        }
    }
}
