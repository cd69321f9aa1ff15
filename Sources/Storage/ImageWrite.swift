/// One change of an image: bytes, or zeros.
struct ImageWrite {
    var offset: UInt64
    var length: UInt64
    /// Nil for zeros; else `length` bytes that stay valid for as long as the value is in use.
    var data: UnsafeRawPointer?
    /// Of zeros: the space may be given back.
    var mayUnmap = false

    var end: UInt64 { offset + length }

    /// 0 for zeros.
    var dataBytes: Int { data == nil ? 0 : Int(length) }

    func overlaps(_ other: ImageWrite) -> Bool { offset < other.end && other.offset < end }

    /// Cuts off at most `count` bytes at the front and returns them.
    mutating func removeFirst(_ count: UInt64) -> ImageWrite {
        var first = self
        first.length = min(count, length)
        offset += first.length
        length -= first.length
        data = data.map { $0 + Int(first.length) }
        return first
    }
}
