import Foundation
import LinuxSystem
import Synchronization
import TestBed
import Testing

/// A QEMU without a guest, and its monitor.
final class QEMU {
    private let process: Child
    private let socket: OwnedDescriptor
    private var received: [UInt8] = []
    private(set) var events: [[String: Any]] = []

    var pid: pid_t { process.pid }

    /// Firmware that halts: one that looks for something to boot resets its disks, and QEMU waits then, deaf, for what they have
    /// under way.
    private static let firmware = [UInt8](repeating: 0xf4, count: 64 << 10)

    /// TCG, 32 MiB, machine type pc, no default devices, and a processor that does nothing.
    init(_ arguments: [String], in directory: TemporaryDirectory, name: String) throws {
        let monitor = directory.file("\(name).qmp")
        let bios = try directory.write("\(name).firmware", Self.firmware)
        process = try Child(
            [
                "qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-m", "32", "-nodefaults", "-display", "none",
                "-qmp", "unix:\(monitor),server=on,wait=off", "-bios", bios,
            ] + arguments, name: name, logs: directory.path)
        let deadline = Date().addingTimeInterval(60)
        while true {
            if let socket = try? LocalSocket.connect(to: monitor) {
                self.socket = socket
                break
            }
            if !process.isRunning || Date() > deadline {
                process.kill()
                throw QMPFailure(words: process.errors.isEmpty ? "it does not start" : process.errors)
            }
            usleep(5000)
        }
        var limit = timeval(tv_sec: 60, tv_usec: 0)
        setsockopt(socket.number, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        _ = try line()
        try command("qmp_capabilities")
    }

    deinit { kill() }

    func kill() {
        process.kill()
        while process.isRunning { usleep(500) }
    }

    /// Ends it the orderly way: caches are written out.
    func quit() throws {
        try command("quit")
        while process.isRunning { usleep(500) }
    }

    struct QMPFailure: Error {
        var words: String
    }

    @discardableResult
    func command(_ name: String, _ arguments: [String: Any] = [:]) throws -> Any {
        let request = try JSONSerialization.data(withJSONObject: ["execute": name, "arguments": arguments])
        try request.withUnsafeBytes { try socket.writeAll($0) }
        while true {
            let answer = try line()
            if let result = answer["return"] { return result }
            if let error = answer["error"] as? [String: Any] {
                throw QMPFailure(words: "\(name): \(error["desc"] ?? "")")
            }
            events.append(answer)
        }
    }

    /// A command of the human monitor, answered with text.
    @discardableResult
    func monitor(_ line: String) throws -> String {
        try #require(try command("human-monitor-command", ["command-line": line]) as? String)
    }

    /// `qemu-io` on a drive or, `-d QOM-PATH`, on a device of the running QEMU. What it finds out goes to QEMU's standard
    /// output; only a command that could not be tried at all is an error here.
    func io(_ target: String, _ line: String) throws {
        let answer = try monitor("qemu-io \(target) \"\(line)\"")
        try #require(answer.isEmpty, "\(line): \(answer)")
    }

    /// What the guest would read from a block node, copied out by a job.
    func contents(ofNode node: String, in directory: TemporaryDirectory, size: Int) throws -> [UInt8] {
        let copy = try directory.sparseFile("copy", size: size)
        try command("blockdev-add", ["driver": "file", "node-name": "copy", "filename": copy])
        try command("blockdev-backup", ["job-id": "copy", "device": node, "target": "copy", "sync": "full"])
        try waitForEvent("BLOCK_JOB_COMPLETED")
        try command("blockdev-del", ["node-name": "copy"])
        return try StorageTests.contents(of: copy)
    }

    func status() throws -> String {
        try #require((try command("query-status") as? [String: Any])?["status"] as? String)
    }

    /// Waits for an event that has not been looked at yet.
    func waitForEvent(_ name: String) throws {
        while true {
            if let index = events.firstIndex(where: { $0["event"] as? String == name }) {
                events.remove(at: index)
                return
            }
            events.append(try line())
        }
    }

    private func line() throws -> [String: Any] {
        while true {
            if let end = received.firstIndex(of: UInt8(ascii: "\n")) {
                let text = Data(received[..<end])
                received.removeSubrange(...end)
                return try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
            }
            var bytes = [UInt8](repeating: 0, count: 65536)
            let count = try bytes.withUnsafeMutableBytes { try socket.read(into: $0) }
            guard count > 0 else {
                throw QMPFailure(words: "QEMU ended: " + process.errors)
            }
            received += bytes[..<count]
        }
    }
}
