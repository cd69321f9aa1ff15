import Fencing
import Foundation
import LinuxSystem
import Model
import Synchronization

let alpha = NodeName("alpha").unsafelyUnwrapped
let beta = NodeName("beta").unsafelyUnwrapped
let web = VMName("web").unsafelyUnwrapped
let mail = VMName("mail").unsafelyUnwrapped

/// A fence command that is a script of the test, in a directory of its own, and what came of it.
final class FenceBed: Sendable {
    let directory: String
    let news = Mutex<[(vm: VMName?, news: PeerFence.News, text: String)]>([])
    let answers = Mutex<[(vm: VMName, ending: PeerFence.Ending)]>([])
    let heardAt = Mutex<UInt64>(0)

    init() throws {
        directory = NSTemporaryDirectory() + "rml-fence-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    /// Writes `lines` as a program; `$D` in them is the bed's directory.
    func script(_ lines: String...) throws -> String {
        let path = "\(directory)/fence"
        let text = "#!/bin/sh\nD=\(directory)\n" + lines.joined(separator: "\n") + "\n"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        chmod(path, 0o755)
        return path
    }

    func fence(
        _ command: [String], timeout: Int = 20_000, delay: Int? = 0, silence: Int = 10, pause: Int = 50
    ) -> PeerFence {
        PeerFence(
            beta, command: FenceCommand(command: command, timeoutMilliseconds: timeout, delayMilliseconds: delay),
            from: alpha, silenceMilliseconds: silence, pauseMilliseconds: pause,
            lastHeard: { [self] in heardAt.withLock { $0 } },
            tell: { [self] vm, news, text in self.news.withLock { $0.append((vm, news, text)) } })
    }

    func ask(_ fence: PeerFence, for vm: VMName = web, as role: FencingRole = .primary) {
        fence.ask(for: vm, as: role, reason: "nothing was received for 501 ms") { [self] ending in
            answers.withLock { $0.append((vm, ending)) }
        }
    }

    /// The answers, once there are that many.
    func answers(_ count: Int, within seconds: Double = 20) async throws -> [(vm: VMName, ending: PeerFence.Ending)] {
        try await wait("\(count) answers", within: seconds) { self.answers.withLock { $0.count >= count } }
        return answers.withLock { $0 }
    }

    func wait(_ what: String, within seconds: Double = 20, _ isSo: () -> Bool) async throws {
        let deadline = MonotonicClock.now() + UInt64(seconds * 1e9)
        while !isSo() {
            guard MonotonicClock.now() < deadline else { throw NotSo(what: what) }
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    func touch(_ name: String) {
        _ = FileManager.default.createFile(atPath: "\(directory)/\(name)", contents: nil)
    }

    func contents(_ name: String) -> String {
        (try? String(contentsOfFile: "\(directory)/\(name)", encoding: .utf8)) ?? ""
    }

    var texts: [String] { news.withLock { $0.map(\.text) } }
}

struct NotSo: Error, CustomStringConvertible {
    var what: String
    var description: String { "waited in vain for \(what)" }
}
