import Foundation

/// A QEMU that the bed has.
public enum QEMUProgram: String, Sendable, CaseIterable {
    /// The one in `PATH`: Debian's own.
    case installed
    /// The one of Debian's backports, which `deploy/newer-qemu` unpacks into the bed's cache.
    case newer

    /// What to start.
    public func path() throws(BedError) -> String {
        switch self {
        case .installed: return "qemu-system-x86_64"
        case .newer:
            let folder = try Child.run([Self.script, "\(GuestImage.defaultCache)/newer-qemu"])
            return folder.trimmingCharacters(in: .whitespacesAndNewlines) + "/qemu-system-x86_64"
        }
    }

    private static let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("deploy/newer-qemu").path
}
