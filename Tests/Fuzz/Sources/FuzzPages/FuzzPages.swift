import CFuzzer
import Codec
import Glibc
import Model

/// Three ways to use the input, by its first byte:
/// - as a `pages` body: refused, with the target as it was, or applied, twice, with one result;
/// - as a device state body, alone and against an earlier state;
/// - as contents of guest memory, which must arrive through encoder and decoder as they are.
private func fuzzPages(_ start: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
    guard count > 1 else { return 0 }
    let input = UnsafeRawBufferPointer(start: start + 1, count: count - 1)
    switch start[0] % 3 {
    case 0: bench.decodePages(input)
    case 1: bench.decodeState(input)
    default: bench.roundTrip(input)
    }
    return 0
}

private let blockPages = 16
private let blockSize = blockPages * pageSize

/// What is made once, as the threads of the agent make it once: the state of the codecs, and three blocks of memory.
private struct Bench: ~Copyable {
    var encoder = PageEncoder()
    var decoder = PageDecoder()
    var blobs = BlobCodec()
    var known = PageBitmap(pages: blockPages)
    var sink = ByteSink()
    var decoded = ByteSink()
    let guest = Bench.block()
    let reference = Bench.block()
    let replica = Bench.block()

    static func block() -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer.allocate(byteCount: blockSize, alignment: 64)
    }
}

// SAFETY: libFuzzer calls from one thread.
nonisolated(unsafe) private var bench = Bench()

private func equal(_ a: UnsafeMutableRawBufferPointer, _ b: UnsafeMutableRawBufferPointer) -> Bool {
    memcmp(a.baseAddress!, b.baseAddress!, blockSize) == 0
}

private func fill(_ memory: UnsafeMutableRawBufferPointer, _ value: Int32) {
    memset(memory.baseAddress!, value, blockSize)
}

extension Bench {
    mutating func decodePages(_ body: UnsafeRawBufferPointer) {
        let target = replica
        fill(target, 0xa5)
        fill(reference, 0xa5)
        do throws(CodecError) {
            let statistics = try decoder.decode(body: body) { $0 < 4 ? target : nil }
            precondition(
                statistics.pages
                    == statistics.zero + statistics.raw + statistics.delta + statistics.copied)
            guest.copyMemory(from: UnsafeRawBufferPointer(target))
            precondition((try? decoder.decode(body: body) { $0 < 4 ? target : nil }) == statistics)
            precondition(equal(guest, target), "applying twice is harmless")
            precondition((try? decoder.validate(body: body) { _ in blockSize }) == statistics)
        } catch {
            precondition(equal(target, reference), "a refused body changes nothing")
            precondition(!error.description.isEmpty)
        }
    }

    mutating func decodeState(_ body: UnsafeRawBufferPointer) {
        sink.reset()
        _ = try? blobs.decode(body, into: &sink)
        sink.reset()
        let half = body.count / 2
        let earlier = UnsafeRawBufferPointer(rebasing: body[..<half])
        let later = UnsafeRawBufferPointer(rebasing: body[half...])
        _ = try? blobs.decode(later, previous: earlier, into: &sink)
        sink.reset()
        let written = blobs.encode(later, previous: earlier, into: &sink)
        precondition(written <= later.count + 12)
        decoded.reset()
        precondition((try? blobs.decode(sink.bytes, previous: earlier, into: &decoded)) != nil)
        precondition(decoded.bytes.elementsEqual(later))
    }

    /// The input is a program: each step of 4 bytes says which page to touch and how, or that the epoch is encoded.
    mutating func roundTrip(_ input: UnsafeRawBufferPointer) {
        let (guest, reference, replica) = (guest, reference, replica)
        fill(guest, 0)
        fill(reference, 1)
        fill(replica, 2)
        known.removeAll()
        let numbers = (0..<UInt32(blockPages)).map { $0 }
        for step in stride(from: 0, to: input.count - 3, by: 4) {
            let start = Int(input[step] % 16) * pageSize
            let page = UnsafeMutableRawBufferPointer(rebasing: guest[start..<start + pageSize])
            let position = Int(input[step + 2]) << 4 | Int(input[step + 1] & 15)
            let value = input[step + 3]
            switch input[step] >> 4 {
            case 0..<12: page[position] = value
            case 12: page.initializeMemory(as: UInt8.self, repeating: value)
            case 13: for index in position..<pageSize { page[index] = UInt8(truncatingIfNeeded: index &* 251) ^ value }
            default:
                sink.reset()
                _ = numbers.withUnsafeBufferPointer {
                    encoder.encode(
                        block: 1, pageNumbers: $0, pages: UnsafeRawBufferPointer(guest), reference: reference,
                        known: &known, codec: Compression(rawValue: value % 3) ?? .none, into: &sink)
                }
                precondition(Double(sink.count) <= 1.02 * Double(blockSize))
                if !sink.isEmpty {
                    precondition((try? decoder.decode(body: sink.bytes) { _ in replica }) != nil)
                }
                precondition(equal(replica, guest) && equal(reference, guest))
            }
        }
    }
}

@main
enum FuzzPages {
    static func main() {
        var count = CommandLine.argc
        var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
        exit(LLVMFuzzerRunDriver(&count, &arguments) { fuzzPages($0!, $1) })
    }
}
