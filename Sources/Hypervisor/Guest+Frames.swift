import LinuxSystem

/// What the host counts of a guest's network, whoever runs the guest.
extension Guest {
    /// The frames that passed through the taps of its NICs so far, as the host counts them: `received` is what the guest
    /// sent. Throws a sentence that says why they cannot be told.
    public func countFrames() throws(UncountedFrames) -> DeviceFrames {
        guard !description.nics.isEmpty else { throw UncountedFrames(reason: "it has no NIC") }
        let devices: [String: DeviceFrames]
        do throws(SystemError) {
            devices = try ProcessFiles.networkDevices(of: pid)
        } catch {
            throw UncountedFrames(reason: "\(error)")
        }
        var sum = DeviceFrames(received: 0, sent: 0)
        for nic in description.nics {
            guard let name = nic.interface else {
                throw UncountedFrames(reason: "NIC \(nic.name) is on no tap whose name is known (\(nic.backend))")
            }
            guard let frames = devices[name] else {
                throw UncountedFrames(reason: "\(name) of NIC \(nic.name) is not in QEMU's network namespace")
            }
            sum.received += frames.received
            sum.sent += frames.sent
        }
        return sum
    }
}

/// Why the frames of a guest cannot be counted.
public struct UncountedFrames: Error {
    public var reason: String
}
