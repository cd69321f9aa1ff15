import CLinux
import Glibc
import LinuxSystem

/// A device of the agent's beside a tap: what is written to it comes in from the tap, as the guest's own frames do, or goes out to
/// the guest.
struct AgentDevice: ~Copyable {
    let name: String
    let number: UInt32
    let descriptor: OwnedDescriptor

    init(beside tap: String, _ tapNumber: UInt32, _ way: HookProgram.Way) throws(SystemError) {
        var name = [CChar](repeating: 0, count: 16)
        let made = rml_tap_make("rmldetour%d", &name)
        guard made >= 0 else {
            throw SystemError(operation: "make", errno: -made, subject: "a device beside \(tap)")
        }
        let descriptor = OwnedDescriptor(owning: made)
        let number = if_nametoindex(name)
        try HookProgram.back(to: tapNumber, way).attach(to: number, .ingress, replacing: nil)
        try HookProgram.onlyMarked().attach(to: number, .egress, replacing: nil)
        // Before that nothing of this host's could have been kept out.
        let up = rml_device_up(name, Detour.queueLength)
        guard up >= 0 else { throw SystemError(operation: "bring up", errno: -up, subject: "a device beside \(tap)") }
        self.name = name.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        self.number = number
        self.descriptor = descriptor
    }

    /// What passed through it so far: to the agent is what it sent.
    func frames() throws(SystemError) -> DeviceFrames {
        let devices = try ProcessFiles.networkDevices(of: NamedThread.currentID)
        guard let frames = devices[name] else {
            throw SystemError(operation: "read the counters of", errno: ENODEV, subject: name)
        }
        return frames
    }
}
