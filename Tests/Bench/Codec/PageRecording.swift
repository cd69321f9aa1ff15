import Foundation
import LinuxSystem
import Model
import TestBed

/// Recorded pages in memory: all new contents in a row, all old ones in a row, in huge pages as the slabs of the agent are.
final class PageRecording {
    let pages: Int
    let epochs: Int
    private let memory: Mapping
    private let oldOffset: Int
    var new: UnsafeMutableRawPointer { memory.bytes.baseAddress! }
    var old: UnsafeMutableRawPointer { memory.bytes.baseAddress! + oldOffset }

    init(reading path: String) throws {
        let data = try Data(contentsOf: URL(fileURLWithPath: path))
        let limit = data.count / (2 * pageSize)
        let memory = try Mapping.anonymous(length: max(1, 2 * limit) * pageSize)
        memory.adviseHugePages()
        let new = memory.bytes.baseAddress!
        let old = new + limit * pageSize
        var (pages, epochs, offset) = (0, 0, 0)
        data.withUnsafeBytes { bytes in
            while offset + 4 <= bytes.count {
                let count = Int(bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
                offset += 4 + 4 * count
                guard offset + count * 2 * pageSize <= bytes.count else { break }
                for _ in 0..<count {
                    let source = bytes.baseAddress! + offset
                    (old + pages * pageSize).copyMemory(from: source, byteCount: pageSize)
                    (new + pages * pageSize).copyMemory(from: source + pageSize, byteCount: pageSize)
                    offset += 2 * pageSize
                    pages += 1
                }
                epochs += 1
            }
        }
        guard pages > 0 else { throw BedError("\(path) holds no recorded pages; remove it and run the bench again.") }
        self.pages = pages
        self.epochs = epochs
        oldOffset = limit * pageSize
        self.memory = memory
    }
}
