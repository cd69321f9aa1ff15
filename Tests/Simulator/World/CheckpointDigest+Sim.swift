import Model
import Wire

extension CheckpointDigest {
    /// Of a checkpoint as it was sent.
    init(_ session: SessionID, _ epoch: Epoch, tip: Int) {
        var bytes = [UInt8](repeating: 0, count: CheckpointDigest.size)
        withUnsafeBytes(of: (session.number, epoch.number, UInt64(bitPattern: Int64(tip)))) { fields in
            for index in fields.indices { bytes[index] = fields[index] }
        }
        self = bytes.withUnsafeBytes { CheckpointDigest($0) }
    }
}
