import Model
import Protocol
import Testing

@Suite struct EpochModelTests {
    private typealias Line = EpochModel.Line

    /// A host that is as regular as no host is: what `truth` says, with so many pages.
    private static let truth = EpochModel(
        stop: 100_000, save: 500_000, finish: 40_000, resume: 120_000, scan: Line(fixed: 90_000, slope: 60),
        copy: Line(fixed: 10_000, slope: 900), encode: Line(fixed: 50_000, slope: 700),
        linkBytes: Line(fixed: 600, slope: 80), transfer: Line(fixed: 90_000, slope: 2))

    private static func epoch(_ pages: Double, heldUp: Double = 0) -> EpochTimings {
        var timings = EpochTimings()
        let work = truth.scan(pages) + truth.copy(pages)
        timings.stop = UInt64(truth.stop + heldUp)
        timings.scan = UInt64(truth.scan(pages))
        timings.copy = UInt64(truth.copy(pages))
        timings.deviceState = UInt64(max(0, truth.save - work) + truth.finish)
        timings.resume = UInt64(truth.resume)
        timings.pause = timings.stop + timings.scan + timings.copy + timings.deviceState + timings.resume
        timings.encode = UInt64(truth.encode(pages))
        timings.linkBytes = UInt64(truth.linkBytes(pages))
        timings.transfer = UInt64(truth.transfer(truth.linkBytes(pages)))
        timings.dirtyPages = UInt64(pages)
        return timings
    }

    private static func near(_ value: Double, _ expected: Double, within share: Double = 0.01) -> Bool {
        abs(value - expected) <= share * abs(expected) + 1
    }

    /// Epochs of 20 to 2000 pages, in no order.
    private static let mixed = (0..<100).map { epoch(Double(20 + ($0 * 37) % 100 * 20)) }

    @Test func whatIsRegularIsLearntExactly() throws {
        let model = try #require(EpochModel(learningFrom: Self.mixed))
        for pages in [0.0, 50, 300, 1000, 5000] {
            #expect(Self.near(model.pause(pages), Self.truth.pause(pages), within: 0.03))
            #expect(Self.near(model.acknowledge(pages), Self.truth.acknowledge(pages)))
            #expect(Self.near(model.linkBytes(pages), Self.truth.linkBytes(pages)))
        }
        #expect(model.bound(10) == .deviceState)
        #expect(model.bound(2000) == .pages)
    }

    @Test func epochsThatWereHeldUpDoNotBendIt() throws {
        var epochs = Self.mixed
        for index in stride(from: 0, to: epochs.count, by: 5) {
            epochs[index] = Self.epoch(Double(epochs[index].dirtyPages), heldUp: 9_000_000)
            epochs[index].copy *= 20
        }
        let model = try #require(EpochModel(learningFrom: epochs))
        #expect(Self.near(model.pause(300), Self.truth.pause(300), within: 0.1))
        #expect(Self.near(model.pause(1500), Self.truth.pause(1500), within: 0.1))
    }

    @Test func aFewEpochsTeachNothing() {
        #expect(EpochModel(learningFrom: Array(Self.mixed.prefix(EpochModel.epochsMin - 1))) == nil)
        #expect(EpochModel(learningFrom: Array(Self.mixed.prefix(EpochModel.epochsMin))) != nil)
    }

    /// Where every epoch is like the others no slope can be told: what they took is still right, and nothing is negative.
    @Test func epochsThatAreAllAlikeGiveATypicalSlope() throws {
        let model = try #require(EpochModel(learningFrom: Array(repeating: Self.epoch(300), count: 50)))
        #expect(Self.near(model.pause(300), Self.truth.pause(300), within: 0.03))
        #expect(model.copy.fixed >= 0 && model.copy.slope > 0)
        #expect(model.pause(0) > 0 && model.pause(3000) > model.pause(300))
    }

    @Test func onlyTheNewestEpochsCount() throws {
        let old = Array(repeating: Self.epoch(300, heldUp: 5_000_000), count: 500)
        let new = (0..<EpochModel.epochsMax).map { Self.epoch(Double($0 * 7)) }
        let model = try #require(EpochModel(learningFrom: old + new))
        #expect(Self.near(model.stop, Self.truth.stop))
    }

