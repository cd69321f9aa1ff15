import Carriers
import Hypervisor
import LinuxSystem
import Logging
import Model
import Shipping
import Storage
import Wire

/// A guest's disks, each by its mirror. They travel by themselves, at any time: a cut says to which epoch their writes belong
/// from then on.
///
/// Behind a cut they go by epochs, or through: a write travels as a through frame then, and is done when the standby has taken it.
package final class DiskCarrier: Carrier {
    package let kind = CarrierKind.disks
    package private(set) var progress = 0.0
    private var mirrors: [DiskMirror] = []
    private let guest: any Guest
    private let answers: DiskAnswers
    private let sender: FrameSender
    private let log: Logger
    private let tell: (String) -> Void
    private let loses: (@Sendable (Int) -> Bool)?
    private let writes: WriteAnswers
    /// The disks' processes, until the disks are theirs.
    private var starting: StartingServers?
    /// Behind the next cut they go through, and not by epochs.
    private var goesThrough: Bool
    private var isThrough = false

    /// - Parameters:
    ///   - tell: takes one sentence for the operator.
    ///   - loses: for the test bed only: whether the write of that number of a disk is lost.
    ///   - writes: what the standby says that it has of them while they go through.
    ///   - goesThrough: of a level at which both hosts have each write before it is done; else epochs make writes safe.
    package init(
        of guest: any Guest, answers: DiskAnswers, sender: FrameSender, log: Logger, tell: @escaping (String) -> Void,
        loses: (@Sendable (Int) -> Bool)? = nil, writes: WriteAnswers = WriteAnswers(), goesThrough: Bool = false
    ) {
        self.guest = guest
        self.answers = answers
        self.sender = sender
        self.log = log
        self.tell = tell
        self.loses = loses
        self.writes = writes
        self.goesThrough = goesThrough
    }

    /// Behind the next cut each write is done when the standby has it. The hypervisor hears of it with the guest running: within a
    /// pause it need not listen.
    package func goThrough() throws(SessionError) {
        for mirror in mirrors { try mirror.hold() }
        goesThrough = true
    }

    /// Behind the next cut writes belong to epochs; `letGo` follows that.
    package func goByEpochs() { goesThrough = false }

    /// Writes belong to epochs by now: should this process end, they are done without it.
    package func letGo() { for mirror in mirrors { mirror.letGo() } }

    // MARK: - Served

    /// Starts a process for each disk while the guest runs and its epochs end; `serve` follows.
    ///
    /// - Parameters:
    ///   - changed: called with each report of a disk's, on a thread of its process's.
    ///   - ready: called on another thread when all have been started, or one cannot be.
    package func startServers(
        _ places: ServingPlaces, changed: @escaping @Sendable (UInt16, ServedReport) -> Void,
        ready: @escaping @Sendable () -> Void
    ) throws(SessionError) {
        guard starting == nil else { return }
        starting = try StartingServers(mirrors.map { $0.processStart(places, changed: changed) }, ready: ready)
    }

    /// Each disk becomes the process that was started for it, which reads here and writes at both hosts; its copy here may fail from
    /// then on. False when they are not there yet. Throws when one cannot be; then all are as before.
    package func serve() throws(SessionError) -> Bool {
        guard let outcome = starting?.outcome else { return false }
        starting = nil
        for (mirror, server) in zip(mirrors, try outcome.get()) { mirror.serving = server }
        do throws(SessionError) {
            try guest.whileStopped(for: .attach) { () throws(SessionError) in
                do throws(SessionError) {
                    for mirror in mirrors { try mirror.serve() }
                } catch {
                    try mirrorAgain()
                    throw error
                }
            }
        } catch {
            try endServing()
            throw error
        }
        return true
    }

    /// Each disk is its image again, and is mirrored as before. Throws `.refused` where one is lost here; then all are as before.
    package func serveNoMore() throws(SessionError) {
        try guest.whileStopped(for: .detach) { () throws(SessionError) in
            // I40: no write comes between this and the turning back.
            for mirror in mirrors { try mirror.checkWhole() }
            try mirrorAgain()
        }
        try endServing()
    }

    /// The guest stands still. One whose disk is neither served nor mirrored must not run on: what it writes would be done here
    /// alone.
    private func mirrorAgain() throws(SessionError) {
        do throws(SessionError) {
            for mirror in mirrors { try mirror.serveNoMore() }
        } catch {
            guest.kill()
            throw SessionError(
                .guestLost, "\(guest.vm) was ended, as its disks could not be mirrored again: \(error.message)")
        }
    }

    private func endServing() throws(SessionError) {
        for mirror in mirrors { mirror.endServing() }
        if isThrough { for mirror in mirrors { try mirror.hold() } }
    }

    /// The guest is gone, and with it whatever was under way.
    package func endServers() { for mirror in mirrors { mirror.endServing() } }

    /// For the thread that asks: each is carried out by the disk's process, and may take until that answers.
    package func servers() -> DiskServers {
        DiskServers(
            Dictionary(
                uniqueKeysWithValues: mirrors.compactMap { mirror in mirror.serving.map { (mirror.disk.index, $0) } }))
    }

    /// Learns what the standby's images hold, which takes as long as reading them.
    package func prepare(_ look: Look) throws(SessionError) -> String? {
        let began = MonotonicClock.now()
        for disk in guest.offeredDisks {
            let mirror = DiskMirror(
                disk, of: guest, answers: answers, sender: sender, writes: writes, log: log, loses: loses)
            mirrors.append(mirror)
            if let ended = try mirror.learn(look: { () throws(SessionError) in try look(20) }) { return ended }
        }
        if !mirrors.isEmpty {
            tell(
                "the standby told in \((MonotonicClock.now() - began) / 1_000_000) ms what its images of"
                    + " \(mirrors.count) disks hold")
        }
        return nil
    }

    package func attach() throws(SessionError) {
        for mirror in mirrors { try mirror.start() }
    }

    package func catchUp() throws(SessionError) -> Rest {
        var isReady = true
        for mirror in mirrors where !(try mirror.isReady()) { isReady = false }
        progress = mirrors.isEmpty ? 1 : mirrors.reduce(0) { $0 + $1.progress } / Double(mirrors.count)
        return isReady ? .little : .coming
    }

    package func cut(_ epoch: Epoch, isFirst: Bool) {
        guard goesThrough else {
            sender.advance(to: epoch.next)
            if isThrough { writes.pause() }
            isThrough = false
            return
        }
        guard !isThrough else { return }
        sender.link.send(controlFrame(Through(), epoch: epoch.next))
        sender.goThrough(in: epoch.next)
        // Nothing that the guest writes from here on is left out, so that every write has a frame that is answered.
        endFirstCopy()
        writes.begin(with: sender)
        isThrough = true
    }

    package func endFirstCopy() { for mirror in mirrors { mirror.endFirstCopy() } }

    package func complete(_ epoch: Epoch, _ timings: inout EpochTimings) {
        timings.diskBytes = mirrors.reduce(0) { $0 + $1.takeShippedBytes() }
    }

    /// Where they go through, they are released by then: QEMU ends a mirror only when all writes are done.
    package func detach() { for mirror in mirrors { mirror.stop() } }

    /// The link is closed by then, and `writes` released or closed: a disk's server may wait for room, and for an answer.
    package func close() {
        starting.take()?.abandon()
        for mirror in mirrors { mirror.close() }
    }
}
