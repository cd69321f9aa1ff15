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
    package func start() throws(SessionError) {
        do {
            let pair = try DescriptorPair.sockets()
            // QEMU greets the server while it adds the node, so the server has to be there first.
            let ours = try pair.first.duplicate()
            serverEnd = try pair.first.duplicate()
            try server.serve(ours)
            tap = try guest.mirror(disk, to: pair.second.number)
        } catch let error as SessionError {
            server.stop()
            throw error
        } catch {
            server.stop()
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
        progress = try tap?.progress() ?? 0
        return progress == 1
    }

    /// The first copy is over: every later write is sent, whatever it holds.
    package func endFirstCopy() { shipment.endFirstCopy() }

    package func takeShippedBytes() -> UInt64 { shipment.takeBytes() }

    /// Ends the job and takes its node out of QEMU, where it began.
    package func stop() {
        do throws(SessionError) {
            try tap.take()?.remove()
        } catch {
            log.warning("the mirror of disk \(disk.id) could not be taken out: \(error)")
        }
    }

    package func close() { server.stop() }
}
