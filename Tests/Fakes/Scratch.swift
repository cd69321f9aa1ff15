import Foundation

/// A directory of a test's own, gone with it.
package final class Scratch {
    package let path: String
    package init() throws {
        path = NSTemporaryDirectory() + "/standby-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
}
