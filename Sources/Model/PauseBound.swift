/// What bounds a pause.
public enum PauseBound: String, Codable, Hashable, Sendable, CaseIterable {
    /// QEMU writing the state of its devices.
    case deviceState = "device_state"
    /// Finding and copying what the guest wrote.
    case pages
}
