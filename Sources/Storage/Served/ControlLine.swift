import Foundation
import Glibc
import LinuxSystem
import Synchronization

/// Lines of JSON over a unix socket between an agent and the server of a disk, with a descriptor now and then.
public final class ControlLine: Sendable {
    private static let lineMax = 64 << 10

    private struct Input {
        var bytes: [UInt8] = []
        var descriptors: [Int32] = []
    }

    private let descriptor: OwnedDescriptor
    private let input = Mutex(Input())
    private let output = Mutex(())

    public init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }

    deinit { for number in input.withLock({ $0.descriptors }) { Glibc.close(number) } }

    public func hangUp() { shutdown(descriptor.number, Int32(SHUT_RDWR)) }

    /// False when the other side is gone.
    @discardableResult
    public func send(_ message: some Encodable, descriptor passed: Int32? = nil) -> Bool {
        guard var bytes = try? Array(JSONEncoder().encode(message)) else { return false }
        bytes.append(UInt8(ascii: "\n"))
        return output.withLock { _ in
            var start = 0
            while start < bytes.count {
                let sent = bytes[start...].withUnsafeBytes { rest in
                    let passed = start == 0 ? passed.map { [$0] } ?? [] : []
                    return try? LocalSocket.send(rest, descriptors: passed, over: descriptor)
                }
                guard let sent else { return false }
                start += sent
            }
            return true
        }
    }

    /// Waits for a line; nil when the other side is gone, or says what cannot be understood.
    public func nextLine() -> ServedLine? { next(ServedLine.self) }

    /// The answer to the order that was sent last; nil when the other side is gone.
    public func nextAnswer() -> ServedLine? {
        while let line = nextLine() {
            if line.isAnswer { return line }
        }
        return nil
    }

    /// As `nextLine`, with the socket that came along.
    func nextOrder() -> (ServedOrder, Int32?)? {
        guard let order = next(ServedOrder.self) else { return nil }
        guard order == .pair else { return (order, nil) }
        return (order, input.withLock { $0.descriptors.isEmpty ? nil : $0.descriptors.removeFirst() })
    }

    private func next<Message: Decodable>(_ type: Message.Type) -> Message? {
        while true {
            if let line = takeLine() { return try? JSONDecoder().decode(type, from: Data(line)) }
            var descriptors: [Int32] = []
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 1)
            defer { buffer.deallocate() }
            guard let count = try? LocalSocket.receive(into: buffer, descriptors: &descriptors, from: descriptor)
            else { return nil }
            let isGood = input.withLock { input in
                input.descriptors += descriptors
                input.bytes += buffer[..<count]
                return input.bytes.count <= Self.lineMax
            }
            guard count > 0, isGood else { return nil }
        }
    }

    private func takeLine() -> ArraySlice<UInt8>? {
        input.withLock { input in
            guard let end = input.bytes.firstIndex(of: UInt8(ascii: "\n")) else { return nil }
            let line = input.bytes[..<end]
            input.bytes.removeFirst(end + 1)
            return line
        }
    }
}
