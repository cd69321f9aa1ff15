/// In which bytes a device state differs from the one before: some fifty of a hundred thousand, in an idle guest. Found by comparing
/// words: 12 us for 107 KB, where zstd with the one before as prefix took 60 (level 1, a real state) to 160 (level 3, noise).
///
/// Changes are a row of
///
///     skip   LEB128  bytes that stay as they were
///     count  LEB128  bytes that follow; 0 ends the row, and `skip` then reaches to the end of the state
///     bytes  count   their new contents
///
/// Numbers have at most 5 bytes.
enum ByteChanges {
    /// Two changes with fewer equal bytes in between are one.
    private static let gapMin = 3
    /// Bytes that a change may take beside its contents.
    private static let headMax = 10

    /// Writes the changes that make `state` of `previous`, which is as long. Returns their length; nil when there is no room
    /// for them.
    static func write(
        of state: UnsafeRawBufferPointer, since previous: UnsafeRawBufferPointer,
        into target: UnsafeMutableRawBufferPointer
    ) -> Int? {
        precondition(state.count == previous.count, "changes are told between states of one length")
        var written = 0
        var told = 0
        var position = 0
        while let start = firstDifference(of: state, from: previous, at: position) {
            var end = start + 1
            var look = end
            while look < state.count, look - end < gapMin {
                if state[look] != previous[look] { end = look + 1 }
                look += 1
            }
            let count = end - start
            guard target.count - written >= 2 * headMax + count else { return nil }
            append(start - told, to: target, &written)
            append(count, to: target, &written)
            target.baseAddress?.advanced(by: written).copyMemory(from: state.baseAddress! + start, byteCount: count)
            written += count
            (told, position) = (end, end)
        }
        guard target.count - written >= headMax else { return nil }
        append(state.count - told, to: target, &written)
        append(0, to: target, &written)
        return written
    }

    private static func firstDifference(
        of state: UnsafeRawBufferPointer, from previous: UnsafeRawBufferPointer, at start: Int
    ) -> Int? {
        var position = start
        while position + 8 <= state.count,
            state.loadUnaligned(fromByteOffset: position, as: UInt64.self)
                == previous.loadUnaligned(fromByteOffset: position, as: UInt64.self)
        {
            position += 8
        }
        while position < state.count, state[position] == previous[position] { position += 1 }
        return position < state.count ? position : nil
    }

    private static func append(_ number: Int, to target: UnsafeMutableRawBufferPointer, _ written: inout Int) {
        var rest = number
        while rest >= 0x80 {
            target[written] = UInt8(truncatingIfNeeded: rest) | 0x80
            written += 1
            rest >>= 7
        }
        target[written] = UInt8(rest)
        written += 1
    }

    /// Makes the changes in `state`. What is malformed is refused with what was read before it done: `state` is to be thrown away
    /// then.
    static func apply(
        _ changes: UnsafeRawBufferPointer, to state: UnsafeMutableRawBufferPointer
    ) throws(CodecError) {
        var offset = 0
        var position = 0
        while true {
            let at = offset
            let skip = try number(in: changes, &offset)
            let count = try number(in: changes, &offset)
            let isEnd = count == 0 && skip == state.count - position && offset == changes.count
            if isEnd { return }
            guard count > 0, skip <= state.count - position, count <= state.count - position - skip else {
                throw .malformed(
                    part: part, offset: at,
                    reason: "a change of \(count) bytes behind \(skip) at \(position) is none within \(state.count)")
            }
            guard count <= changes.count - offset else {
                throw .truncated(part: part, offset: changes.count, needed: offset + count)
            }
            position += skip
            (state.baseAddress! + position).copyMemory(from: changes.baseAddress! + offset, byteCount: count)
            position += count
            offset += count
        }
    }

    private static let part = "changes of the device state"

    private static func number(
        in changes: UnsafeRawBufferPointer, _ offset: inout Int
    ) throws(CodecError) -> Int {
        var value = 0
        for shift in stride(from: 0, to: 35, by: 7) {
            guard offset < changes.count else {
                throw .truncated(part: part, offset: changes.count, needed: changes.count + 1)
            }
            let byte = changes[offset]
            offset += 1
            value |= Int(byte & 0x7f) << shift
            if byte < 0x80 { return value }
        }
        throw .malformed(part: part, offset: offset, reason: "a number of more than 5 bytes")
    }
}
