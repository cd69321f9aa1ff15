/// What is wanted of a VM's protection.
public enum Desire: String, Codable, Hashable, Sendable, CaseIterable {
    /// It is protected whenever its QEMU is there.
    case always
    /// Nothing happens by itself.
    case manual
}
