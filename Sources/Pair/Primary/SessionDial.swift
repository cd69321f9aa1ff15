import Carriers
import Disk
import Hypervisor
import LinuxSystem
import Messages
import Model
import Protocol
import Shipping
import Wire

/// The dial, turned while a session goes on: memory and hold are attached to the guest, and detached from it. Lives on the
/// session's thread.
struct SessionDial {
    private let session: PrimarySession
    private var shell: PrimaryShell { session.shell }
    private var guest: any Guest { session.guest }

    init(_ session: PrimarySession) { self.session = session }

    /// The standby reserves memory and starts a QEMU within this, in nanoseconds.
    private static let attachMax: UInt64 = 60_000_000_000

    /// Carries out what is wanted of it, one part at a time. Returns why, when protection ended meanwhile.
    func follow(_ step: DialStep) throws(SessionError) -> String? {
        switch step {
        case .attach(.memory): return try attachMemory()
        case .attach(.hold): return try beginHolding()
        case .attach(.served): try serveDisks()
        case .detach(.served): try serveDisksNoMore()
        case .detach(.hold): return try endHolding()
        case .detach(.memory): detachMemory()
        case .attach, .detach: break
        }
        return nil
    }

    // MARK: - Disks

    /// Called again when the disks' processes are there.
    private func serveDisks() throws(SessionError) {
        do throws(SessionError) {
            guard let disks = session.disks, let places = shell.custody.serving else {
                throw SessionError(.refused, "this agent serves no disks")
            }
            let names = Dictionary(uniqueKeysWithValues: guest.offeredDisks.map { ($0.index, $0.id) })
            try disks.startServers(places) { [weak shell] index, report in
                shell?.tell { $0.hear(disk: index, names[index] ?? "\(index)", report) }
            } ready: { [weak shell] in
                guard let shell else { return }
                shell.state.withLock { state in
                    if state.duty.dial?.step == .attaching(.served) { state.orders.dial = .attach(.served) }
                }
                shell.wake.signal()
            }
            guard try disks.serve() else { return }
            let servers = disks.servers()
            shell.state.withLock { $0.parts.servers = servers }
        } catch {
            guard error.code != .guestLost, guest.isAlive else { throw error }
            shell.tell { $0.hear(.attachFailed(.served, error.message)) }
            return
        }
        shell.tell { $0.hear(.attached(.served)) }
    }

    private func serveDisksNoMore() throws(SessionError) {
        do throws(SessionError) {
            try session.disks?.serveNoMore()
        } catch {
            guard error.code == .refused, guest.isAlive else { throw error }
            shell.tell { $0.hear(.detachFailed(.served, error.message)) }
            return
        }
        shell.state.withLock { $0.parts.servers = DiskServers() }
        shell.tell { $0.hear(.detached(.served)) }
    }

    // MARK: - Memory

    private func attachMemory() throws(SessionError) -> String? {
        do throws(SessionError) {
            if let ended = try copyMemory() { return ended }
        } catch {
            guard ![.guestLost, .peerLost].contains(error.code), guest.isAlive else { throw error }
            dropMemory()
            shell.tell { $0.hear(.attachFailed(.memory, error.message)) }
            return nil
        }
        shell.tell { $0.hear(.attached(.memory)) }
        return nil
    }

    /// Returns why, when protection ended meanwhile.
    private func copyMemory() throws(SessionError) -> String? {
        let answer: AttachedMessage
        switch try askForMemory() {
        case .answered(let message): answer = message
        case .ended(let reason): return reason
        }
        if let refusal = answer.refusal {
            throw SessionError(.standbyRefused, "\(shell.standby) has no room for it: \(refusal)")
        }
        // The standby knows nothing of what was sent of an earlier memory.
        session.shipper.close()
        do throws(SystemError) {
            session.shipper = try PrimarySession.shipper(of: guest, session.sender, shell)
        } catch {
            throw SessionError(.system, "its memory cannot be sent: \(error)")
        }
        let carrier = try PrimarySession.memory(
            of: guest, through: session.shipper, shell, hasBase: answer.baseBytes > 0)
        session.memory = carrier
        session.carriers.add(carrier)
        shell.report(.event(.state, "the standby reserved memory and started its QEMU (pid \(answer.qemuPID))"))
        return try FirstCopy(session).run()
    }

