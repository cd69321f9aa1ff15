import Foundation

/// A disk image on storage that answers reads late, and fails when told to: `Host/slow-disk.c`, a file system of its own over the image's folder.
public struct SlowDisk: Sendable {
    /// What QEMU opens.
    public let path: String
    private let server: Child
    private let faultPath: String

    /// What becomes of what is asked of it.
    public enum Fault: String, Sendable, CaseIterable {
        /// Reads, writes and flushes fail.
        case eio
        /// Writes fail.
        case enospc
        /// Flushes fail.
        case flush
        /// Nothing is answered; it is done once the disk is whole again.
        case hang
    }

    /// Breaks it from here on, or mends it.
    public func be(_ fault: Fault?) throws {
        guard let fault else { return try FileManager.default.removeItem(atPath: faultPath) }
        try fault.rawValue.write(toFile: faultPath, atomically: true, encoding: .utf8)
    }

    /// - Parameters:
    ///   - image: the file behind it; it lies elsewhere.
    ///   - delayMilliseconds: how long every read takes, and every write with `isForWrites`.
    public static func start(
        on host: BedHost, image: String, delayMilliseconds: Double, isForWrites: Bool = false
    ) async throws -> SlowDisk {
        let (tool, directory) = ("\(host.runtimeDirectory)/slow-disk", "\(host.runtimeDirectory)/slow")
        try GuestImage.compileHostTool("slow-disk", to: tool)
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let command = [tool, directory, image, "\(Int(delayMilliseconds * 1000))"] + (isForWrites ? ["writes"] : [])
        let server = try host.spawn(command, name: "slow-disk")
        try await eventually("the slow disk is there", within: .seconds(20)) {
            if let exit = server.exit { throw BedError("slow-disk ended (\(exit)): \(server.errors)") }
            return server.output.contains("ready") ? true : nil
        }
        return SlowDisk(path: "\(directory)/disk", server: server, faultPath: image + ".fault")
    }
}
