import Model

/// What protection with epochs of one length would cost a guest that was watched; `docs/MODEL.md` has the formulae.
public struct EpochForecast: Sendable, Equatable {
    /// What holds whatever the length.
    public struct Circumstances: Sendable, Equatable {
        /// The largest share of time in which the guest may stand still because of its output, in percent.
        public var pauseBudget = 25.0
        /// What the guest writes to its disks: it travels too.
        public var diskBytesPerSecond = 0.0
        /// What the link carries; 0 when nobody knows.
        public var linkBytesPerSecond = 0.0

        public init() {}
    }

    /// How many of a quantity an epoch has, usually and at most times.
    public struct Spread: Sendable, Equatable {
        public var p50: Double
        public var p95: Double

        public init(p50: Double, p95: Double) {
            self.p50 = p50
            self.p95 = p95
        }

        public init(_ values: [Double]) { self.init(p50: median(values), p95: quantile(values, 0.95)) }
    }

    /// How long the guest runs in an epoch, in nanoseconds.
    public var length: Double
    /// Epochs that were watched.
    public var epochs: Int
    public var dirtyPages: Spread
    /// In nanoseconds, like every time here.
    public var pause: Spread
    public var bound: EpochModel.Bound
    /// Where output ends epochs: a guest that was quiet, and a client that asks again as soon as it was answered.
    public var answerOnOutput: Double
    public var busyAnswer: Double
    /// Where epochs are fixed.
    public var fixedAnswerMean: Double
    public var fixedAnswerMax: Double
    /// The share of its time that the guest loses, 0 to 1.
    public var slowdown: Double
    public var linkBytesPerEpoch: Double
    public var linkBytesPerSecond: Double
    /// Of one core, 0 to 1: finding, copying and encoding.
    public var agentShare: Double
    /// Of one core, 0 to 1: what encoding alone takes of the time between two checkpoints.
    public var encodeShare: Double

    /// - Parameters:
    ///   - watched: the epochs of that length, at least one, and the processor time that each took, in nanoseconds.
    ///   - disturbance: what the pauses of the forecast took at most times beyond what the model says, in nanoseconds.
    public init(
        length: UInt64, watched: [(timings: EpochTimings, processorTime: UInt64)], model: EpochModel,
        disturbance: Double, _ circumstances: Circumstances
    ) {
        let run = Double(length)
        self.length = run
        epochs = watched.count
        dirtyPages = Spread(watched.map { Double($0.timings.dirtyPages) })
        let pages = dirtyPages.p50
        pause = Spread(p50: model.pause(pages), p95: model.pause(dirtyPages.p95) + max(0, disturbance))
        bound = model.bound(pages)
        answerOnOutput = model.answerOnOutput(pages)
        busyAnswer = model.busyAnswer(pages, pauseBudget: circumstances.pauseBudget)
        let fixed = model.fixedAnswer(run: run, pages)
        fixedAnswerMean = fixed.mean
        fixedAnswerMax = fixed.max
        slowdown = model.slowdown(run: run, pages)
        let period = run + pause.p50
        linkBytesPerEpoch = mean(watched.map { Double($0.timings.linkBytes) })
        linkBytesPerSecond = linkBytesPerEpoch * 1e9 / period + circumstances.diskBytesPerSecond
        // A page that is copied while the guest stands still is copied by the same thread: watching costs what protecting does.
        agentShare = mean(watched.map { Double($0.processorTime) }) / period
        encodeShare = mean(watched.map { Double($0.timings.encode) }) / period
    }

    /// What the pauses took at most times beyond what `model` says, in nanoseconds.
    public static func disturbance(of epochs: [EpochTimings], _ model: EpochModel) -> Double {
        let beyond = epochs.filter { $0.pause > 0 }.map { Double($0.pause) - model.pause(Double($0.dirtyPages)) }
        return max(0, quantile(beyond, 0.95))
    }
}

private func mean(_ values: [Double]) -> Double {
    values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count)
}

/// What follows from a forecast, in some sentences.
public struct ForecastAdvice: Sendable, Equatable {
    /// The length that suits, in nanoseconds; nil when none does.
    public var length: Double?
    public var sentence: String

    /// Losing so much of its time hurts no guest that is worth protecting.
    static let slowdownMax = 0.05
    /// More of the link or of the encoding thread than this leaves no room for a burst.
    static let shareMax = 0.7

    /// `forecasts` by rising length, at least one. What becomes of `requests` is told where some length suits.
    public init(_ forecasts: [EpochForecast], requests: RequestForecast? = nil, linkBytesPerSecond: Double) {
        let ofRequests = requests.map { " " + $0.sentence } ?? ""
        func fits(_ forecast: EpochForecast) -> Bool {
            forecast.encodeShare <= Self.shareMax
                && (linkBytesPerSecond <= 0 || forecast.linkBytesPerSecond <= Self.shareMax * linkBytesPerSecond)
        }
        if let chosen = forecasts.first(where: { fits($0) && $0.slowdown <= Self.slowdownMax }) {
            length = chosen.length
            sentence =
                "--epoch-ms \(Self.milliseconds(chosen.length)) suits: work that waits for nobody loses about"
                + " \(Self.percent(chosen.slowdown)) of its time." + ofRequests
            return
        }
        let best = forecasts.filter(fits).min { $0.slowdown < $1.slowdown }
        length = best?.length
        if let best {
            sentence =
                "No epoch here costs the guest less than \(Self.percent(best.slowdown)) of its time, which is what"
                + " --epoch-ms \(Self.milliseconds(best.length)) takes: "
                + (best.bound == .pages
                    ? "\(Int(best.dirtyPages.p50)) written pages an epoch are what limits."
                    : "QEMU's saving of its devices is what limits.") + ofRequests
        } else if let least = forecasts.min(by: { $0.linkBytesPerSecond < $1.linkBytesPerSecond }) {
            sentence =
                least.encodeShare > Self.shareMax
                ? "It cannot be protected as it works now: encoding what it writes takes"
                    + " \(Self.percent(least.encodeShare)) of a core at every length."
                : "It cannot be protected over this link as it works now: it needs"
                    + " \(Self.tenths(least.linkBytesPerSecond)) MB/s of it, and \(Self.percent(Self.shareMax)) of it are"
                    + " \(Self.tenths(linkBytesPerSecond * Self.shareMax)) MB/s."
        } else {
            sentence = "Nothing was watched."
        }
    }

    private static func milliseconds(_ nanoseconds: Double) -> Int { Int((nanoseconds / 1e6).rounded()) }
    private static func percent(_ share: Double) -> String { "\(Int((share * 100).rounded(.up))) %" }
    /// Of millions.
    static func tenths(_ value: Double) -> String {
        let tenths = Int((value / 1e5).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}
