import Glibc
import QEMU

/// A monitor whose answers a test gives: for guests that this machine cannot run.
final class FakeMonitor {
    private let directory = TestDirectory()
    private let peer: FakePeer

    /// `answer` gets a command's name and its arguments, on another thread.
    init(_ answer: @escaping @Sendable (String, JSONValue) -> JSONValue) throws {
        peer = try FakePeer(in: directory)
        peer.play { peer, descriptor in
            peer.say(FakePeer.greeting, to: descriptor)
            var rest = ""
            while true {
                let text = peer.read(from: descriptor)
                if text.isEmpty { return }
                rest += text
                while let end = rest.firstIndex(where: \.isNewline) {
                    let line = String(rest[..<end])
                    rest = String(rest[rest.index(after: end)...])
                    guard let command = try? JSONValue(parsing: line), let name = command["execute"]?.string else {
                        continue
                    }
                    let value = name == "qmp_capabilities" ? [:] : answer(name, command["arguments"] ?? [:])
                    let reply: JSONValue = ["return": value, "id": command["id"] ?? .null]
                    peer.say("\(reply)\r\n", to: descriptor)
                }
            }
        }
    }

    func connect() throws -> QMPConnection { try QMPConnection(path: peer.path) }
}
