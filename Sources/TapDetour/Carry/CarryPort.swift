import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// A port of the agent's for a guest of another host: a member of a bridge only while that guest is carried.
public final class CarryPort: Sendable {
    public let bridge: String
    private let number: UInt32
    private let device: OwnedDescriptor
    private let isInside = Mutex(false)

    /// Made, up, and outside of the bridge.
    public init(for bridge: String) throws(DetourError) {
        do throws(SystemError) {
            var name = [CChar](repeating: 0, count: 16)
            let made = rml_tap_make("rmlport%d", &name)
            guard made >= 0 else { throw SystemError(operation: "make", errno: -made, subject: "a port for \(bridge)") }
            let device = OwnedDescriptor(owning: made)
            // A bridge without an address of its own takes the lowest of its members.
            let address: [UInt8] = [0xfe, 0x52, 0x6d] + (0..<3).map { _ in .random(in: 0...255) }
            var result = rml_device_address(name, address)
            if result >= 0 { result = rml_device_up(name, Detour.queueLength) }
            guard result >= 0 else {
                throw SystemError(operation: "bring up", errno: -result, subject: "a port for \(bridge)")
            }
            self.bridge = bridge
            number = if_nametoindex(name)
            self.device = device
        } catch {
            throw DetourError(error)
        }
    }

    /// A read is one frame of the network behind its header. Not blocking.
    public var descriptor: Int32 { device.number }

    public var isCarrying: Bool { isInside.withLock { $0 } }

    /// Enters the bridge, which learns by the announcement where `mac` is.
    public func enter(announcing mac: [UInt8]) throws(DetourError) {
        try isInside.withLock { (isInside) throws(DetourError) in
            guard !isInside else { return }
            let result = rml_bridge_enter(bridge, Int32(number))
            guard result >= 0 else {
                throw DetourError(SystemError(operation: "enter", errno: -result, subject: "the bridge \(bridge)"))
            }
            isInside = true
        }
        Announcement.send(mac) { send($0) }
    }

    /// Returns when nothing that is sent here gets into the bridge any more.
    public func leave() {
        isInside.withLock { isInside in
            guard isInside else { return }
            isInside = false
            _ = rml_bridge_leave(bridge, Int32(number))
        }
    }

    /// A frame of the guest behind its header. Returns false where the kernel does not take it, and outside of the bridge.
    public func send(_ frame: UnsafeRawBufferPointer) -> Bool {
        isInside.withLock { $0 && write(device.number, frame.baseAddress, frame.count) == frame.count }
    }
}
