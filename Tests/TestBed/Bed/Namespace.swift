import Foundation

/// What a thread does to be in a network namespace of the bed, and what it can hold there.
public enum Namespace {
    /// The calling thread is in the namespace of that name from here on; sockets that it opens stay there.
    public static func enter(_ name: String) throws(BedError) {
        let path = "\(Leftovers.namespaces)/\(name)"
        let setns = try symbol("setns", as: (@convention(c) (Int32, Int32) -> Int32).self)
        let namespace = open(path, O_RDONLY | O_CLOEXEC)
        defer { close(namespace) }
        // CLONE_NEWNET
        guard namespace >= 0, setns(namespace, 0x4000_0000) == 0 else {
            throw BedError("\(path) cannot be entered: \(String(cString: strerror(errno))).")
        }
    }

    /// QEMU's end of a tap that exists in the calling thread's namespace, not blocking; the caller closes it.
    public static func openTap(
        _ tap: String, hasHeader: Bool = false, isOneOfSeveral: Bool = false
    ) throws(BedError) -> Int32 {
        let descriptor = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        // struct ifreq: 16 bytes of name, then the flags IFF_TAP, IFF_NO_PI, IFF_VNET_HDR and IFF_MULTI_QUEUE.
        var request = Array(tap.utf8) + [UInt8](repeating: 0, count: 40 - tap.utf8.count)
        (request[16], request[17]) = (0x02, 0x10 | (hasHeader ? 0x40 : 0) | (isOneOfSeveral ? 0x01 : 0))
        let ioctl = try symbol("ioctl", as: (@convention(c) (Int32, UInt, UnsafeMutableRawPointer) -> Int32).self)
        // TUNSETIFF
        guard descriptor >= 0, ioctl(descriptor, 0x4004_54ca, &request) == 0 else {
            throw BedError("\(tap) cannot be opened: \(String(cString: strerror(errno))).")
        }
        return descriptor
    }

    /// Neither has a declaration that Swift can see.
    private static func symbol<Function>(_ name: String, as type: Function.Type) throws(BedError) -> Function {
        guard let address = dlsym(dlopen(nil, RTLD_NOW), name) else { throw BedError("there is no \(name).") }
        return unsafeBitCast(address, to: type)
    }
}
