import CLinux
import Glibc
import LinuxSystem

/// A hardware watchdog that this process keeps from resetting the machine. From the opening on the machine is reset
/// unless `pet` is called in time, also when this process ends without `disarm`.
///
/// Source: the kernel's Documentation/watchdog/watchdog-api.rst.
public struct WatchdogDevice: ~Copyable, Sendable {
    private let descriptor: OwnedDescriptor
    /// What the device made of the timeout that was asked for.
    public let timeoutSeconds: Int

    /// Opens the device, which starts it, and sets its timeout. Throws EBUSY when another program has it.
    public init(path: String, timeoutSeconds: Int) throws(SystemError) {
        let device = try OwnedDescriptor.open(path, O_WRONLY)
        var seconds = Int32(clamping: timeoutSeconds)
        let result = rml_watchdog_set_timeout(device.number, &seconds)
        guard result >= 0 else {
            // It runs already: it must not reset a machine whose agent does not start.
            Self.write("V", to: device)
            throw SystemError(operation: "set the timeout of", errno: -result, subject: path)
        }
        self.timeoutSeconds = Int(seconds)
        descriptor = device
    }

    public func pet() { Self.write("\0", to: descriptor) }

    /// Stops the watchdog, where its driver allows that (`nowayout` is off), and closes it: the magic close.
    public consuming func disarm() { Self.write("V", to: descriptor) }

    private static func write(_ text: StaticString, to descriptor: borrowing OwnedDescriptor) {
        let bytes = UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
        try? descriptor.writeAll(bytes)
    }
}
