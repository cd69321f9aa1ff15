import CLinux
import Glibc
import LinuxSystem

/// The locks by which QEMU's programs keep an image from being written twice: shared locks of single bytes, owned by the
/// open file, one for each thing that the holder does (100 + n) and one for each thing that it does not allow others
/// (200 + n). QEMU: docs/system/qemu-block-drivers.rst.inc, section on image locking; the bytes were read from
/// /proc/locks (QEMU 7.2).
///
/// A standby QEMU in `-incoming` state holds none of them until its disks are activated.
enum ImageLock {
    /// Read consistently, write, resize.
    private static let used: [off_t] = [0, 1, 3]
    /// Write and resize are refused to others.
    private static let refused: [off_t] = [1, 3]

    /// Takes what a QEMU with a writable image takes; false when another program stands against it.
    static func take(_ descriptor: borrowing OwnedDescriptor, path: String) throws(StorageError) -> Bool {
        for byte in used.map({ 100 + $0 }) + refused.map({ 200 + $0 }) {
            try check(rml_lock_byte(descriptor.number, byte), path)
        }
        // Only after taking: of two that try at once, both may now refuse, but never none.
        for byte in used.map({ 200 + $0 }) + refused.map({ 100 + $0 })
        where try check(rml_byte_is_locked(descriptor.number, byte), path) != 0 {
            return false
        }
        return true
    }

    /// Gives all of them back. Closing alone would not do at once while a process that is just being started still has a
    /// copy of the descriptor.
    static func release(_ descriptor: borrowing OwnedDescriptor) { _ = rml_unlock(descriptor.number) }

    @discardableResult
    private static func check(_ result: Int32, _ path: String) throws(StorageError) -> Int32 {
        if result < 0 { throw .failed(path: path, operation: "lock", reason: String(cString: strerror(-result))) }
        return result
    }
}
