import LinuxSystem
import Model
import QEMU
import Shipping
import Storage

/// One disk of the guest: QEMU mirrors it to an NBD server of ours, which ships every write with the epoch it belongs
/// to. `write-blocking` makes QEMU complete a guest's write only after we took it, so that the cut between two epochs is
/// exact.
package final class DiskMirror {
    package let disk: OfferedDisk
    package private(set) var progress = 0.0
    private var job: MirrorJob?
    private let drive: GuestDisk
    private let guest: GuestHandle
    private let shipment: DiskShipment
    private let server: NBDServer

    /// Nothing is copied yet: `learn` and `start` follow.
    ///
    /// - Parameter loses: for the test bed only: whether the write of that number is lost.
    package init(
        _ disk: OfferedDisk, drive: GuestDisk, guest: GuestHandle, answers: DiskAnswers, sender: FrameSender,
        loses: (@Sendable (Int) -> Bool)? = nil
    ) {
        self.disk = disk
        self.drive = drive
        self.guest = guest
        shipment = DiskShipment(disk: disk, answers: answers, sender: sender, loses: loses)
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
            try server.serve(ours)
            job = try MirrorJob.start(
                guest.monitor, disk: drive, index: Int(disk.index), target: .descriptor(pair.second.number))
        } catch {
            server.stop()
            throw SessionError(.storage, "disk \(disk.id) of \(guest.vm) cannot be mirrored: \(error)")
        }
    }

    /// True once everything was copied and only new writes travel.
    package func isReady() throws(SessionError) -> Bool {
        let now: MirrorJob.Progress?
        do throws(DeviceError) {
            now = try job?.progress(guest.monitor)
        } catch {
            throw guest.deviceFailed("the mirror of disk \(disk.id)", error)
        }
        guard let now else {
            throw SessionError(.storage, "the mirror of disk \(disk.id) ended by itself; see QEMU's log")
        }
        progress = now.isReady ? 1 : Double(now.offset) / Double(max(now.length, 1))
        return now.isReady
    }

    /// Why the mirror is over, if `event` says so.
    package func failure(_ event: QMPEvent) -> String? {
        switch job?.news(event) {
        case .failed(let reason): "the mirror of disk \(disk.id) failed: \(reason)"
        case .cancelled: "the mirror of disk \(disk.id) was cancelled by somebody else"
        case .ready, nil: nil
        }
    }

    /// The first copy is over: every later write is sent, whatever it holds.
    package func endFirstCopy() { shipment.endFirstCopy() }

    package func takeShippedBytes() -> UInt64 { shipment.takeBytes() }

    /// Ends the job and takes its node out of QEMU.
    package func stop() {
        do throws(DeviceError) {
            try job?.cancel(guest.monitor)
        } catch {
            guest.log.warning("the mirror of disk \(disk.id) could not be taken out: \(error)")
        }
    }

    package func close() { server.stop() }
}
