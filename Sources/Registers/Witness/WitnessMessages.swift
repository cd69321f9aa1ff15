import FoundationEssentials
import Model
import NIOCore
import Wire

/// A node asks the witness for a register, or to change it. One link carries any number of requests; the witness answers
/// them in order.
struct RegisterRequest: Codable, Sendable {
    static let type = FrameType.registerRequest

    struct Change: Codable, Sendable {
        /// Nil when there should be no register yet.
        var expected: Register?
        var new: Register
        var nonce: Nonce
    }

    /// Chosen by the asker, and repeated in the reply.
    var id: UInt64
    var vm: VMName
    /// The highest term of the VM that the asker saw at this witness.
    var seen: Term
    /// Nil only reads.
    var change: Change?
}

struct RegisterReply: Codable, Sendable {
    static let type = FrameType.registerReply

    enum Outcome: String, Codable, Sendable {
        /// The register as it is: the reply to a reading.
        case value
        case applied
        case conflict
        /// The asker saw a higher term than the witness has.
        case amnesic
        /// The store cannot answer; `reason` is one sentence for the operator.
        case refused
    }

    var id: UInt64
    /// The identity of the witness's store.
    var store: String
    var outcome: Outcome
    /// Nil when there is none, and with `refused`.
    var register: Register?
    var reason: String?
}

enum WitnessMessage {
    /// A message as a complete frame.
    static func frame(_ message: some Encodable, _ type: FrameType) -> ByteBuffer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        // Plain value types with string keys: encoding them cannot fail.
        guard let data = try? encoder.encode(message) else { preconditionFailure("a message is encodable") }
        var sink = ByteSink(capacity: data.count + FrameHeader.size)
        data.withUnsafeBytes { sink.append(frame: type, body: $0, epoch: .firstCopy, sequence: 0) }
        return ByteBuffer(bytes: sink.bytes)
    }

    static func parse<Message: Decodable>(_ type: Message.Type, _ body: ByteBuffer) -> Message? {
        body.withUnsafeReadableBytes { try? JSONDecoder().decode(type, from: Data($0)) }
    }
}
