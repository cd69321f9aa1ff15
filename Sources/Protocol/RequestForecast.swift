import Model

/// What passes through a guest's NICs, as the host counts it.
public enum GuestTraffic: Sendable, Equatable {
    /// Frames a second that the guest sent, and that were sent to it.
    case counted(framesOut: Double, framesIn: Double)
    /// `reason` completes “frames were not counted: …”.
    case uncounted(reason: String)

    /// A request and its answer are at least one frame each way, so there are no more of them a second than this; nil when
    /// nobody knows.
    public var roundTripsMax: Double? {
        guard case .counted(let framesOut, let framesIn) = self else { return nil }
        return min(framesOut, framesIn)
    }
}

/// What protection would cost work that waits for answers: a database's clients, say. It loses by each answer, which waits
/// for a checkpoint, and not by the pauses; `docs/MODEL.md` has the formulae.
public struct RequestForecast: Sendable, Equatable {
    /// Who asks, as the operator tells it.
    public struct Work: Sendable, Equatable {
        /// How many ask at the same time, each one waiting for its answers: 1 or more.
        public var clients = 1
        /// Requests of one transaction, one after the other: 1 or more.
        public var roundTrips = 1

        public init() {}
    }

    /// Of something that lies between two values: where the guest is quiet, and where it is busy.
    public struct Span: Sendable, Equatable {
        public var least: Double
        public var most: Double

        public init(least: Double, most: Double) {
            self.least = least
            self.most = most
        }
    }

    public var work: Work
    public var traffic: GuestTraffic
    /// How much later each answer comes, in nanoseconds.
    public var answer: Span
    /// The time between two checkpoints that answers ask for, at least, in nanoseconds.
    var cycleMin: Double
    /// The share of its work that a guest loses which works all the time between those checkpoints, 0 to 1.
    var workLost: Double

    /// How much later a transaction ends, in nanoseconds.
    public var transaction: Span {
        Span(least: answer.least * Double(work.roundTrips), most: answer.most * Double(work.roundTrips))
    }

    /// Fewer round trips a second than this are no load that anything can be told from.
    static let roundTripsMin = 1.0

    /// The share of their requests that the clients can no longer make, 0 to 1; nil when too few were seen or none counted.
    public var lost: Span? {
        guard let rate = traffic.roundTripsMax, rate >= Self.roundTripsMin else { return nil }
        return lost(ofRequestsThatTake: Double(work.clients) * 1e9 / rate)
    }

    /// - Parameter shortest: the forecast of the shortest epochs: those that output ends are short, whatever was asked for.
    public init(_ shortest: EpochForecast, _ traffic: GuestTraffic, _ work: Work) {
        self.work = work
        self.traffic = traffic
        answer = Span(least: shortest.answerOnOutput, most: shortest.busyAnswer)
        let pause = shortest.pause.p50
        // However little it works, a guest runs for as long as it stands still (`EpochTimer`).
        cycleMin = pause * 100 / Double(EpochTimer.standstillMax)
        workLost = (pause + EpochModel.faultTime * shortest.dirtyPages.p50) / max(shortest.busyAnswer, pause, 1)
    }

    /// What a client loses that asks one thing after the other, each of which takes it `time` nanoseconds now.
    func lost(ofRequestsThatTake time: Double) -> Span {
        let least = 1 - time / max(cycleMin, time + answer.least)
        let most = 1 - time / (time + answer.most)
        return Span(least: least, most: min(1, max(least, most, work.clients > 1 ? workLost : 0)))
    }

    /// Requests that stand for others where none were seen, in nanoseconds: those of a database, and of a cache.
    static let typicalRequests = [5_000_000.0, 1_000_000.0]

    /// Some sentences.
    public var sentence: String {
        var text =
            "Work that waits for answers (a database's clients, say) loses more: each answer comes"
            + " \(Self.milliseconds(answer)) later. "
        if let rate = traffic.roundTripsMax, let lost {
            let count = Int(rate.rounded())
            text += "Up to \(count) round trip\(count == 1 ? "" : "s") a second were counted: "
            text +=
                work.clients == 1
                ? "one client that makes them one after the other makes \(Self.percent(lost)) fewer."
                : "\(work.clients) clients that make them at the same time make \(Self.percent(lost)) fewer."
        } else {
            let (long, short) = (Self.typicalRequests[0], Self.typicalRequests[1])
            text +=
                "Of requests that take \(Int(long / 1e6)) ms now a client makes"
                + " \(Self.percent(lost(ofRequestsThatTake: long))) fewer, of those that take \(Int(short / 1e6)) ms"
                + " \(Self.percent(lost(ofRequestsThatTake: short))); "
            let remark =
                switch traffic {
                case .counted: "hardly any was seen: watch the guest under its usual load."
                case .uncounted(let reason): "frames were not counted: \(reason)."
                }
            text += remark
        }
        if work.roundTrips > 1 {
            text += " A transaction of \(work.roundTrips) round trips takes \(Self.milliseconds(transaction)) longer."
        }
        return text
    }

    private static func milliseconds(_ span: Span) -> String {
        let (least, most) = (ForecastAdvice.tenths(span.least), ForecastAdvice.tenths(span.most))
        return least == most ? "\(least) ms" : "\(least) to \(most) ms"
    }

    private static func percent(_ span: Span) -> String {
        let (least, most) = (Int((span.least * 100).rounded(.down)), Int((span.most * 100).rounded(.up)))
        return least == most ? "\(least) %" : "\(least) to \(most) %"
    }
}
