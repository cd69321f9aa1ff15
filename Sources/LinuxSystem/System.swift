/// Linux as owned values: descriptors, mappings, processes, threads, and the memory of a running QEMU.
///
/// Every type that holds something of the kernel's is `~Copyable` and gives it back in its `deinit`. Calls throw
/// `SystemError`, which says what was tried, on what, and why it failed. This folder may call CLinux and the C library
/// and knows nothing of VMs, epochs or the wire. The right to trace other processes is used in `GuestAttachment.swift`
/// and, through what that file hands out, in `MemoryReader.swift`; nowhere else.
import CLinux
import Glibc

/// The unit in which memory is tracked, in bytes.
public let trackedPageSize = 4096

/// Repeats a call that a signal interrupted. All wrappers of CLinux report failure as -errno.
@inline(__always)
func retrying<Result: SignedInteger>(_ call: () -> Result) -> Result {
    while true {
        let result = call()
        if result != -Result(EINTR) { return result }
    }
}

/// `result` when the call worked, else the error that it describes.
@inline(__always)
func checked<Result: SignedInteger>(
    _ result: Result, _ operation: @autoclosure () -> String, _ subject: @autoclosure () -> String
) throws(SystemError) -> Result {
    if result < 0 { throw SystemError(operation: operation(), errno: Int32(-result), subject: subject()) }
    return result
}
