import Glibc
import LinuxSystem
import Model
import NIOCore
import Shipping
import TapDetour
import Transport
import Wire

/// Sends the frames that a device has to the other host, on a thread of its own, until it is stopped or the link is closed. While the
/// link has no room they wait in the device, which drops what is too much.
final class FramePump: Sendable {
    private let stopping: SharedEvent

    /// What goes into one frame of the link, in bytes, at most.
    private static let burst = 256 << 10

    /// - Parameter device: whose descriptor it is; it lives until the thread has ended.
    init(
        _ name: String, nic: UInt16, of device: any AnyObject & Sendable, _ descriptor: Int32, to link: Link
    ) throws(SystemError) {
        let stopping = try SharedEvent()
        self.stopping = stopping
        _ = try NamedThread.start(name) {
            Self.run(nic, descriptor, stopping, link)
            withExtendedLifetime(device) {}
        }
    }

    deinit { stop() }

    func stop() { stopping.signal() }

    private static func run(_ nic: UInt16, _ descriptor: Int32, _ stopping: SharedEvent, _ link: Link) {
        var poller = Poller(capacity: 2)
        let stop = poller.add(stopping.number)
        _ = poller.add(descriptor)
        var packets = ByteSink(capacity: burst + OutputFrame.packetMax + 4)
        var sink = ByteSink(capacity: burst + 2 * OutputFrame.packetMax)
        while (try? poller.wait(timeout: nil)) != nil, !poller.isReadable(stop), link.isOpen {
            packets.reset()
            var count: UInt32 = 0
            while packets.count < burst, take(descriptor, &packets) { count += 1 }
            // A device that is no more.
            guard count > 0 else {
                MonotonicClock.sleep(until: MonotonicClock.now() + 1_000_000)
                continue
            }
            sink.reset()
            sink.append(
                frame: CarriedFrames(nic: nic, count: count, packets: packets.bytes), epoch: .firstCopy, sequence: 0)
            link.waitForRoom(sink.count)
            guard (try? link.enqueue(ByteBuffer(bytes: sink.bytes))) != nil else { return }
        }
    }

    /// False when there is none.
    private static func take(_ descriptor: Int32, _ packets: inout ByteSink) -> Bool {
        let place = packets.reserve(4 + Detour.frameMax)
        let count = read(descriptor, place + 4, Detour.frameMax)
        guard count > 0 else { return false }
        place.storeBytes(of: UInt32(count).bigEndian, as: UInt32.self)
        packets.commit(4 + count)
        return true
    }
}
