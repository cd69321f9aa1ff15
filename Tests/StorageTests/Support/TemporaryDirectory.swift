import Foundation
import TestBed
import Testing

/// A directory of one test's own, gone with the last reference to it.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/romulus-storage-\(getpid())-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        umount2(file("small"), Int32(MNT_DETACH))
        try? FileManager.default.removeItem(atPath: path)
    }

    /// A folder with room for `kilobytes` only: a file system of its own, of which there may be one.
    func smallFileSystem(kilobytes: Int) throws -> String {
        let path = file("small")
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        try #require(mount("none", path, "tmpfs", 0, "size=\(kilobytes)k") == 0)
        return path
    }

    func file(_ name: String) -> String { path + "/" + name }

    /// A file of `size` bytes that is all hole.
    func sparseFile(_ name: String, size: Int) throws -> String {
        let path = file(name)
        try #require(FileManager.default.createFile(atPath: path, contents: nil))
        try #require(truncate(path, size) == 0)
        return path
    }

    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        let path = file(name)
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        return path
    }
}

func contents(of path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }

/// Where two disks differ first; nil when they are equal. For expectations, which would print both.
func firstDifference(_ a: [UInt8], _ b: [UInt8]) -> Int? {
    if a == b { return nil }
    return zip(a, b).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? min(a.count, b.count)
}

/// splitmix64: the tests' source of numbers, so that a failing seed can be run again.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count + 8) { buffer, initialized in
            let raw = UnsafeMutableRawBufferPointer(buffer)
            for offset in stride(from: 0, to: count, by: 8) {
                raw.storeBytes(of: next(), toByteOffset: offset, as: UInt64.self)
            }
            initialized = count
        }
    }
}

/// What a program said.
struct ProgramResult {
    var status: Int32
    var output: String
    var errors: String
}

/// Runs a program to its end.
func run(_ arguments: String...) throws -> ProgramResult { try run(arguments) }

func run(_ arguments: [String]) throws -> ProgramResult {
    let outcome = try Child.outcome(of: arguments)
    return ProgramResult(status: outcome.exit.status, output: outcome.output, errors: outcome.errors)
}

/// Runs a program that must succeed; returns its output.
@discardableResult
func succeed(_ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation) throws -> String {
    let result = try run(arguments)
    try #require(result.status == 0, "\(arguments): \(result.errors)", sourceLocation: sourceLocation)
    return result.output
}
