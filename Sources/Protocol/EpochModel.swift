import Model

/// What an epoch costs, from the number of pages that the guest wrote in it; `docs/MODEL.md` has the formulae.
///
/// All times are nanoseconds. It is learnt from epochs that were measured, and says what one of so many pages usually takes
/// on this host: an epoch that took much longer was held up by something else.
public struct EpochModel: Sendable, Equatable {
    /// `fixed` and `slope` for each page, or each byte.
    public struct Line: Sendable, Equatable {
        public var fixed: Double
        public var slope: Double

        public init(fixed: Double, slope: Double) {
            self.fixed = fixed
            self.slope = slope
        }

        public func callAsFunction(_ amount: Double) -> Double { fixed + slope * amount }
    }

    public typealias Bound = PauseBound

    /// Until the guest stands still.
    public var stop: Double
    /// QEMU writing the state of its devices, while pages are found and copied.
    public var save: Double
    /// Taking the state over when both are done.
    public var finish: Double
    public var resume: Double
    /// By pages.
    public var scan: Line
    public var copy: Line
    public var encode: Line
    /// Bytes on the link, by pages.
    public var linkBytes: Line
    /// From the last frame to the acknowledgement, by bytes.
    public var transfer: Line

    /// What the guest itself pays for the first write to a page after it was protected: the fault that notes it. Measured
    /// with 4 KiB pages on Linux 6.18; it cannot be told from outside the guest.
    public static let faultTime = 950.0
    /// Fewer epochs than this teach nothing.
    public static let epochsMin = 8
    /// What is used of the epochs at most, the newest of them.
    public static let epochsMax = 256

    /// What was measured with guests of 256 MiB on a host of two cores: for what the epochs do not tell.
    public static let typical = EpochModel(
        stop: 130_000, save: 600_000, finish: 50_000, resume: 150_000, scan: Line(fixed: 100_000, slope: 70),
        copy: Line(fixed: 20_000, slope: 1050), encode: Line(fixed: 60_000, slope: 900),
        linkBytes: Line(fixed: 700, slope: 100), transfer: Line(fixed: 150_000, slope: 0))

    public init(
        stop: Double, save: Double, finish: Double, resume: Double, scan: Line, copy: Line, encode: Line,
        linkBytes: Line, transfer: Line
    ) {
        self.stop = stop
        self.save = save
        self.finish = finish
        self.resume = resume
        self.scan = scan
        self.copy = copy
        self.encode = encode
        self.linkBytes = linkBytes
        self.transfer = transfer
    }

    /// Learns from epochs, oldest first; nil when there are too few. A phase that none of them went through stays typical.
    public init?(learningFrom epochs: [EpochTimings]) {
        guard epochs.count >= Self.epochsMin else { return nil }
        let epochs = epochs.suffix(Self.epochsMax)
        self = .typical
        // Of an epoch that was only watched there is no pause to learn from.
        let paused = epochs.filter { $0.pause > 0 }
        let standing = paused.count >= Self.epochsMin ? ArraySlice(paused) : epochs
        if paused.count >= Self.epochsMin / 2 {
            stop = median(paused.map { Double($0.stop) })
            resume = median(paused.map { Double($0.resume) })
            let waits = paused.map { Double($0.deviceState) }
            finish = min(quantile(waits, 0.1), 100_000)
            // Only an epoch that still had to wait for the state when its pages were copied tells how long it took; the
            // longer the wait, the surer.
            let waited = [2 * finish, finish].lazy.map { least in paused.filter { Double($0.deviceState) > least } }
            let telling = waited.first { !$0.isEmpty } ?? []
            save = median(telling.map { Double($0.scan + $0.copy + $0.deviceState) - finish })
        }
        let pages = standing.map { Double($0.dirtyPages) }
        scan = Line(fitting: standing.map { Double($0.scan) }, over: pages, typicalSlope: scan.slope)
        copy = Line(fitting: standing.map { Double($0.copy) }, over: pages, typicalSlope: copy.slope)
        let all = epochs.map { Double($0.dirtyPages) }
        encode = Line(fitting: epochs.map { Double($0.encode) }, over: all, typicalSlope: encode.slope)
        linkBytes = Line(fitting: epochs.map { Double($0.linkBytes) }, over: all, typicalSlope: linkBytes.slope)
        let shipped = epochs.filter { $0.transfer > 0 }
        if shipped.count >= Self.epochsMin / 2 {
            transfer = Line(
                fitting: shipped.map { Double($0.transfer) }, over: shipped.map { Double($0.linkBytes) },
                typicalSlope: 0)
        }
    }

