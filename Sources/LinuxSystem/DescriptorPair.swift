import CLinux

/// Two descriptors made together.
public struct DescriptorPair: ~Copyable, Sendable {
    public let first: OwnedDescriptor
    public let second: OwnedDescriptor

    private init(_ numbers: [Int32]) {
        first = OwnedDescriptor(owning: numbers[0])
        second = OwnedDescriptor(owning: numbers[1])
    }

    /// A pipe: what is written to `second` is read from `first`.
    public static func pipe() throws(SystemError) -> DescriptorPair {
        var numbers: [Int32] = [-1, -1]
        _ = try checked(rml_pipe(&numbers), "create", "a pipe")
        return DescriptorPair(numbers)
    }

    /// Two connected unix stream sockets.
    public static func sockets() throws(SystemError) -> DescriptorPair {
        var numbers: [Int32] = [-1, -1]
        _ = try checked(rml_socket_pair(&numbers), "create", "a pair of sockets")
        return DescriptorPair(numbers)
    }

    public consuming func takeFirst() -> OwnedDescriptor { first }
    public consuming func takeSecond() -> OwnedDescriptor { second }

    /// Hands both to `body`, which owns them from then on.
    public consuming func split<Result: ~Copyable, Failure: Error>(
        _ body: (_ first: consuming OwnedDescriptor, _ second: consuming OwnedDescriptor) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(first, second)
    }
}
