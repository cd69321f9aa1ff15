/// Who started a guest and goes on managing it, where that is not its QEMU's own command line.
public enum GuestManager: String, Sendable, Codable, CaseIterable {
    case libvirt
}