    /// How long the guest stands still: QEMU writes the state of its devices while we find and copy pages.
    public func pause(_ pages: Double) -> Double {
        stop + max(save, scan(pages) + copy(pages)) + finish + resume
    }

    public func bound(_ pages: Double) -> Bound { save > scan(pages) + copy(pages) ? .deviceState : .pages }

    /// From the guest running again to the acknowledgement.
    public func acknowledge(_ pages: Double) -> Double { encode(pages) + transfer(linkBytes(pages)) }

    /// From the first output of an epoch to its release, where output ends epochs.
    public func answerOnOutput(_ pages: Double) -> Double {
        Double(EpochTimer.gathering) + pause(pages) + acknowledge(pages)
    }

    /// The same for a client that asks again as soon as it was answered: the pause budget spaces its checkpoints.
    public func busyAnswer(_ pages: Double, pauseBudget percent: Double) -> Double {
        max(pause(pages) * 100 / percent, answerOnOutput(pages))
    }

    /// From output to its release where epochs are fixed: it comes at any moment of an epoch that lasts `run`.
    public func fixedAnswer(run: Double, _ pages: Double) -> (mean: Double, max: Double) {
        let rest = pause(pages) + acknowledge(pages)
        return (run / 2 + rest, run + rest)
    }

    /// The share of its time that the guest loses with epochs of `run`: standing still, and noting its writes. 0 to 1.
    public func slowdown(run: Double, _ pages: Double) -> Double {
        let pause = pause(pages)
        guard run + pause > 0 else { return 0 }
        return min(1, (pause + Self.faultTime * pages) / (run + pause))
    }
}

extension EpochModel.Line {
    /// The line that most pairs of points agree on (Theil and Sen), so that some epochs that were held up do not bend it.
    /// Where the amounts are too much alike to tell a slope, the typical one is taken as far as the values allow.
    init(fitting values: [Double], over amounts: [Double], typicalSlope: Double) {
        precondition(values.count == amounts.count, "one value for each amount")
        let least = max(8, median(amounts) / 4)
        var slopes: [Double] = []
        // Some pairs of each point agree as well as all of them, and cost nothing to speak of.
        for stride in [1, 3, 7, 17, 41, 97] {
            for first in amounts.indices.dropLast(stride) {
                let distance = amounts[first + stride] - amounts[first]
                if abs(distance) >= least { slopes.append((values[first + stride] - values[first]) / distance) }
            }
        }
        let middle = median(values)
        let amount = median(amounts)
        let steepest = amount > 0 ? middle / amount : .infinity
        let found = slopes.count >= amounts.count ? median(slopes) : typicalSlope
        slope = max(0, min(found, steepest))
        let line = slope
        fixed = max(0, median(zip(values, amounts).map { $0 - line * $1 }))
    }
}

/// The value below which this share (0...1) of `values` lies, nearest rank; 0 when there are none.
func quantile(_ values: [Double], _ share: Double) -> Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return 0 }
    let rank = Int((share * Double(sorted.count)).rounded(.up))
    return sorted[min(max(rank - 1, 0), sorted.count - 1)]
}

func median(_ values: [Double]) -> Double { quantile(values, 0.5) }