    /// Epochs that were only watched: what they tell of pages is used, the pause stays typical.
    @Test func watchedEpochsTellOfPagesOnly() throws {
        let watched = Self.mixed.map { epoch in
            var epoch = epoch
            (epoch.pause, epoch.stop, epoch.deviceState, epoch.resume) = (0, 0, 0, 0)
            return epoch
        }
        let model = try #require(EpochModel(learningFrom: watched))
        #expect(model.stop == EpochModel.typical.stop && model.save == EpochModel.typical.save)
        #expect(Self.near(model.copy.slope, Self.truth.copy.slope))
    }

    @Test func theFormulaeAreThoseOfTheManual() {
        let model = Self.truth
        let pages = 1000.0
        let pause = 100_000.0 + (90_000 + 60_000 + 10_000 + 900_000) + 40_000 + 120_000
        let link = 600.0 + 80_000
        let acknowledge = 50_000.0 + 700_000 + 90_000 + 2 * link
        #expect(model.pause(pages) == pause)
        #expect(model.pause(0) == 760_000)
        #expect(model.acknowledge(pages) == acknowledge)
        #expect(model.answerOnOutput(pages) == 150_000 + pause + acknowledge)
        #expect(model.busyAnswer(pages, pauseBudget: 10) == pause * 10)
        #expect(model.busyAnswer(pages, pauseBudget: 90) == model.answerOnOutput(pages))
        let fixed = model.fixedAnswer(run: 20_000_000, pages)
        #expect(fixed.mean == 10_000_000 + pause + acknowledge && fixed.max == fixed.mean + 10_000_000)
        #expect(
            Self.near(model.slowdown(run: 20_000_000, pages), (pause + 950_000) / (20_000_000 + pause), within: 1e-9))
        #expect(model.slowdown(run: 0, 100_000) == 1)
    }
}

@Suite struct EpochForecastTests {
    private static func watched(
        _ pages: UInt64, encode: UInt64 = 100_000, link: UInt64 = 10_000
    ) -> (timings: EpochTimings, processorTime: UInt64) {
        var timings = EpochTimings()
        timings.dirtyPages = pages
        timings.encode = encode
        timings.linkBytes = link
        return (timings, 2 * encode)
    }

    private static func forecast(
        _ milliseconds: UInt64, pages: UInt64, encode: UInt64 = 100_000, link: UInt64 = 10_000
    ) -> EpochForecast {
        EpochForecast(
            length: milliseconds * 1_000_000,
            watched: Array(repeating: watched(pages, encode: encode, link: link), count: 20),
            model: .typical, disturbance: 0, .init())
    }

    @Test func ratesAreOverTheWholePeriod() {
        var circumstances = EpochForecast.Circumstances()
        circumstances.diskBytesPerSecond = 1000
        let watched = (1...20).map { Self.watched(UInt64($0) * 10) }
        let forecast = EpochForecast(
            length: 20_000_000, watched: watched, model: .typical, disturbance: 3_000_000, circumstances)
        let period = 20_000_000 + EpochModel.typical.pause(100)
        #expect(forecast.dirtyPages == .init(p50: 100, p95: 190))
        #expect(forecast.pause.p50 == EpochModel.typical.pause(100))
        #expect(forecast.pause.p95 == EpochModel.typical.pause(190) + 3_000_000)
        #expect(abs(forecast.linkBytesPerSecond - (10_000 * 1e9 / period + 1000)) < 1e-6)
        #expect(abs(forecast.agentShare - 200_000 / period) < 1e-9)
        #expect(abs(forecast.encodeShare - 100_000 / period) < 1e-9)
    }

