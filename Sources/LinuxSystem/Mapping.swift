import CLinux
import Glibc

/// Memory obtained from the kernel, given back with its owner.
// SAFETY: the pointer belongs to this value alone, so the value may move to another thread.
public struct Mapping: ~Copyable, @unchecked Sendable {
    /// Page-aligned; valid for as long as this value lives.
    public let bytes: UnsafeMutableRawBufferPointer

    private init(
        _ descriptor: Int32, _ length: Int, _ protection: Int32, _ flags: Int32, _ offset: UInt64, _ what: String
    )
        throws(SystemError)
    {
        var failure: Int32 = 0
        let address = rml_map(descriptor, length, protection, flags, off_t(offset), &failure)
        _ = try checked(failure, "map \(length) bytes of", what)
        bytes = UnsafeMutableRawBufferPointer(start: address, count: length)
    }

    deinit { _ = rml_unmap(bytes.baseAddress!, bytes.count) }

    /// Zeroed private memory. With `populated` every page is there at once, so that no later write waits for one.
    public static func anonymous(length: Int, populated: Bool = false) throws(SystemError) -> Mapping {
        try Mapping(
            -1, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (populated ? Int32(MAP_POPULATE) : 0), 0,
            "anonymous memory")
    }

    /// A shared view of a file from `offset` (a multiple of the page size).
    public static func shared(
        _ file: borrowing OwnedDescriptor, length: Int, offset: UInt64 = 0, writable: Bool
    ) throws(SystemError) -> Mapping {
        try Mapping(
            file.number, length, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, offset,
            "descriptor \(file.number)")
    }

    /// Asks for huge pages under large buffers; the kernel may decline, which changes speed only.
    public func adviseHugePages() { _ = rml_advise(bytes.baseAddress!, bytes.count, 14) }
}
