import CLinux
import Glibc

/// A file descriptor that belongs to one owner and is closed with it.
public struct OwnedDescriptor: ~Copyable, Sendable {
    /// The number, valid for as long as this value lives.
    public let number: Int32

    public init(owning number: Int32) { self.number = number }

    deinit { _ = rml_close(number) }

    /// Opens a path close-on-exec. `flags` are those of open(2), `mode` counts with `O_CREAT`.
    public static func open(_ path: String, _ flags: Int32, mode: mode_t = 0o600) throws(SystemError) -> OwnedDescriptor
    {
        OwnedDescriptor(owning: try checked(retrying { rml_open(path, flags, mode) }, "open", path))
    }

    /// Closes now and reports what `deinit` would have to swallow (a full disk may show itself only here).
    public consuming func close() throws(SystemError) {
        let number = number
        discard self
        _ = try checked(rml_close(number), "close", "descriptor \(number)")
    }

    /// Gives up ownership; the caller closes the number.
    public consuming func release() -> Int32 {
        let number = number
        discard self
        return number
    }

    public func duplicate() throws(SystemError) -> OwnedDescriptor {
        OwnedDescriptor(owning: try checked(rml_duplicate(number), "duplicate", "descriptor \(number)"))
    }

    /// The same file with access rights of its own (`O_WRONLY`…) and an offset of its own, by way of /proc.
    public func reopen(_ flags: Int32) throws(SystemError) -> OwnedDescriptor {
        try .open("/proc/self/fd/\(number)", flags)
    }

    public func setNonBlocking(_ on: Bool) throws(SystemError) {
        _ = try checked(rml_set_non_blocking(number, on ? 1 : 0), "change the mode of", "descriptor \(number)")
    }

    /// Reads what there is, at most `buffer.count` bytes; 0 is the end of the file.
    public func read(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
        try checked(
            retrying { rml_read(number, buffer.baseAddress, buffer.count) }, "read from", "descriptor \(number)")
    }

    /// Writes what there is room for and returns how much that was.
    public func write(_ bytes: UnsafeRawBufferPointer) throws(SystemError) -> Int {
        try checked(retrying { rml_write(number, bytes.baseAddress, bytes.count) }, "write to", "descriptor \(number)")
    }

    /// Writes all of it to a blocking descriptor.
    public func writeAll(_ bytes: UnsafeRawBufferPointer) throws(SystemError) {
        var rest = bytes
        while !rest.isEmpty {
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(try write(rest)))
        }
    }

    /// Fills the buffer from a blocking descriptor; false when the file ended first.
    public func readAll(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Bool {
        var rest = buffer
        while !rest.isEmpty {
            let count = try read(into: rest)
            if count == 0 { return false }
            rest = UnsafeMutableRawBufferPointer(rebasing: rest.dropFirst(count))
        }
        return true
    }

    /// Fills the buffer from `offset`, leaving the descriptor's own offset alone; false when the file ended first.
    public func readAll(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(SystemError) -> Bool {
        var done = 0
        while done < buffer.count {
            let count = try checked(
                retrying {
                    rml_pread(number, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + done)
                }, "read from", "descriptor \(number)")
            if count == 0 { return false }
            done += count
        }
        return true
    }

    /// Writes all of it at `offset`, leaving the descriptor's own offset alone.
    public func writeAll(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            done += try checked(
                retrying { rml_pwrite(number, bytes.baseAddress! + done, bytes.count - done, off_t(offset) + done) },
                "write to", "descriptor \(number)")
        }
    }

    /// Sets the offset from the start of the file, for every holder of this open file.
    public func seek(to offset: UInt64) throws(SystemError) {
        _ = try checked(rml_seek(number, off_t(offset)), "seek in", "descriptor \(number)")
    }

    /// Sets the length of the file in bytes.
    public func truncate(to length: UInt64) throws(SystemError) {
        _ = try checked(
            retrying { rml_truncate(number, off_t(length)) }, "set the length to \(length) bytes of",
            "descriptor \(number)")
    }

    /// Sets who may open the file anew, by its permission bits.
    public func changeMode(to mode: mode_t) throws(SystemError) {
        _ = try checked(rml_change_mode(number, mode), "change the permissions of", "descriptor \(number)")
    }

    /// Gives a pipe room for at least `size` bytes and returns what it has: a power of two, at least a page. A writer that
    /// waits goes on when there is room for it now. A pipe that holds more than `size` is refused.
    public func resizePipe(to size: Int) throws(SystemError) -> Int {
        Int(try checked(rml_resize_pipe(number, Int32(clamping: size)), "resize", "the pipe of descriptor \(number)"))
    }

    /// How many bytes lie in a pipe.
    public func pipedBytes() throws(SystemError) -> Int {
        var count: Int32 = 0
        _ = try checked(rml_piped_bytes(number, &count), "look into", "the pipe of descriptor \(number)")
        return Int(count)
    }

    /// The length of the file in bytes.
    public func fileLength() throws(SystemError) -> UInt64 {
        var length: Int64 = 0
        var taken: Int64 = 0
        _ = try checked(rml_file_size(number, &length, &taken), "look up the length of", "descriptor \(number)")
        return UInt64(length)
    }
}
