import Foundation
import TestBed

/// The measurements. Each part is a file below `Parts`; all use the same guest image under TCG.
enum Bench {
    /// The parts by the names that the command line takes, in the order of a whole run.
    enum Part: String, CaseIterable {
        case peers, pause, busy, answer, overhead, idle, throughput, failover, pressure, disk, component, faults, dial,
            scan,
            tracking, codec,
            resync, reprotect, pins
        case detection, forecast

        /// What it measures, in one sentence for people.
        var about: String {
            switch self {
            case .peers: PeersBench.about
            case .pause: PauseBench.about
            case .busy: BusyBench.about
            case .answer: AnswerBench.about
            case .overhead: OverheadBench.about
            case .idle: IdleBench.about
            case .throughput: ThroughputBench.about
            case .failover: FailoverBench.about
            case .pressure: PressureBench.about
            case .disk: DiskBench.about
            case .component: ComponentBench.about
            case .faults: FaultsBench.about
            case .dial: DialBench.about
            case .scan: ScanBench.about
            case .tracking: TrackingBench.about
            case .codec: CodecBench.about
            case .resync: ResyncBench.about
            case .reprotect: ReprotectBench.about
            case .pins: PinsBench.about
            case .detection: DetectionBench.about
            case .forecast: ForecastBench.about
            }
        }

        func measure(_ image: GuestImage) async throws -> Measured {
            switch self {
            case .peers: try await PeersBench.measure(image)
            case .pause: try await PauseBench.measure(image)
            case .busy: try await BusyBench.measure(image)
            case .answer: try await AnswerBench.measure(image)
            case .overhead: try await OverheadBench.measure(image)
            case .idle: try await IdleBench.measure(image)
            case .throughput: try await ThroughputBench.measure(image)
            case .failover: try await FailoverBench.measure(image)
            case .pressure: try await PressureBench.measure(image)
            case .disk: try await DiskBench.measure(image)
            case .component: try await ComponentBench.measure(image)
            case .faults: try await FaultsBench.measure(image)
            case .dial: try await DialBench.measure(image)
            case .scan: try await ScanBench.measure(image)
            case .tracking: try TrackingBench.measure()
            case .codec: try CodecBench.measure(try await PageRecordings.make(image))
            case .resync: try await ResyncBench.measure(image)
            case .reprotect: try await ReprotectBench.measure(image)
            case .pins: try await PinsBench.measure(image)
            case .detection: try await DetectionBench.measure()
            case .forecast: try await ForecastBench.measure(image)
            }
        }
    }

    static var list: String { Table.lines(Part.allCases.map { [$0.rawValue, $0.about] }) }

    /// Measures the parts one after the other. One that fails leaves its reason and does not keep the others from it.
    static func run(_ parts: [Part]) async throws -> Report {
        let image = try GuestImage.build()
        let clock = ContinuousClock()
        var report = Report(
            date: ISO8601DateFormatter().string(from: Date()), machine: Machine.describe(), parts: [])
        for part in parts {
            say("\(part.rawValue): \(part.about)")
            let began = clock.now
            var measured = Measured(figures: [])
            var failure: String?
            do {
                measured = try await part.measure(image)
            } catch {
                failure = "\(error)"
                say("  failed: \(error)")
            }
            report.parts.append(
                Report.Part(
                    name: part.rawValue, seconds: began.duration(to: clock.now).milliseconds / 1000,
                    measured: measured, failure: failure))
        }
        return report
    }

    /// A line at once, also where standard output is a pipe.
    static func say(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }
}

extension Duration {
    var milliseconds: Double { Double(components.seconds) * 1000 + Double(components.attoseconds) / 1e15 }
}
