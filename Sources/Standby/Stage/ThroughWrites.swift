import Crypto
import Model
import Wire

/// The disk writes that belong to no checkpoint: each goes into the image as it comes, and is answered for when it is there (I38).
/// The primary says from which epoch on they do, again and again while the dial is turned; the count of the answers goes on over
/// the whole session. Not thread-safe; the session's lock guards it.
package struct ThroughWrites: Sendable {
    /// Where a frame belongs.
    package enum Place: Sendable {
        /// Into the replica as it comes: of a first copy, or one of these writes.
        case direct
        case checkpoint
    }

    /// So much is left without an answer at most, where more is about to be written.
    private static let unansweredMax: UInt64 = 16
    private static let unansweredBytesMax = 256 << 10

    /// What those carry that the primary spoke of last; nil where it spoke of none.
    private var epoch: Epoch?
    /// The disks of the first copy are whole.
    private var hasBegun = false
    /// They wait until this one is applied: what it wrote to the disks comes before them.
    private var waitsFor = Epoch.firstCopy
    private var written: UInt64 = 0
    private var answered: UInt64 = 0
    private var unansweredBytes = 0

    /// - Parameter level: of the session's offer. Where it holds no output, they follow the first copy.
    package init(at level: Level) { epoch = level.holdsOutput ? nil : Epoch(2) }

    /// Of a frame that went into the replica as it came.
    package static func contains(_ header: FrameHeader) -> Bool { Epoch(header.epoch) != .firstCopy }

    /// The disk frames of `next` will be such writes.
    ///
    /// - Parameters:
    ///   - staged: the newest checkpoint that is here whole.
    ///   - hasMemory: the checkpoint before may have disk writes.
    package mutating func begin(_ next: Epoch, staged: Epoch, hasMemory: Bool) throws(SessionError) {
        guard next > staged.next, next >= (epoch ?? .firstCopy) else {
            throw SessionError(
                .protocolBroken, "writes of epoch \(next) were to belong to no checkpoint, after checkpoint \(staged)")
        }
        (epoch, hasBegun) = (next, true)
        if hasMemory { waitsFor = Epoch(next.number - 1) }
    }

    /// A data frame came.
    ///
    /// - Parameter hasMemory: there is something here that checkpoints are made of.
    package mutating func place(_ header: FrameHeader, hasMemory: Bool) throws(SessionError) -> Place {
        let (frame, last) = (Epoch(header.epoch), epoch ?? .firstCopy)
        let isOfDisk = [.diskWrite, .diskZero, .diskFlush].contains(header.type)
        switch isOfDisk {
        case true where frame == .firstCopy && !hasBegun: return .direct
        case true where frame == epoch && header.sequence == 0:
            hasBegun = true
            return .direct
        case true where frame > last && hasMemory: return .checkpoint
        case false where hasMemory: return frame == .firstCopy ? .direct : .checkpoint
        default:
            throw SessionError(
                .protocolBroken,
                "a \(header.type) frame of epoch \(header.epoch), number \(header.sequence), has no place in this session"
                    + " now")
        }
    }

    /// These writes must not go into the images yet.
    package func mustWait(applied: Epoch) -> Bool { applied < waitsFor }

    /// Checks the end of a checkpoint without memory: of the first one, which has nothing in it.
    package static func finish(_ checkpoint: Epoch, _ end: CheckpointEnd) throws(SessionError) {
        let nothing = SHA256().finalize().withUnsafeBytes { CheckpointDigest($0) }
        guard checkpoint == Epoch(1), end == CheckpointEnd(digest: nothing, sections: []) else {
            throw SessionError(
                .protocolBroken,
                "checkpoint \(checkpoint) has \(end.frameCount) frames, or the digest of some, and without memory there"
                    + " is an empty checkpoint 1 only")
        }
    }

    /// One more is in the image. How many are answered for with it; nil while an answer waits for the next one.
    ///
    /// - Parameter isFollowed: the next one is here, and is written now.
    package mutating func note(byteCount: Int, isFollowed: Bool) -> DiskTaken? {
        written += 1
        unansweredBytes += byteCount
        guard
            !isFollowed || written - answered >= Self.unansweredMax || unansweredBytes >= Self.unansweredBytesMax
        else { return nil }
        (answered, unansweredBytes) = (written, 0)
        return DiskTaken(count: written)
    }
}
