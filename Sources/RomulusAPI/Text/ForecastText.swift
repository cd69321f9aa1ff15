/// What `romulus forecast` prints for people.
public enum ForecastText {
    public static func text(_ forecast: Forecast, colour: Bool) -> String {
        var table = Table([
            ("EPOCH", .right), ("PAGES", .right), ("P95", .right), ("PAUSE", .right), ("P95", .right),
            ("ANSWER", .right), ("BUSY", .right), ("FIXED", .right), ("LOSES", .right), ("LINK/S", .right),
            ("CPU", .right),
        ])
        for epoch in forecast.epochs {
            let style = epoch.epochMilliseconds == forecast.advisedEpochMilliseconds ? Style.good : .plain
            table.add(
                [
                    "\(epoch.epochMilliseconds) ms", Units.decimal(epoch.dirtyPages.p50, 0),
                    Units.decimal(epoch.dirtyPages.p95, 0), Units.milliseconds(epoch.pause.p50),
                    Units.milliseconds(epoch.pause.p95), Units.milliseconds(epoch.answer),
                    Units.milliseconds(epoch.busyAnswer), Units.milliseconds(epoch.fixedAnswer),
                    percent(epoch.slowdown), bytes(epoch.linkBytesPerSecond), percent(epoch.agentShare),
                ].map { ($0, style) })
        }
        let pauses = forecast.hasPauses ? "" : " (pauses are typical ones: none were made)"
        let lines =
            [
                "\(forecast.vm) at level \(forecast.level.rawValue), watched for"
                    + " \(Units.decimal(forecast.seconds, 0)) s\(pauses)",
                "", table.text(colour: colour),
                "memory:  \(Units.bytes(forecast.agentMemoryBytes)) here after that time,"
                    + " at most \(Units.bytes(forecast.agentMemoryBytesMax));"
                    + " \(Units.bytes(forecast.standbyMemoryBytes)) at the standby",
                "disks:   \(bytes(forecast.diskBytesPerSecond))/s written, counted in LINK/S",
            ]
            + (forecast.requests.map { ["traffic: \(traffic($0))"] } ?? [])
            + [
                "standby: \(standby(forecast.link))",
                "",
                Style.bold.apply(to: Table.oneLine(forecast.advice), colour: colour),
            ]
        return lines.map { $0.hasSuffix("\n") ? $0 : $0 + "\n" }.joined()
    }

    private static func standby(_ link: ForecastLink?) -> String {
        guard let link else { return "none is configured: answer times are without the way to it" }
        if let roundTrip = link.roundTrip { return "\(link.peer), round trip \(Units.milliseconds(roundTrip))" }
        return "\(link.peer) is not reached, answer times are without the way to it:"
            + " \(Table.oneLine(link.error ?? "no reason given"))"
    }

    private static func traffic(_ requests: ForecastRequests) -> String {
        guard let framesOut = requests.framesOutPerSecond, let framesIn = requests.framesInPerSecond else {
            return "not counted: \(Table.oneLine(requests.uncounted ?? "no reason given"))"
        }
        return
            "\(Units.decimal(framesOut, 0)) frames/s sent by the guest, \(Units.decimal(framesIn, 0)) to it, before its"
            + " memory was followed"
    }

    private static func percent(_ share: Double) -> String { Units.decimal(share * 100, 1) + " %" }

    private static func bytes(_ count: Double) -> String { Units.bytes(UInt64(max(0, min(count, 1e18)))) }
}
