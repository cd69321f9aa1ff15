import Codec
import Model

/// A block of guest memory with its reference at the primary and its replica at the standby.
struct Guest: ~Copyable {
    let pages: Int
    var memory: [UInt8]
    var reference: [UInt8]
    var replica: [UInt8]
    var known: PageBitmap
    var encoder = PageEncoder()
    var decoder = PageDecoder()
    static let block: UInt16 = 3

    init(pages: Int) {
        self.pages = pages
        memory = [UInt8](repeating: 0, count: pages * pageSize)
        reference = [UInt8](repeating: 0x55, count: pages * pageSize)
        replica = [UInt8](repeating: 0xaa, count: pages * pageSize)
        known = PageBitmap(pages: pages)
    }

    /// The body for `numbers`; empty when nothing is to be sent.
    mutating func encode(
        _ numbers: [UInt32], codec: Compression, withReference: Bool = true
    ) -> (body: [UInt8], statistics: EncodeStatistics) {
        let staged = numbers.flatMap { memory[Int($0) * pageSize..<(Int($0) + 1) * pageSize] }
        var sink = ByteSink()
        sink.append(UInt64(0x1122_3344_5566_7788))
        var statistics = EncodeStatistics()
        reference.withUnsafeMutableBytes { reference in
            staged.withUnsafeBytes { staged in
                numbers.withUnsafeBufferPointer { numbers in
                    statistics = encoder.encode(
                        block: Guest.block, pageNumbers: numbers, pages: staged,
                        reference: withReference ? reference : nil, known: &known, codec: codec, into: &sink)
                }
            }
        }
        return (Array(sink.bytes.dropFirst(8)), statistics)
    }

    mutating func decode(_ body: [UInt8]) throws(CodecError) -> DecodeStatistics {
        let body = sink(body)
        var result: Result<DecodeStatistics, CodecError> = .success(DecodeStatistics())
        replica.withUnsafeMutableBytes { replica in
            do throws(CodecError) {
                result = .success(
                    try decoder.decode(body: body.bytes) { $0 == Guest.block ? replica : nil })
            } catch {
                result = .failure(error)
            }
        }
        return try result.get()
    }

    /// Changes some pages in one of the ways that guests do and returns their numbers, rising.
    mutating func run(_ random: inout SeededGenerator, touching count: Int) -> [UInt32] {
        let numbers = Set((0..<count).map { _ in random.below(pages) }).sorted()
        for number in numbers {
            let start = number * pageSize
            switch random.below(6) {
            case 0:
                for position in start..<start + pageSize { memory[position] = 0 }
            case 1:
                memory.replaceSubrange(start..<start + pageSize, with: random.bytes(pageSize))
            case 2:
                break
            case 3:
                let text = Array("all work and no play makes the guest a dull machine; ".utf8)
                for position in 0..<pageSize { memory[start + position] = text[(position + number) % text.count] }
            default:
                for _ in 0...random.below(40) {
                    memory[start + random.below(pageSize)] = UInt8(truncatingIfNeeded: random.next())
                }
            }
        }
        return numbers.map { UInt32($0) }
    }
}

/// `bytes` at an address that stays while the sink lives.
func sink(_ bytes: [UInt8]) -> ByteSink {
    var sink = ByteSink(capacity: bytes.count)
    bytes.withUnsafeBytes { sink.append(contentsOf: $0) }
    return sink
}
