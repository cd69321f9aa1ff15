import Hypervisor
import LinuxSystem
import Logging
import Model
import Shipping
import Storage

/// One disk of the guest: QEMU mirrors it to an NBD server of ours, which ships every write with the epoch it belongs
/// to. `write-blocking` makes QEMU complete a guest's write only after we took it, so that the cut between two epochs is
/// exact.
package final class DiskMirror {
    package let disk: OfferedDisk
    package private(set) var progress = 0.0
    private var tap: (any DiskTap)?
    private let guest: any Guest
    private let log: Logger
    private let shipment: DiskShipment
    private let server: NBDServer
    /// The server's end of QEMU's connection, once more.
    private var serverEnd: OwnedDescriptor?
    /// The process that is the disk instead, where one is.
    var serving: DiskServing?
    private var served: (any ServedTap)?

    /// Nothing is copied yet: `learn` and `start` follow.
    ///
    /// - Parameter loses: for the test bed only: whether the write of that number is lost.
    package init(
        _ disk: OfferedDisk, of guest: any Guest, answers: DiskAnswers, sender: FrameSender, writes: WriteAnswers,
        log: Logger, loses: (@Sendable (Int) -> Bool)? = nil
    ) {
        self.disk = disk
        self.guest = guest
        self.log = log
        shipment = DiskShipment(disk: disk, answers: answers, sender: sender, writes: writes, loses: loses)
        server = NBDServer(
            NBDServer.Export(name: "", disk: disk.index, size: disk.size), threadName: "nbd-\(disk.index)",
            sink: shipment)
    }

    /// Learns what the standby's image holds, which takes as long as the standby needs to read it: the guest runs. `look` is
    /// called meanwhile, and ends it with its result.
    package func learn(look: () throws(SessionError) -> String?) throws(SessionError) -> String? {
        try shipment.askForDigests(look)
    }

    /// Starts the copying. Call while the guest stands still.
    /// - Parameter copies: false where the standby has all of it.
    package func start(copies: Bool = true) throws(SessionError) {
        do {
            let pair = try DescriptorPair.sockets()
            // QEMU greets the server while it adds the node, so the server has to be there first.
            let ours = try pair.first.duplicate()
            serverEnd = try pair.first.duplicate()
            try server.serve(ours)
            tap = try guest.mirror(disk, to: pair.second.number, copies: copies)
        } catch let error as SessionError {
            if copies { server.stop() }
            throw error
        } catch {
            if copies { server.stop() }
            throw SessionError(.storage, "disk \(disk.id) of \(guest.vm) cannot be mirrored: \(error)")
        }
    }

    /// Should this process end, the guest's writes wait, and are not done, until whoever comes after it takes the mirror out.
    package func hold() throws(SessionError) {
        guard let tap, let number = serverEnd?.number else { return }
        try tap.hold(number)
    }

    package func letGo() { tap?.letGo() }

    /// True once everything was copied and only new writes travel.
    package func isReady() throws(SessionError) -> Bool {
        progress = served == nil ? try tap?.progress() ?? 0 : 1
        return progress == 1
    }

    /// The first copy is over: every later write is sent, whatever it holds.
    package func endFirstCopy() { shipment.endFirstCopy() }

    package func takeShippedBytes() -> UInt64 { shipment.takeBytes() }

    /// Ends the job and takes its node out of QEMU, where it began; a disk that is served is its image again.
    package func stop() {
        do throws(SessionError) {
            try tap.take()?.remove()
            try turnBack()
        } catch {
            log.warning("the mirror of disk \(disk.id) could not be taken out: \(error)")
        }
    }

    package func close() {
        endServing()
        server.stop()
    }

    // MARK: - Served by a process of its own

    /// What starts the process, on any thread.
    func processStart(
        _ places: ServingPlaces, changed: @escaping @Sendable (UInt16, ServedReport) -> Void
    ) -> @Sendable () throws(SessionError) -> DiskServing {
        let index = disk.index
        let plan = ServedPlan(
            path: guest.drives[Int(index)].path(from: guest.description.workingDirectory), size: disk.size,
            boundMilliseconds: places.boundMilliseconds, diskSocket: places.diskSocket(index),
            controlSocket: places.controlSocket(index), guestPID: guest.pid,
            guestUser: guest.description.process.uid)
        return { [server, log] () throws(SessionError) in
            try DiskServing(plan, through: server, log: log) { changed(index, $0) }
        }
    }

    /// The process is the disk from here on, and no mirror works on it. Call while the guest stands still.
    func serve() throws(SessionError) {
        guard let serving else { return }
        try tap.take()?.remove()
        served = try guest.serve(disk, at: serving.path)
        try serving.order(.lock)
        shipment.flushThere(true)
    }

    /// Throws where the image here lacks something, so that it cannot be the disk. Call while the guest stands still.
    func checkWhole() throws(SessionError) {
        guard let serving else { return }
        try serving.order(.look)
        let report = serving.report
        guard !report.isWhole else { return }
        throw SessionError(
            .refused, "disk \(disk.id) is lost here: \(report.lost ?? "what it lacks is still being copied")")
    }

    /// The image is the disk again, and is mirrored. Call while the guest stands still; `endServing` follows.
    func serveNoMore() throws(SessionError) {
        try turnBack()
        if tap == nil { try start(copies: false) }
    }

    func endServing() {
        serving?.end()
        serving = nil
    }

    private func turnBack() throws(SessionError) {
        guard let served else { return }
        shipment.flushThere(false)
        // Not while it is lost: then it has none.
        try serving?.order(.unlock)
        try served.remove(isWhole: serving?.report.isWhole ?? true)
        self.served = nil
    }
}
