import Foundation
import Standby

/// A directory of a test's own, gone with it.
final class Scratch {
    let path: String
    init() throws {
        path = NSTemporaryDirectory() + "/standby-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    func slots(_ count: Int, capacity: Int = 8 << 20, recovering: Bool = false) throws -> [StageSlot] {
        try (0..<count).map { try StageSlot(path: "\(path)/slot-\($0)", capacity: capacity, recovering: recovering) }
    }
}
