import CLinux
import Glibc

/// A directory whose files are replaced so that a power cut at any moment leaves the old one or the new one, whole.
public struct DurableDirectory: ~Copyable, Sendable {
    public let path: String
    private let descriptor: OwnedDescriptor

    /// Opens a directory that exists. With `exclusively`, one that another process (or this one) has opened so already
    /// throws `EWOULDBLOCK`.
    public init(_ path: String, exclusively: Bool) throws(SystemError) {
        let opened = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY)
        if exclusively { _ = try checked(rml_lock_whole(opened.number), "lock the directory", path) }
        self.path = path
        descriptor = opened
    }

    deinit { _ = rml_unlock_whole(descriptor.number) }

    /// Puts `bytes` in the place of the file `name` (mode 0600) and returns when that is on stable storage. The file is
    /// open for reading and writing, its offset at its end.
    public func replace(_ name: String, with bytes: [UInt8]) throws(SystemError) -> OwnedDescriptor {
        let target = "\(path)/\(name)"
        let fresh = "\(target).new"
        let file = try OwnedDescriptor.open(fresh, O_RDWR | O_CREAT | O_TRUNC)
        try file.append(bytes)
        _ = try checked(rml_sync(file.number), "synchronise", fresh)
        _ = try checked(rml_rename(fresh, target), "put \(fresh) in the place of", target)
        _ = try checked(rml_sync(descriptor.number), "synchronise the directory", path)
        return file
    }
}

extension OwnedDescriptor {
    /// Writes all of it at the descriptor's own offset.
    public func append(_ bytes: [UInt8]) throws(SystemError) {
        try bytes.withUnsafeBufferPointer { (buffer) throws(SystemError) in
            try writeAll(UnsafeRawBufferPointer(buffer))
        }
    }

    /// Returns when everything written before is on stable storage. A failure is final: the kernel forgets what it could
    /// not write, and a second call would report success.
    public func syncData() throws(SystemError) {
        _ = try checked(rml_sync_data(number), "synchronise", "descriptor \(number)")
    }
}
