import Crypto
import LinuxSystem
import Memory
import Model
import Testing
import Wire

@Suite struct MemoryComparisonTests {
    private func page(_ seed: UInt8) -> [UInt8] { (0..<pageSize).map { UInt8(truncatingIfNeeded: $0 / 7) &+ seed } }
    private let zero = [UInt8](repeating: 0, count: pageSize)

    private func digest(_ page: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: PageDigest.size)
        digest.withUnsafeMutableBytes { digest in
            page.withUnsafeBytes { PageDigest.make(of: $0.baseAddress!, into: digest.baseAddress!) }
        }
        return digest
    }

    @Test func digestsAreHalfOfSHA256() {
        for page in [zero, page(1), page(200)] { #expect(digest(page) == Array(SHA256.hash(data: page).prefix(16))) }
        var almost = zero
        almost[pageSize - 1] = 1
        #expect(digest(almost) == Array(SHA256.hash(data: almost).prefix(16)))
        #expect(digest(almost) != PageDigest.zeroPage)
    }

    @Test(arguments: [1, 511, 513, 1700]) func severalThreadsFindTheSameDigests(count: Int) {
        let contents: [[UInt8]] = (0..<count).map { index in index % 5 == 0 ? zero : page(UInt8(index % 251)) }
        let pages = [UInt8](contents.joined())
        let found: [UInt8] = pages.withUnsafeBytes { PageDigest.make(ofPages: $0.baseAddress!, count: count) }
        let expected = [UInt8](contents.map(digest).joined())
        #expect(found == expected)
    }

    /// Every kind of page at the primary against every kind at the standby; nil is a page that was never touched.
    @Test func whatDiffersIsSentAndNothingElse() throws {
        let ours: [[UInt8]?] = [
            page(1), page(1), page(1), zero, zero, nil, nil, page(2), page(3), nil, page(4), page(5),
        ]
        let theirs = [
            page(1), page(2), zero, zero, page(1), zero, page(1), page(9), page(9), page(9), page(4), zero,
        ]
        let window = PageDigests(block: 3, first: 70, count: UInt32(ours.count))
        let source = try Slab()
        for (index, page) in ours.enumerated() {
            guard let page else { continue }
            (source.pages.baseAddress! + source.runs.pages * pageSize).copyMemory(from: page, byteCount: pageSize)
            source.runs.append(TrackedRun(block: 3, first: 70 + UInt32(index), count: 1))
        }
        let target = try Slab()
        // What an earlier use left there.
        target.pages.initializeMemory(as: UInt8.self, repeating: 0xee)
        var comparison = MemoryComparison()
        comparison.compare(window, theirs.flatMap(digest), source, into: target)

        var replica = theirs
        var position = 0
        for run in target.runs.runs {
            #expect(run.block == 3)
            for number in run.first..<run.first + run.count {
                replica[Int(number) - 70] = Array(target.pages[position * pageSize..<(position + 1) * pageSize])
                position += 1
            }
        }
        #expect(replica == ours.map { $0 ?? zero })
        #expect(position == comparison.sent && comparison.sent == 8)
        #expect(comparison.present == 2, "pages of zeros are nothing that was saved")
    }
}