    private enum Answer {
        case answered(AttachedMessage)
        case ended(String)
    }

    private func askForMemory() throws(SessionError) -> Answer {
        shell.state.withLock { $0.parts.attached = nil }
        session.sender.link.send(AttachMessage(.memory, blocks: guest.blocks, nics: guest.offeredNICs).frame)
        let deadline = MonotonicClock.now() + Self.attachMax
        while MonotonicClock.now() < deadline {
            if let answer = shell.state.withLock({ $0.parts.attached.take() }) { return .answered(answer) }
            if let ended = try session.look(waitNanoseconds: 100_000_000) { return .ended(ended) }
        }
        throw SessionError(.system, "the standby did not answer within 60 s")
    }

    private func detachMemory() {
        dropMemory()
        shell.tell { $0.hear(.detached(.memory)) }
    }

    private func dropMemory() {
        session.carriers.remove(.memory)
        session.memory.take()?.close()
        // What is queued of its copy is of no use any more; what is on the link leaves before the standby gives it back.
        session.sender.dropsCopy = true
        session.shipper.close()
        session.sender.dropsCopy = false
        session.sender.link.send(DetachMessage(.memory).frame)
    }

    // MARK: - Hold

    /// The first epoch whose output is held ends here; the part is attached once that is acknowledged.
    private func beginHolding() throws(SessionError) -> String? {
        let carrier = PrimarySession.output(of: guest, through: session.shipper, shell)
        do throws(SessionError) {
            if let ended = try carrier.prepare({ (wait) throws(SessionError) in try session.look(wait: wait) }) {
                return ended
            }
            try guest.whileStopped(for: .attach) { () throws(SessionError) in try carrier.attach() }
        } catch {
            guard error.code != .guestLost, guest.isAlive else { throw error }
            guest.whileStopped(for: .detach) { carrier.detach() }
            shell.tell { $0.hear(.attachFailed(.hold, error.message)) }
            return nil
        }
        session.output = carrier
        session.carriers.add(carrier)
        let gates = carrier.gates
        shell.state.withLock { $0.gates = gates }
        // What that stop told is no news for the checkpoint.
        if let ended = try session.look() { return ended }
        session.raisePriority()
        session.disks?.goByEpochs()
        session.isHeld = true
        session.holdsFrom = session.sealed.next
        try session.seal(first: true)
        session.disks?.letGo()
        return nil
    }

    /// To be called once the first epoch whose output is held is acknowledged.
    func endFirstHold() {
        session.holdsFrom = nil
        shell.tell { $0.hear(.attached(.hold)) }
    }

    /// The last epoch: what is written after it is done when the standby has it, and what is sent after it flows once the
    /// standby has that epoch. Returns why, when protection ended meanwhile.
    private func endHolding() throws(SessionError) -> String? {
        try session.disks?.goThrough()
        try session.seal(first: false)
        session.isHeld = false
        while shell.state.withLock({ $0.duty.machine.acknowledged }) < session.sealed {
            if let ended = try session.look(waitNanoseconds: 20_000_000) { return ended }
        }
        session.priority = nil
        for gate in session.output?.gates ?? [] { shell.report(.released(gate.releaseEverything())) }
        session.carriers.remove(.output)
        if let carrier = session.output.take() {
            guest.whileStopped(for: .detach) { carrier.detach() }
            carrier.close()
        }
        shell.state.withLock { $0.gates = [] }
        shell.tell { $0.hear(.detached(.hold)) }
        return nil
    }
}