    @Test func theShortestEpochThatCostsLittleIsAdvised() {
        let advice = ForecastAdvice(
            [Self.forecast(10, pages: 50), Self.forecast(20, pages: 60), Self.forecast(50, pages: 70)],
            linkBytesPerSecond: 0)
        // A millisecond of pause in ten is more than a twentieth.
        #expect(advice.length == 20_000_000)
        #expect(
            advice.sentence.hasPrefix("--epoch-ms 20 suits: work that waits for nobody loses about 5 % of its time."))
    }

    /// A database loses by its answers, not by the pauses, and much more.
    @Test func requestsAndAnswersAreSpokenOf() {
        let forecast = Self.forecast(10, pages: 60)
        func requests(_ traffic: GuestTraffic, clients: Int = 1, roundTrips: Int = 1) -> RequestForecast {
            var work = RequestForecast.Work()
            (work.clients, work.roundTrips) = (clients, roundTrips)
            return RequestForecast(forecast, traffic, work)
        }
        let one = requests(.counted(framesOut: 400, framesIn: 420))
        let (quiet, busy, now) = (forecast.answerOnOutput, forecast.busyAnswer, 1e9 / 400)
        #expect(one.lost == .init(least: 1 - now / (now + quiet), most: 1 - now / (now + busy)))
        #expect((one.lost?.most ?? 0) > 5 * forecast.slowdown, "the case would show nothing")
        let advice = ForecastAdvice([forecast], requests: one, linkBytesPerSecond: 0)
        #expect(advice.sentence.contains("Up to 400 round trips a second were counted: one client that makes them"))
        // As many frames of eight clients leave each of them more time for a request.
        let eight = requests(.counted(framesOut: 400, framesIn: 420), clients: 8, roundTrips: 7)
        #expect((eight.lost?.least ?? 1) < (one.lost?.least ?? 0) / 2)
        #expect(eight.sentence.contains("8 clients that make them at the same time make"))
        #expect(eight.transaction == .init(least: 7 * quiet, most: 7 * busy))
        #expect(eight.sentence.contains("A transaction of 7 round trips takes"))
        // However many they are, a busy guest works no more than its pauses leave it.
        let many = requests(.counted(framesOut: 400, framesIn: 420), clients: 10_000)
        #expect((many.lost?.most ?? 0) >= forecast.pause.p50 / busy)
        // A guest that is asked without end still runs for as long as it stands still.
        let flood = requests(.counted(framesOut: 1e6, framesIn: 1e6))
        #expect(flood.lost?.least == 1 - 1000 / max(2 * forecast.pause.p50, 1000 + quiet))
    }

    /// Where nothing can be counted, requests of two lengths stand for others, and it says why.
    @Test func withoutRequestsOthersStandForThem() {
        let forecast = Self.forecast(10, pages: 60)
        let quiet = RequestForecast(forecast, .counted(framesOut: 3, framesIn: 0.2), .init())
        #expect(quiet.lost == nil && quiet.sentence.contains("Of requests that take 5 ms now a client makes"))
        #expect(quiet.sentence.hasSuffix("hardly any was seen: watch the guest under its usual load."))
        let unknown = RequestForecast(forecast, .uncounted(reason: "it has no NIC"), .init())
        #expect(unknown.lost == nil && unknown.sentence.hasSuffix("frames were not counted: it has no NIC."))
    }

    @Test func whatLimitsIsNamed() {
        let pages = ForecastAdvice(
            [Self.forecast(10, pages: 5000), Self.forecast(50, pages: 9000)], linkBytesPerSecond: 0)
        #expect(pages.length == 50_000_000)
        #expect(pages.sentence.contains("9000 written pages an epoch are what limits."))
        let devices = ForecastAdvice([Self.forecast(10, pages: 5)], linkBytesPerSecond: 0)
        #expect(devices.sentence.contains("QEMU's saving of its devices is what limits."))
        let link = ForecastAdvice([Self.forecast(20, pages: 100, link: 1_000_000)], linkBytesPerSecond: 10e6)
        #expect(link.length == nil)
        #expect(link.sentence.contains("over this link") && link.sentence.hasSuffix("7.0 MB/s."))
        let encoding = ForecastAdvice([Self.forecast(20, pages: 100, encode: 19_000_000)], linkBytesPerSecond: 0)
        #expect(encoding.length == nil && encoding.sentence.contains("encoding what it writes"))
    }

    @Test func aLinkThatIsFastEnoughIsNoObstacle() {
        let forecasts = [Self.forecast(20, pages: 60, link: 100_000), Self.forecast(50, pages: 60, link: 100_000)]
        #expect(ForecastAdvice(forecasts, linkBytesPerSecond: 100e6).length == 20_000_000)
        // 4.8 MB/s at 20 ms are too much of 5 MB/s, 2 MB/s at 50 ms are not.
        #expect(ForecastAdvice(forecasts, linkBytesPerSecond: 5e6).length == 50_000_000)
    }

    @Test func theDisturbanceIsWhatTheModelDoesNotExplain() {
        var epochs = (0..<20).map { _ in Self.watched(100).timings }
        #expect(EpochForecast.disturbance(of: epochs, .typical) == 0)
        for index in epochs.indices {
            epochs[index].pause = UInt64(EpochModel.typical.pause(100)) + UInt64(index) * 1000
        }
        #expect(EpochForecast.disturbance(of: epochs, .typical) == 18_000)
    }
}
