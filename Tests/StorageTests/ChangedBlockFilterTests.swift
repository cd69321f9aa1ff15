import Storage
import Testing

@Suite struct ChangedBlockFilterTests {
    static let chunk = 65536

    private func digests(_ disk: [UInt8], _ first: Int = 0, _ count: Int = .max) -> [UInt8] {
        let chunks = (disk.count + Self.chunk - 1) / Self.chunk
        var result = [UInt8](repeating: 0, count: min(count, chunks - first) * 16)
        for index in 0..<result.count / 16 {
            let start = (first + index) * Self.chunk
            disk[start..<min(start + Self.chunk, disk.count)].withUnsafeBytes { chunk in
                result.withUnsafeMutableBytes {
                    ChunkDigest.make(of: chunk, into: UnsafeMutableRawBufferPointer(rebasing: $0[(index * 16)...]))
                }
            }
        }
        return result
    }

    private func learn(
        _ filter: inout ChangedBlockFilter, _ question: ChangedBlockFilter.Question, _ digests: [UInt8]
    ) -> Bool {
        digests.withUnsafeBytes { filter.learn(question, digests: $0) }
    }

    private func sent(_ filter: inout ChangedBlockFilter, _ offset: Int, _ data: [UInt8]) -> [Range<Int>] {
        var ranges: [Range<Int>] = []
        data.withUnsafeBytes { filter.filter(offset: UInt64(offset), data: $0) { ranges.append($0) } }
        return ranges
    }

    private func sentZero(_ filter: inout ChangedBlockFilter, _ offset: UInt64, _ length: UInt64) -> [Range<UInt64>] {
        var ranges: [Range<UInt64>] = []
        filter.filterZero(offset: offset, length: length) { ranges.append($0) }
        return ranges
    }

