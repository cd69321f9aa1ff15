import LinuxSystem

/// What can go wrong with a disk, an image or an NBD conversation.
public enum StorageError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The image does not exist, is of the wrong kind or may not be opened.
    case cannotOpen(path: String, reason: String)
    /// An image that does not exist could not be made.
    case cannotMake(path: String, reason: String)
    /// Another program (a running QEMU, most likely) has the image open for writing.
    case inUse(path: String)
    case wrongSize(path: String, bytes: UInt64, expected: UInt64)
    /// `bytes` could not be written at `offset` because the file system or device is full.
    case outOfSpace(path: String, offset: UInt64, bytes: UInt64)
    /// A system call or a request to the exporting process failed.
    case failed(path: String, operation: String, reason: String)
    /// A flush failed before. What was written until then may be lost, and no later flush can tell: the kernel reports
    /// such a loss once.
    case flushFailed(path: String, reason: String)
    case outOfBounds(path: String, offset: UInt64, length: UInt64, size: UInt64)
    case closed(path: String)
    /// More is staged than the limit that the disk was given.
    case tooMuchStaged(path: String, writes: Int, bytes: Int)
    /// A write of an epoch came after writes of a later one, or after that epoch was applied.
    case wrongEpoch(path: String, epoch: UInt64, expected: UInt64)
    /// The other side of an NBD connection broke the protocol, or ended it.
    case nbd(peer: String, reason: String)
    /// The socket, thread or process that a server or an image needs could not be had.
    case cannotStart(what: String, reason: String)
    /// The sink cannot take it: the session is over, the link is gone. The reason is a whole sentence.
    case unavailable(String)

    public var description: String {
        switch self {
        case .cannotOpen(let path, let reason): "cannot open the disk image \(path): \(reason)"
        case .cannotMake(let path, let reason): "\(path) does not exist and cannot be made: \(reason)"
        case .inUse(let path):
            "the disk image \(path) is open for writing in another program: stop that VM or program first, or name another image"
        case .wrongSize(let path, let bytes, let expected):
            "the disk image \(path) has \(bytes) bytes but the guest's disk has \(expected): resize it (qemu-img resize) or name another image"
        case .outOfSpace(let path, let offset, let bytes):
            "no room for \(bytes) bytes at offset \(offset) of \(path): free space on its file system or device"
        case .failed(let path, let operation, let reason): "cannot \(operation) \(path): \(reason)"
        case .flushFailed(let path, let reason):
            "a flush of \(path) failed (\(reason)), so what was written before may be lost: copy the disk anew onto a healthy device"
        case .outOfBounds(let path, let offset, let length, let size):
            "\(length) bytes at offset \(offset) lie outside of \(path), which has \(size) bytes"
        case .closed(let path): "the disk image \(path) is closed already"
        case .tooMuchStaged(let path, let writes, let bytes):
            "too much is staged for \(path): \(writes) writes with \(bytes) bytes wait to be applied; the storage is slower than the guest"
        case .wrongEpoch(let path, let epoch, let expected):
            "a write of epoch \(epoch) for \(path) came too late: epoch \(expected) is the earliest that can still be staged"
        case .nbd(let peer, let reason): "the NBD conversation with \(peer) broke: \(reason)"
        case .cannotStart(let what, let reason): "cannot start \(what): \(reason)"
        case .unavailable(let sentence): sentence
        }
    }
}
