import Glibc
import LinuxSystem

/// The way out of a tap for frames that a detour at another host had taken in: they leave as if the guest had sent them. What the
/// guest sends itself takes its usual way.
public struct DetourOutlet: ~Copyable {
    private let device: AgentDevice

    /// Takes away what a detour of an agent that is no more left at the tap. Throws `busy` for one that is held here.
    public init(of tap: String) throws(DetourError) {
        guard let held = HeldTap(tap) else { throw .noDevice(tap) }
        _ = try Detour.removeLeftovers(of: tap)
        do throws(SystemError) {
            let device = try AgentDevice(beside: tap, held.number, .out(isMarked: false))
            self.device = device
        } catch {
            throw DetourError(error)
        }
    }

    /// A frame behind its header, as `Detour.descriptor` gave it. Returns false where the kernel does not take it.
    public func send(_ frame: UnsafeRawBufferPointer) -> Bool {
        write(device.descriptor.number, frame.baseAddress, frame.count) == frame.count
    }
}
