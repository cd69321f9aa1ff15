import CLinux
import Glibc
import LinuxSystem

/// An image in a format that QEMU's own program opens for the agent: qemu-nbd, with one connection to it.
///
/// qemu-nbd (without `--persistent`) ends by itself when its one client hangs up, and writes out its caches before:
/// should the agent be killed, nothing is left behind that would hold the image's lock.
final class ExportedImage: Sendable {
    let path: String
    private let process: ToolProcess
    private let client: NBDClient
    private let directory: String

    var size: UInt64 { client.size }
    /// Counts what was written.
    var progress: UInt64 { client.progress.load(ordering: .relaxed) }

    private static let startTimeout: UInt64 = 15_000_000_000
    /// How long another program's lock is waited for: a qemu-nbd whose agent was killed is still writing out its caches.
    private static let lockTimeout: UInt64 = 1_000_000_000
    private static let exitTimeout: UInt64 = 60_000_000_000

    init(path: String, format: String) throws(StorageError) {
        guard path.hasPrefix("/") else {
            throw .cannotOpen(path: path, reason: "the path must start with a slash")
        }
        guard access(path, R_OK | W_OK) == 0 else {
            throw .cannotOpen(path: path, reason: String(cString: strerror(errno)))
        }
        let directory = try Self.makeDirectory()
        var ready = false
        defer { if !ready { Self.removeDirectory(directory) } }
        (process, client) = try Self.start(path: path, format: format, socket: directory + "/nbd")
        self.path = path
        self.directory = directory
        ready = true
    }

    deinit { Self.removeDirectory(directory) }

    func read(offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(StorageError) {
        do throws(StorageError) { try client.read(offset: offset, into: target) } catch { throw withWords(error) }
    }

    func write(_ writes: ArraySlice<ImageWrite>) throws(StorageError) {
        do throws(StorageError) { try client.write(writes) } catch { throw withWords(error) }
    }

    func flush() throws(StorageError) {
        do throws(StorageError) { try client.flush() } catch { throw withWords(error) }
    }

    /// Writes the image's metadata out and returns when qemu-nbd has ended, so that a QEMU may open or activate it.
    func close() throws(StorageError) {
        var failure: StorageError?
        do throws(StorageError) { try flush() } catch { failure = error }
        client.disconnect()
        if !process.waitForExit(timeout: Self.exitTimeout) {
            process.signal(SIGKILL)
            _ = process.waitForExit(timeout: Self.exitTimeout)
        }
        Self.removeDirectory(directory)
        if let failure { throw failure }
        if !process.succeeded {
            throw .failed(path: path, operation: "close", reason: "qemu-nbd did not end well: \(process.words)")
        }
    }

    /// When the process has ended its own words say more than a broken socket.
    private func withWords(_ error: StorageError) -> StorageError {
        guard case .nbd = error, process.waitForExit(timeout: 200_000_000) else { return error }
        let words = process.words
        return .failed(
            path: path, operation: "use",
            reason: "its qemu-nbd (process \(process.pid)) has ended" + (words.isEmpty ? "" : ", saying: \(words)"))
    }

    // MARK: - Start

    private static func start(
        path: String, format: String, socket: String
    ) throws(StorageError) -> (ToolProcess, NBDClient) {
        let deadline = rml_monotonic() + lockTimeout
        while true {
            let process: ToolProcess
            do throws(SystemError) {
                process = try ToolProcess([
                    "qemu-nbd", "--format=\(format)", "--discard=unmap", "--cache=writeback",
                    "--export-name=disk", "--socket=\(socket)", path,
                ])
            } catch {
                let advice = error.errno == ENOENT ? ": install the package qemu-utils" : ""
                throw .cannotStart(what: "qemu-nbd, which opens \(path)", reason: "\(error)\(advice)")
            }
            if let client = try connect(process, path: path, socket: socket) { return (process, client) }
            let words = process.words
            guard words.contains("lock") else { throw .cannotOpen(path: path, reason: "qemu-nbd says: \(words)") }
            guard rml_monotonic() < deadline else { throw .inUse(path: path) }
            rml_sleep_until(rml_monotonic() + 50_000_000)
        }
    }

    /// Nil when the process ended instead of serving: it listens before it opens the image.
    private static func connect(_ process: ToolProcess, path: String, socket: String) throws(StorageError) -> NBDClient?
    {
        let deadline = rml_monotonic() + startTimeout
        while rml_monotonic() < deadline {
            if let connection = try? LocalSocket.connect(to: socket) {
                do throws(StorageError) {
                    // Named after the image, as an error of this conversation is one of the image.
                    return try NBDClient(connection, export: "disk", peer: path)
                } catch {
                    if process.waitForExit(timeout: 1_000_000_000) { return nil }
                    throw error
                }
            }
            // Doubles as the pause between two attempts.
            if process.waitForExit(timeout: 2_000_000) { return nil }
        }
        throw .cannotStart(
            what: "qemu-nbd, which opens \(path)", reason: "it does not listen after \(startTimeout / 1_000_000_000) s")
    }

    private static func makeDirectory() throws(StorageError) -> String {
        var template = Array("/tmp/romulus-nbd-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw .cannotStart(what: "qemu-nbd", reason: "no directory in /tmp: " + String(cString: strerror(errno)))
        }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func removeDirectory(_ directory: String) {
        unlink(directory + "/nbd")
        rmdir(directory)
    }
}
