/// Leads what a guest sends through its tap around by way of the agent.
///
/// Owns a device of the agent's, and programs at it and at the tap. May call CLinux, LinuxSystem. Upholds: while a detour is, or
/// its agent is dead or frozen, nothing that the guest sends passes but what the agent writes back. Frames *to* the guest are
/// not touched. `docs/DETOUR.md` has the picture.

import CLinux
import Glibc
import LinuxSystem

/// One tap's detour. Works whoever serves the tap (QEMU, vhost-net) and with any number of queues.
public struct Detour: ~Copyable {
    /// How many frames wait for the agent before the next are dropped.
    public static let queueLength: Int32 = 20_000
    /// Bytes before each frame: `struct virtio_net_hdr_mrg_rxbuf`.
    public static let headerLength = 12
    /// The longest that is read or written at once: header, and a frame of 64 KiB that the network cuts up (GSO).
    public static let frameMax = headerLength + 18 + 65536

    public let tap: String
    private let held: HeldTap
    private let device: AgentDevice
    private let away: HookProgram

    /// Begins it: frames of the guest come to `descriptor` from here on. One that an agent left behind which is no more is
    /// replaced in the same moment.
    public init(of tap: String) throws(DetourError) {
        guard let held = HeldTap(tap) else { throw .noDevice(tap) }
        guard held.hold() else { throw .busy(tap) }
        do throws(SystemError) {
            // What is written there must have a way before anything can come.
            let device = try AgentDevice(beside: tap, held.number, .out(isMarked: true))
            let away = try HookProgram.away(to: device.number)
            try away.attach(to: held.number, .ingress, replacing: HookProgram.left(at: held.number))
            self.tap = tap
            self.held = held
            self.device = device
            self.away = away
        } catch {
            held.letGo()
            throw DetourError(error)
        }
    }

    deinit { held.letGo() }

    /// A read is one frame of the guest behind its header; a write of the same kind sends it on. Not blocking.
    public var descriptor: Int32 { device.descriptor.number }

    /// How many frames were lost because `descriptor` was not read in time.
    public func droppedFrames() throws(SystemError) -> UInt64 { try device.frames().unsent }

    /// How many frames came, read or not.
    public func takenFrames() throws(SystemError) -> UInt64 { try device.frames().sent }

    /// Ends it: what the guest sends goes straight out again. Call while the guest stands still, after what was read last was
    /// written back, or frames overtake each other.
    public consuming func remove() throws(DetourError) {
        do throws(SystemError) {
            try away.detach(from: held.number, .ingress)
        } catch {
            throw DetourError(error)
        }
    }

    /// Why the frames of `tap` cannot be led around; nil when they can. Changes nothing.
    public static func obstacle(at tap: String) -> DetourError? {
        guard let held = HeldTap(tap) else { return .noDevice(tap) }
        do throws(SystemError) {
            _ = try HookProgram.left(at: held.number)
            // The next agent has to be able to take it away, too.
            try HookProgram.away(to: held.number).checkThatItCanBeFound()
            _ = try OwnedDescriptor.open("/dev/net/tun", O_RDWR)
            return nil
        } catch {
            return DetourError(error)
        }
    }

    /// Takes away what agents that are no more left at taps that nobody has open: whoever opens one next has nothing to do with it.
    /// A tap that is down is left alone, as nobody knows who has it open. Returns the taps' names.
    public static func sweep() -> [String] {
        guard let list = if_nameindex() else { return [] }
        defer { if_freenameindex(list) }
        var swept: [String] = []
        var entry = list
        while let name = entry.pointee.if_name {
            let device = String(cString: name)
            if rml_device_idle(device) == 1, (try? removeLeftovers(of: device)) == true { swept.append(device) }
            entry += 1
        }
        return swept
    }

    /// Takes away what an agent left at a tap that ended without `remove`. Until then nothing that the guest sends leaves. Returns
    /// whether there was anything. Throws `busy` for a tap that is held by a detour of this agent.
    public static func removeLeftovers(of tap: String) throws(DetourError) -> Bool {
        guard let held = HeldTap(tap) else { return false }
        guard !held.isHeld else { throw .busy(tap) }
        do throws(SystemError) {
            var hasLeft = false
            for kind in [HookProgram.Left.away, .carry] {
                guard let left = try HookProgram.left(kind, at: held.number) else { continue }
                try left.detach(from: held.number, kind.hook)
                hasLeft = true
            }
            return hasLeft
        } catch {
            throw DetourError(error)
        }
    }
}
