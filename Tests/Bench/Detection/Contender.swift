import Protocol

/// One way to tell a dead peer from a slow one, and what came of it. All contenders see the same arrivals.
struct Contender: Sendable {
    /// The other estimator that failure detectors use: mean and mean deviation of the gaps, each new one with a weight of
    /// 1/32, times four as in TCP's retransmission timer (RFC 6298).
    struct Mean: Sendable {
        let limits: SilenceJudge.Limits
        private var mean: Double
        private var deviation: Double
        private var heard: UInt64
        private var lookedAt: UInt64
        private var silence: UInt64 = 0

        init(_ limits: SilenceJudge.Limits, now: UInt64) {
            self.limits = limits
            mean = Double(limits.ceiling) / 5
            deviation = mean
            heard = now
            lookedAt = now
        }

        var borne: UInt64 { min(max(UInt64(mean + 4 * deviation), limits.floor), limits.ceiling) }
        var isSilent: Bool { silence > borne }
        var due: UInt64 { lookedAt + (borne > silence ? borne - silence : 0) + 1 }

        mutating func look(at now: UInt64, newest: UInt64, gap: UInt64) {
            guard now > lookedAt else { return }
            // Silence counts as with the judge, so that only the estimate differs.
            let passed = now - lookedAt
            let listened = passed > 2 * limits.interval ? limits.interval : passed
            let missed = passed - listened
            silence += listened
            lookedAt = now
            guard newest > heard else { return }
            heard = newest
            silence = min(silence, now > newest ? now - newest : 0)
            let seen = Double(gap > missed ? gap - missed : 0)
            guard seen > 0 else { return }
            deviation += (abs(seen - mean) - deviation) / 32
            mean += (seen - mean) / 32
        }
    }

    enum Way: Sendable {
        case judge(SilenceJudge)
        case mean(Mean)
    }

    let name: String
    private(set) var way: Way
    private(set) var alarms = 0
    private(set) var alarmAt: UInt64?

    static func all(now: UInt64) -> [Contender] {
        func limits(_ floor: Int, _ ceiling: Int) -> SilenceJudge.Limits {
            SilenceJudge.Limits(floor: floor, ceiling: ceiling, interval: 50, peerInterval: 50)
        }
        let fixed = [150, 200, 300, 500].map {
            Contender(name: "fixed \($0)", way: .judge(SilenceJudge(limits($0, $0), now: now)))
        }
        let adaptive = [(150, 500), (200, 500), (300, 500), (200, 1000)].map {
            Contender(name: "adaptive \($0)-\($1)", way: .judge(SilenceJudge(limits($0, $1), now: now)))
        }
        let means = [(150, 500), (200, 500)].map {
            Contender(name: "mean+4dev \($0)-\($1)", way: .mean(Mean(limits($0, $1), now: now)))
        }
        return fixed + adaptive + means
    }

    mutating func forgetAlarms() { alarms = 0 }

    var due: UInt64 {
        switch way {
        case .judge(let judge): judge.due
        case .mean(let mean): mean.due
        }
    }

    var borne: UInt64 {
        switch way {
        case .judge(let judge): judge.borne
        case .mean(let mean): mean.borne
        }
    }

    mutating func look(at now: UInt64, newest: UInt64, gap: UInt64) {
        let isSilent: Bool
        switch way {
        case .judge(var judge):
            judge.look(at: now, newest: newest, gap: gap)
            isSilent = judge.verdict() == .silent
            way = .judge(judge)
        case .mean(var mean):
            mean.look(at: now, newest: newest, gap: gap)
            isSilent = mean.isSilent
            way = .mean(mean)
        }
        if !isSilent {
            alarmAt = nil
        } else if alarmAt == nil {
            alarmAt = now
            alarms += 1
        }
    }
}
