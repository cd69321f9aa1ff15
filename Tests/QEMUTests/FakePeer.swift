import Glibc
import Testing

/// A unix socket whose other side a test plays, to see what happens when QEMU does not behave.
final class FakePeer: @unchecked Sendable {
    let path: String
    private let listener: Int32
    private var accepted: [Int32] = []

    init(in directory: TestDirectory, name: String = "fake.sock", backlog: Int32 = 4) throws {
        path = "\(directory.path)/\(name)"
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(bound == 0 && listen(listener, backlog) == 0)
    }

    deinit {
        for descriptor in accepted + [listener] { close(descriptor) }
    }

    func accept() -> Int32 {
        let descriptor = Glibc.accept(listener, nil, nil)
        accepted.append(descriptor)
        return descriptor
    }

    func say(_ text: String, to descriptor: Int32) {
        let bytes = Array(text.utf8)
        _ = send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }

    func read(from descriptor: Int32) -> String {
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = recv(descriptor, &bytes, bytes.count, 0)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    func stopListening() { shutdown(listener, Int32(SHUT_RDWR)) }

    static let greeting =
        #"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}}}"# + "\r\n"

    /// Plays the peer on a thread of its own; `body` gets the accepted connection.
    func play(_ body: @escaping @Sendable (FakePeer, Int32) -> Void) {
        final class Box {
            let run: () -> Void
            init(_ run: @escaping () -> Void) { self.run = run }
        }
        let box = Unmanaged.passRetained(Box { [self] in body(self, accept()) })
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        pthread_detach(thread)
    }
}
