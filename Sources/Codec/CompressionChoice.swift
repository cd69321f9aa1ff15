/// What the second stages gave so far on this VM's pages: moving averages, the newest measurement weighing an eighth.
public struct CompressionRates: Sendable, Equatable {
    public struct Rate: Sendable, Equatable {
        /// Page stream bytes compressed per second of one core.
        public var bytesPerSecond: Double
        /// Compressed size as a fraction of the page stream.
        public var ratio: Double

        public init(bytesPerSecond: Double, ratio: Double) {
            self.bytesPerSecond = bytesPerSecond
            self.ratio = ratio
        }

        /// Takes in that `input` bytes became `output` in `nanoseconds`.
        mutating func record(input: Int, output: Int, nanoseconds: UInt64) {
            guard input > 0, nanoseconds > 0 else { return }
            bytesPerSecond += (Double(input) * 1e9 / Double(nanoseconds) - bytesPerSecond) / 8
            ratio += (Double(output) / Double(input) - ratio) / 8
        }
    }

    /// The start values are what delta streams of small guests gave; they matter for the first epochs only.
    public var lz4 = Rate(bytesPerSecond: 1.4e9, ratio: 0.45)
    public var zstd = Rate(bytesPerSecond: 0.7e9, ratio: 0.3)

    public init() {}

    /// Takes in one epoch: what `codec` made of `input` bytes of page stream, and how long the compression
    /// took.
    public mutating func record(_ codec: Compression, input: Int, output: Int, nanoseconds: UInt64) {
        switch codec {
        case .none: break
        case .lz4: lz4.record(input: input, output: output, nanoseconds: nanoseconds)
        case .zstd: zstd.record(input: input, output: output, nanoseconds: nanoseconds)
        }
    }
}

extension Compression {
    /// An epoch that zstd compresses within this time is compressed by zstd: nobody feels the wait, and an idle guest
    /// then costs the link least.
    public static let unfeltSeconds = 100e-6
    /// Another codec must be cheaper by this factor to be changed to, so that the choice does not flutter.
    public static let gainToChange = 0.9
    /// Within so many epochs each of the compressing stages has one turn, so that its rates do not grow old.
    public static let probePeriod: UInt64 = 64

    /// The second stage for an epoch: the one with the shortest way for a byte of page stream, which is its
    /// compression, then its transfer: 1 / bytesPerSecond + ratio / link.
    ///
    /// - Parameters:
    ///   - linkBytesPerSecond: what the link carries; not positive when unknown, which counts as a slow link.
    ///   - rates: what was measured, by `CompressionRates.record`.
    ///   - stageOneBytes: the page stream expected for the epoch, for example that of the epoch before.
    ///   - epoch: its number; for taking turns only.
    ///   - current: the codec of the epoch before.
    public static func choose(
        linkBytesPerSecond: Double, rates: CompressionRates, stageOneBytes: Int, epoch: UInt64, current: Compression
    ) -> Compression {
        guard linkBytesPerSecond > 0, Double(stageOneBytes) > unfeltSeconds * rates.zstd.bytesPerSecond else {
            return .zstd
        }
        switch epoch % probePeriod {
        case 0: return .lz4
        case probePeriod / 2: return .zstd
        default: break
        }
        func secondsPerByte(_ codec: Compression) -> Double {
            switch codec {
            case .none: 1 / linkBytesPerSecond
            case .lz4: 1 / rates.lz4.bytesPerSecond + rates.lz4.ratio / linkBytesPerSecond
            case .zstd: 1 / rates.zstd.bytesPerSecond + rates.zstd.ratio / linkBytesPerSecond
            }
        }
        var best = current
        var bestCost = secondsPerByte(current) * gainToChange
        for codec in Compression.allCases where codec != current && secondsPerByte(codec) < bestCost {
            best = codec
            bestCost = secondsPerByte(codec)
        }
        return best
    }
}
