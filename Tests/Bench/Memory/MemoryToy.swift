import Foundation
import LinuxSystem
import TestBed

/// A running `memory-toy`: a process whose memory is watched as a guest's is. It is started without the bed's `Child`,
/// because a parent that waits for its child takes away the stops that a tracer waits for.
final class MemoryToy {
    enum Pages: String, CaseIterable {
        case small, huge

        var description: String { self == .small ? "4 KiB pages" : "huge pages" }
    }

    let pid: pid_t
    let block: TrackedBlock
    private let input: OwnedDescriptor
    private let output: OwnedDescriptor
    private let folder: TemporaryDirectory

    init(mebibytes: Int, _ pages: Pages) throws {
        folder = try TemporaryDirectory("memory-toy")
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("memory-toy.c")
        let program = "\(folder.path)/memory-toy"
        try Child.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", program, source.path])
        let toChild = try DescriptorPair.pipe()
        let fromChild = try DescriptorPair.pipe()
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, toChild.first.number, 0)
        posix_spawn_file_actions_adddup2(&actions, fromChild.second.number, 1)
        var words: [UnsafeMutablePointer<CChar>?] =
            ([program, "\(mebibytes)", pages.rawValue] as [String]).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var child: pid_t = 0
        let failure = posix_spawn(&child, program, &actions, nil, &words, environ)
        guard failure == 0 else { throw BedError("\(program) does not start: \(String(cString: strerror(failure)))") }
        pid = child
        input = toChild.takeSecond()
        output = fromChild.takeFirst()
        do {
            let fields = try Self.line(from: output).split(separator: " ")
            guard fields.count == 2, let address = UInt64(fields[0], radix: 16), let length = UInt64(fields[1]) else {
                throw BedError("the memory toy says something else: \(fields)")
            }
            block = TrackedBlock(index: 0, address: address, length: length)
        } catch {
            Self.end(pid)
            folder.remove()
            throw error
        }
    }

    deinit {
        Self.end(pid)
        folder.remove()
    }

    private static func end(_ pid: pid_t) {
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
    }

    var gibibytes: Double { Double(block.length) / Double(1 << 30) }

    /// Gives it an order; the nanoseconds that each page took.
    func ask(_ order: String) throws -> Double {
        try Array("\(order)\n".utf8).withUnsafeBytes { try input.writeAll($0) }
        let line = try Self.line(from: output)
        guard let taken = Double(line) else { throw BedError("the memory toy answers \(order) with: \(line)") }
        return taken
    }

    /// A tracker of its memory, which is protected.
    func tracker() throws -> MemoryTracker {
        var tracker = try MemoryTracker(attachingTo: pid)
        try tracker.track(block)
        try tracker.protectAll()
        return tracker
    }

    private static func line(from descriptor: borrowing OwnedDescriptor) throws -> String {
        var bytes: [UInt8] = []
        var byte: [UInt8] = [0]
        while true {
            guard try byte.withUnsafeMutableBytes({ try descriptor.read(into: $0) }) > 0 else {
                throw BedError("the memory toy ended.")
            }
            if byte[0] == UInt8(ascii: "\n") { return String(decoding: bytes, as: UTF8.self) }
            bytes += byte
        }
    }
}
