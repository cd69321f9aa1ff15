import Glibc
import LinuxSystem
import Testing

/// A stock QEMU without a guest kernel: the firmware runs, which is enough to attach to.
private final class QEMUProcess {
    let process: ChildProcess
    let folder = TemporaryFolder()
    private let socket: OwnedDescriptor
    private let lines: LineReader
    var pid: pid_t { process.pid }

    init(paused: Bool) throws {
        let path = folder.path + "/qmp"
        // With the seccomp filter that libvirt asks for.
        let sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
        let arguments = [
            "-machine", "pc", "-accel", "tcg", "-m", "64", "-display", "none", "-nodefaults", "-serial", "none",
            "-sandbox", sandbox, "-qmp", "unix:\(path),server=on,wait=off",
        ]
        process = try ChildProcess(["/usr/bin/qemu-system-x86_64"] + arguments + (paused ? ["-S"] : []))
        var connected: OwnedDescriptor?
        try eventually("QEMU listening at \(path)") {
            connected = try? LocalSocket.connect(to: path)
            return connected != nil
        }
        socket = connected.take()!
        lines = LineReader()
        _ = try lines.next(from: socket)
        _ = try execute(#"{"execute":"qmp_capabilities"}"#)
    }

    /// The answer, past any events.
    func execute(_ command: String) throws -> String {
        try (command + "\n").withCStringBytes { try socket.writeAll($0) }
        while true {
            let line = try lines.next(from: socket)
            if line.hasPrefix(#"{"return""#) || line.hasPrefix(#"{"error""#) { return line }
        }
    }

    /// Address and length of `pc.ram` in QEMU.
    func mainMemory() throws -> TrackedBlock {
        let answer = try execute(
            #"{"execute":"human-monitor-command","arguments":{"command-line":"gpa2hva 0"}}"#)
        guard let digits = answer.split(separator: " is 0x").last?.prefix(while: { $0.isHexDigit }),
            let address = UInt64(digits, radix: 16)
        else { throw TestFailure("QEMU said \(answer)") }
        return TrackedBlock(index: 0, address: address, length: 64 << 20)
    }
}

private final class LineReader {
    private var pending: [UInt8] = []

    func next(from socket: borrowing OwnedDescriptor) throws -> String {
        while true {
            if let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
                defer { pending.removeFirst(end + 1) }
                return String(decoding: pending[..<end], as: UTF8.self)
            }
            var poller = Poller(capacity: 1)
            _ = poller.add(socket.number)
            if try poller.wait(timeout: 20_000_000_000) == 0 { throw TestFailure("QEMU does not answer") }
            var chunk = [UInt8](repeating: 0, count: 65536)
            let count = try chunk.withUnsafeMutableBytes { try socket.read(into: $0) }
            if count == 0 { throw TestFailure("QEMU closed its monitor") }
            pending.append(contentsOf: chunk[..<count])
        }
    }
}

@Suite struct QEMUProcessTests {
    private static let status = #"{"execute":"query-status"}"#

    @Test func attachingAndDetachingLeavesAPausedOneAsItWas() throws {
        let qemu = try QEMUProcess(paused: true)
        let memory = try qemu.mainMemory()
        let before = try Trace(of: qemu.pid)
        for _ in 0..<3 {
            var tracker = try MemoryTracker(attachingTo: qemu.pid)
            #expect(try qemu.execute(Self.status).contains("prelaunch"))
            try tracker.track(memory)
            try tracker.protectAll()
            let during = try Trace(of: qemu.pid)
            #expect(during.isWatched)
            #expect(during.descriptors == before.descriptors)
            try tracker.close()
            let after = try Trace(of: qemu.pid)
            #expect(after.descriptors == before.descriptors)
            #expect(after.mappings.difference(from: before.mappings).isEmpty)
            #expect(after.signals == before.signals)
        }
        #expect(try qemu.execute(Self.status).contains("prelaunch"))
    }

    @Test func writesOfARunningOneAreSeen() throws {
        let qemu = try QEMUProcess(paused: false)
        let memory = try qemu.mainMemory()
        let descriptors = try Trace.descriptors(of: qemu.pid)
        var tracker = try MemoryTracker(attachingTo: qemu.pid)
        try tracker.track(memory)
        try tracker.protectAll()
        var runs = RunBuffer(capacity: 4096)
        for _ in 0..<3 {
            // After a reset the firmware starts over and writes its tables.
            _ = try qemu.execute(#"{"execute":"system_reset"}"#)
            var pages = 0
            try eventually("a write by the firmware") {
                runs.removeAll()
                var position = ScanPosition()
                _ = try tracker.scanWritten(from: &position, protecting: true, into: &runs)
                pages = runs.pages
                return pages > 0
            }
            let slab = try Mapping.anonymous(length: pages * trackedPageSize)
            let copied = try tracker.copy(runs, into: slab.bytes)
            #expect(copied == slab.bytes.count)

            // Nothing runs, nothing is written.
            _ = try qemu.execute(#"{"execute":"stop"}"#)
            var position = ScanPosition()
            _ = try tracker.scanWritten(from: &position, protecting: true, into: &runs)
            runs.removeAll()
            position = ScanPosition()
            _ = try tracker.scanWritten(from: &position, protecting: true, into: &runs)
            let idle = runs.pages
            #expect(idle == 0)
            _ = try qemu.execute(#"{"execute":"cont"}"#)
        }
        try tracker.close()
        let after = try Trace(of: qemu.pid)
        #expect(after.descriptors == descriptors)
        #expect(!after.isWatched)
        #expect(try qemu.execute(Self.status).contains("running"))
    }
}
