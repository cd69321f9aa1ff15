import Codec
import Testing

@Suite struct CompressionChoiceTests {
    func choice(
        link: Double, _ rates: CompressionRates = CompressionRates(), bytes: Int = 4 << 20, epoch: UInt64 = 5,
        current: Compression = .lz4
    ) -> Compression {
        Compression.choose(
            linkBytesPerSecond: link, rates: rates, stageOneBytes: bytes, epoch: epoch, current: current)
    }

    @Test(arguments: Compression.allCases) func theLinkDecides(current: Compression) {
        #expect(choice(link: 3.3e9, current: current) == .none)
        #expect(choice(link: 1.2e7, current: current) == .zstd)
        #expect(choice(link: 0, current: current) == .zstd)
    }

    @Test func smallEpochsTakeZstdOnAnyLink() {
        #expect(choice(link: 1e10, bytes: 4096, current: .none) == .zstd)
    }

    @Test func aSlowCoreAvoidsZstd() {
        var rates = CompressionRates()
        rates.zstd.bytesPerSecond = 5e7
        #expect(choice(link: 1.25e8, rates) == .lz4)
    }

    @Test func whatDoesNotShrinkIsNotCompressed() {
        var rates = CompressionRates()
        rates.lz4.ratio = 1
        rates.zstd.ratio = 0.97
        #expect(choice(link: 1.25e8, rates, current: .zstd) == .none)
    }

    @Test func almostEqualCostsChangeNothing() {
        var rates = CompressionRates()
        rates.lz4 = .init(bytesPerSecond: 1e9, ratio: 0.5)
        rates.zstd = .init(bytesPerSecond: 0.5e9, ratio: 0.37)
        // At 125 MB/s: LZ4 5.0 ns, zstd 4.96 ns a byte.
        #expect(choice(link: 1.25e8, rates, current: .lz4) == .lz4)
        #expect(choice(link: 1.25e8, rates, current: .zstd) == .zstd)
    }

    @Test func eachStageHasItsTurn() {
        let chosen = (UInt64(0)..<Compression.probePeriod).map { choice(link: 1e10, epoch: $0, current: .none) }
        #expect(chosen.filter { $0 == .lz4 }.count == 1)
        #expect(chosen.filter { $0 == .zstd }.count == 1)
    }

    @Test func averagesFollowWhatIsMeasured() {
        var rates = CompressionRates()
        for _ in 0..<100 { rates.record(.lz4, input: 1_000_000, output: 250_000, nanoseconds: 500_000) }
        #expect(abs(rates.lz4.bytesPerSecond - 2e9) < 1e7)
        #expect(abs(rates.lz4.ratio - 0.25) < 0.001)
        let before = rates
        rates.record(.none, input: 1, output: 1, nanoseconds: 1)
        rates.record(.zstd, input: 0, output: 0, nanoseconds: 1)
        rates.record(.zstd, input: 1, output: 1, nanoseconds: 0)
        #expect(rates == before)
    }
}
