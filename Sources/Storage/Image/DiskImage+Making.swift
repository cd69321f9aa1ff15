import Glibc
import LinuxSystem

extension DiskImage {
    /// Makes an image that is not there, empty and sparse, for a disk of `size` bytes.
    public static func make(_ path: String, format: ImageFormat, size: UInt64) throws(StorageError) {
        let tool: ToolProcess
        do throws(SystemError) {
            tool = try ToolProcess(["qemu-img", "create", "-q", "-f", format.rawValue, path, String(size)])
        } catch {
            let advice = error.errno == ENOENT ? ": install the package qemu-utils" : ""
            throw .cannotMake(path: path, reason: "\(error)\(advice)")
        }
        guard tool.waitForExit(timeout: nil), tool.succeeded else {
            throw .cannotMake(path: path, reason: "qemu-img said: \(tool.words)")
        }
    }
}
