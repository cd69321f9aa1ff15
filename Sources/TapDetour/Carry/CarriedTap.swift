import Glibc
import LinuxSystem
import Synchronization

/// A tap whose guest is carried: what the guest sends comes to `descriptor`, what is written there gets to the guest, and nothing
/// else does. From its making until `release`, or until another agent takes it over; this agent's end changes nothing.
public final class CarriedTap: Sendable {
    public let tap: String
    private let held: HeldTap
    private let device: AgentDevice
    private let isReleased = Mutex(false)

    public init(_ tap: String) throws(DetourError) {
        guard let held = HeldTap(tap) else { throw .noDevice(tap) }
        guard held.hold() else { throw .busy(tap) }
        do throws(SystemError) {
            let device = try AgentDevice(beside: tap, held.number, .toGuest)
            // First of all the guest's own bridge loses it: it is attached to one network at any time.
            try HookProgram.onlyCarried().attach(
                to: held.number, .egress, replacing: HookProgram.left(.carry, at: held.number))
            try HookProgram.away(to: device.number).attach(
                to: held.number, .ingress, replacing: HookProgram.left(at: held.number))
            self.tap = tap
            self.held = held
            self.device = device
        } catch {
            held.letGo()
            _ = try? Detour.removeLeftovers(of: tap)
            throw DetourError(error)
        }
    }

    deinit { if !isReleased.withLock({ $0 }) { held.letGo() } }

    /// A read is one frame of the guest behind its header (`Detour.headerLength`). Not blocking.
    public var descriptor: Int32 { device.descriptor.number }

    /// A frame for the guest behind its header. Returns false where the kernel does not take it.
    public func send(_ frame: UnsafeRawBufferPointer) -> Bool {
        write(device.descriptor.number, frame.baseAddress, frame.count) == frame.count
    }

    /// How many frames of the guest were lost because `descriptor` was not read in time.
    public func droppedFrames() throws(SystemError) -> UInt64 { try device.frames().unsent }

    /// The guest is attached to its own bridge again, and the network is told. May be called again where it failed.
    public func release(announcing mac: [UInt8]) throws(DetourError) {
        try isReleased.withLock { (isReleased) throws(DetourError) in
            guard !isReleased else { return }
            held.letGo()
            do throws(DetourError) {
                _ = try Detour.removeLeftovers(of: tap)
            } catch {
                // It goes on being carried, as far as it can be.
                _ = held.hold()
                throw error
            }
            isReleased = true
        }
        Self.announce(mac, from: tap)
    }

    /// The network learns where the guest is.
    public static func announce(_ mac: [UInt8], from tap: String) {
        // Whoever does not hear it learns it from the guest's next frame.
        guard let outlet = try? DetourOutlet(of: tap) else { return }
        Announcement.send(mac) { outlet.send($0) }
    }
}

/// A frame by which switches learn where an address is: RARP, as a guest's hypervisor sends it after a migration.
public enum Announcement {
    /// How many are sent: each may be lost.
    public static let count = 3

    static func send(_ mac: [UInt8], by way: (UnsafeRawBufferPointer) -> Bool) {
        for _ in 0..<count { _ = frame(mac).withUnsafeBytes(way) }
    }

    /// Behind an empty header.
    public static func frame(_ mac: [UInt8]) -> [UInt8] {
        var frame = [UInt8](repeating: 0, count: Detour.headerLength)
        frame += [UInt8](repeating: 0xff, count: 6) + mac
        // EtherType; Ethernet, IPv4 addresses, their lengths, request reverse (3).
        frame += [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]
        frame += mac + [0, 0, 0, 0] + mac + [0, 0, 0, 0]
        return frame + [UInt8](repeating: 0, count: Detour.headerLength + 60 - frame.count)
    }
}
