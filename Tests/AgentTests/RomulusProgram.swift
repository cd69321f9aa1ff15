import Foundation
import TestBed
import Testing

/// The built `romulus`, run as an operator runs it.
struct RomulusProgram {
    struct Outcome: Sendable {
        let status: Int32
        let out: String
        let err: String
        /// What a terminal showed, when there was one.
        var screen = ""
    }

    static let path = Programs.directory.appending(path: "romulus").path

    /// Nothing is a terminal: stdin is empty, stdout and stderr are files.
    static func run(
        _ arguments: [String], socket: String? = nil, environment: [String: String] = [:]
    ) async throws -> Outcome {
        try await onOwnThread {
            let outcome = try Child.outcome(of: command(arguments, socket, environment))
            return Outcome(status: outcome.exit.status, out: outcome.output, err: outcome.errors)
        }
    }

    /// Runs it with stdin, stdout and stderr on a terminal of its own, 100 columns wide, at which `typed` is typed.
    static func runOnTerminal(
        _ arguments: [String], socket: String? = nil, typed: String = "", environment: [String: String] = [:]
    ) async throws -> Outcome {
        try await onOwnThread {
            // TIOCSPTLCK and TIOCGPTN of ioctl_tty(2): Glibc's posix_openpt and its kin are not visible from Swift.
            let master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
            try #require(master >= 0)
            var locked: Int32 = 0
            var number: UInt32 = 0
            try #require(ioctl(master, 0x4004_5431, &locked) == 0 && ioctl(master, 0x8004_5430, &number) == 0)
            let slave = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY | O_CLOEXEC)
            try #require(slave >= 0)
            var size = winsize(ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0)
            try #require(ioctl(master, UInt(TIOCSWINSZ), &size) == 0)
            let logs = try TemporaryDirectory("terminal")
            defer { logs.remove() }
            let program = try Child(
                ["/bin/sh", "-c", "exec \"$@\" >&0 2>&0", "sh"] + command(arguments, socket, environment),
                name: "romulus", logs: logs.path, input: slave)
            close(slave)
            let bytes = Array(typed.utf8)
            try #require(write(master, bytes, bytes.count) == bytes.count)
            var shown: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 4096)
            // Reading ends with EIO when the last holder of the other side is gone.
            while case let count = read(master, &chunk, chunk.count), count > 0 { shown += chunk[..<count] }
            close(master)
            while true {
                if let exit = program.exit {
                    return Outcome(
                        status: exit.status, out: "", err: "", screen: String(decoding: shown, as: UTF8.self))
                }
                usleep(500)
            }
        }
    }

    private static func command(
        _ arguments: [String], _ socket: String?, _ environment: [String: String]
    ) -> [String] {
        var variables = ["PATH": "/usr/bin:/bin", "TERM": "xterm"]
        if let socket { variables["ROMULUS_SOCKET"] = socket }
        variables.merge(environment) { $1 }
        return ["/usr/bin/env", "-i"] + variables.map { "\($0.key)=\($0.value)" } + [path] + arguments
    }
}