    @Test func `equal whole chunks are left out, neighbours that differ are joined`() {
        var numbers = SeededGenerator(seed: 40)
        let standby = numbers.bytes(8 * Self.chunk)
        var primary = standby
        for changed in [2, 3, 5] { primary[changed * Self.chunk + 9] ^= 1 }
        var filter = ChangedBlockFilter(size: UInt64(standby.count))
        let question = filter.expect(firstChunk: 0, count: 8)
        #expect(learn(&filter, question, digests(standby)))
        #expect(
            sent(&filter, 0, primary)
                == [2 * Self.chunk..<4 * Self.chunk, 5 * Self.chunk..<6 * Self.chunk])
        #expect(filter.skippedBytes == 5 * UInt64(Self.chunk))
        #expect(filter.changedBytes == 3 * UInt64(Self.chunk))
        // What was once looked at is not known any more.
        #expect(sent(&filter, 0, primary) == [0..<primary.count])
    }

    @Test func `parts of chunks are always sent, and the chunk is unknown from then on`() {
        var numbers = SeededGenerator(seed: 41)
        let disk = numbers.bytes(4 * Self.chunk)
        var filter = ChangedBlockFilter(size: UInt64(disk.count))
        let question = filter.expect(firstChunk: 0, count: 4)
        #expect(learn(&filter, question, digests(disk)))
        // From the middle of chunk 0 to the middle of chunk 2.
        let part = Array(disk[100..<2 * Self.chunk + 100])
        #expect(sent(&filter, 100, part) == [0..<Self.chunk - 100, 2 * Self.chunk - 100..<2 * Self.chunk])
        #expect(sent(&filter, 0, disk) == [0..<3 * Self.chunk])
    }

    @Test func `a write that passes between question and answer makes the answer worthless`() {
        var numbers = SeededGenerator(seed: 42)
        let disk = numbers.bytes(2 * Self.chunk)
        var filter = ChangedBlockFilter(size: UInt64(disk.count))
        let first = filter.expect(firstChunk: 0, count: 2)
        // The standby read its chunk before this arrived: its digest is that of `disk`, its content is not.
        #expect(sent(&filter, 10, [1, 2, 3]) == [0..<3])
        // Asked anew; the answer to the first question is still not worth anything for the touched chunk.
        let second = filter.expect(firstChunk: 0, count: 2)
        #expect(learn(&filter, first, digests(disk)))
        #expect(sent(&filter, 0, disk) == [0..<disk.count])
        // And nothing is left for the second to answer.
        #expect(learn(&filter, second, digests(disk)))
        #expect(sent(&filter, 0, disk) == [0..<disk.count])
        let third = filter.expect(firstChunk: 0, count: 2)
        #expect(learn(&filter, third, digests(disk)))
        #expect(sent(&filter, 0, disk) == [])
    }

    @Test func `an answer that does not fit its question teaches nothing`() {
        var numbers = SeededGenerator(seed: 43)
        let disk = numbers.bytes(Self.chunk + 10)
        var filter = ChangedBlockFilter(size: UInt64(disk.count))
        #expect(filter.expect(firstChunk: .max, count: 5).count == 0)
        #expect(filter.expect(firstChunk: 2, count: 1).count == 0)
        #expect(filter.expect(firstChunk: 0, count: -1).count == 0)
        let question = filter.expect(firstChunk: 1, count: 1000)
        #expect(question.firstChunk == 1 && question.count == 1)
        #expect(!learn(&filter, question, digests(disk)))
        #expect(!learn(&filter, question, []))
        #expect(!learn(&filter, question, [UInt8](repeating: 0, count: 17)))
        // The short last chunk was asked for.
        #expect(learn(&filter, question, digests(disk, 1, 1)))
        #expect(sent(&filter, 0, disk) == [0..<Self.chunk])
    }

    @Test func `zeros are left out where the standby has zeros`() {
        let disk = [UInt8](repeating: 0, count: 3 * Self.chunk + 500)
        var standby = disk
        standby[Self.chunk] = 1
        let size = UInt64(disk.count)
        var filter = ChangedBlockFilter(size: size)
        let question = filter.expect(firstChunk: 0, count: 4)
        #expect(learn(&filter, question, digests(standby)))
        let chunk = UInt64(Self.chunk)
        #expect(sentZero(&filter, 0, size) == [chunk..<2 * chunk])
        #expect(filter.skippedBytes == size - chunk)
        #expect(sentZero(&filter, 0, size) == [0..<size])
    }

    /// The rule in one: a standby that gets only what the filter lets pass ends up with the primary's bytes, whatever is
    /// asked and written in between, and whenever the answers come.
    @Test(arguments: 1...12)
    func `the standby ends up equal, however questions, answers and writes interleave`(seed: Int) {
        var numbers = SeededGenerator(seed: UInt64(seed) &* 104_729)
        let size = 20 * Self.chunk + Int.random(in: 0..<Self.chunk, using: &numbers)
        // Few different chunks, so that equal ones are frequent.
        let contents = (0..<3).map { _ in numbers.bytes(Self.chunk) } + [[UInt8](repeating: 0, count: Self.chunk)]
        func disk() -> [UInt8] {
            Array((0...20).flatMap { _ in contents.randomElement(using: &numbers)! }.prefix(size))
        }
        var (primary, standby) = (disk(), disk())
        var filter = ChangedBlockFilter(size: UInt64(size))
        var answers: [(question: ChangedBlockFilter.Question, digests: [UInt8])] = []
        func write(_ offset: Int, _ length: Int, zero: Bool) {
            if zero {
                primary.replaceSubrange(offset..<offset + length, with: repeatElement(0, count: length))
                for range in sentZero(&filter, UInt64(offset), UInt64(length)) {
                    standby.replaceSubrange(
                        Int(range.lowerBound)..<Int(range.upperBound), with: repeatElement(0, count: range.count))
                }
            } else {
                let data = Array(primary[offset..<offset + length])
                for range in sent(&filter, offset, data) {
                    standby.replaceSubrange(offset + range.lowerBound..<offset + range.upperBound, with: data[range])
                }
            }
        }
        for chunk in 0...20 {
            for _ in 0..<3 {
                switch Int.random(in: 0..<5, using: &numbers) {
                case 0:
                    let first = Int.random(in: 0...20, using: &numbers)
                    let count = Int.random(in: 1...21 - first, using: &numbers)
                    let question = filter.expect(firstChunk: UInt64(first), count: count)
                    answers.append((question, digests(standby, first, count)))
                case 1, 2:
                    guard !answers.isEmpty else { continue }
                    let answer = answers.removeFirst()
                    #expect(learn(&filter, answer.question, answer.digests))
                case 3:  // The guest writes: one of the contents, whole, or a few bytes.
                    let at = Int.random(in: 0...20, using: &numbers) * Self.chunk
                    let length = min(Self.chunk, size - at)
                    primary.replaceSubrange(
                        at..<at + length, with: contents.randomElement(using: &numbers)!.prefix(length))
                    write(at, length, zero: false)
                default:
                    let at = Int.random(in: 0..<size, using: &numbers)
                    write(
                        at, Int.random(in: 1...min(size - at, 2 * Self.chunk), using: &numbers),
                        zero: .random(using: &numbers))
                }
            }
            let start = chunk * Self.chunk
            write(start, min(Self.chunk, size - start), zero: false)
        }
        // Not within the macro, which would print a megabyte.
        let equal = standby == primary
        #expect(equal)
    }
}
