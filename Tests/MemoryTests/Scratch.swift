import Foundation

/// A directory of a test's own, gone with it.
final class Scratch {
    let path: String
    init() throws {
        path = NSTemporaryDirectory() + "/memory-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
}
