import Forecasting
import Hypervisor
import LinuxSystem
import Logging
import Memory
import Model
import NIOCore
import Protocol
import RomulusAPI
import Transport
import Wire

/// What protecting a VM would cost: watches its guest, and computes.
struct Forecaster: Sendable {
    let configuration: Configuration
    let hosts: Hosts
    let roster: Roster
    let store: VMStore
    let drivers: Drivers
    /// Nil: processors sleep as they like.
    let processorSleep: ProcessorSleep?

    func forecast(_ request: ForecastRequest) async throws(APIError) -> Forecast {
        try refuseKnown(request.vm)
        let (vm, qmp) = try await drivers.finder.find(request.vm, request.qmp)
        try refuseKnown(vm)
        let configured = configuration.vms[vm]
        let peer = try hosts.usualPeer(request.standby ?? configured?.standby)
        guard roster.beginWatching(vm) else {
            throw APIError(.refused, "\(vm) is being watched for a forecast already: wait for that one")
        }
        defer { roster.endWatching(vm) }

        let link = await lookAt(peer)
        var options = ForecastOptions(vm: vm, qmpPath: qmp)
        options.seconds = request.seconds ?? ForecastRequest.usualSeconds
        options.pauses = request.pause ?? true
        options.isRealTime = configuration.defaults.isRealTime
        options.sleep = processorSleep
        options.linkBytesPerSecond = (request.linkMegabits ?? 0) * 125_000
        drivers.log.info("\(vm) is watched for a forecast", metadata: ["vm": "\(vm)", "seconds": "\(options.seconds)"])
        let (watching, guests, log) = (options, drivers.guests, drivers.log)
        let samples = try await offPool { () throws(APIError) in
            do throws(SessionError) {
                return try ForecastRun.watch(watching, among: guests, log: log)
            } catch {
                throw APIError(error.code == .refused ? .refused : .failed, error.message)
            }
        }
        var work = RequestForecast.Work()
        work.clients = request.clients ?? 1
        work.roundTrips = request.roundTrips ?? 1
        return forecast(vm, samples, options, link, work)
    }

    private func refuseKnown(_ vm: VMName) throws(APIError) {
        guard let record = try? roster.record(of: vm), record.isActive else {
            // What an agent before this one held of its output must not go by this way.
            guard store[vm].guest?.isAlive != true else {
                throw APIError(
                    .refused,
                    "\(vm) was protected here by an agent that ended, and this one could not take it in hand:"
                        + " “romulus events \(vm)” says why")
            }
            return
        }
        switch record.role {
        case .primary:
            throw APIError(
                .refused,
                "\(vm) is \(record.state.rawValue) here, not unprotected: “romulus top \(vm)” tells what that costs")
        case .standby:
            throw APIError(
                .refused, "\(vm) does not run here but at \(record.peerName), which has this host as its standby")
        }
    }

    /// Opens a link and closes it again.
    private func lookAt(_ peer: NodeName?) async -> ForecastLink? {
        guard let peer, let host = hosts[peer] else { return nil }
        do throws(LinkError) {
            let link = try await hosts.dial(host, within: .seconds(3), SilentHandler())
            hosts.hear(peer)
            let roundTrip = await link.roundTrip()
            link.close()
            return ForecastLink(
                peer: peer,
                roundTrip: roundTrip.map {
                    Double($0.components.attoseconds) / 1e15 + Double($0.components.seconds) * 1000
                })
        } catch {
            return ForecastLink(peer: peer, error: "\(error)")
        }
    }

    private func forecast(
        _ vm: VMName, _ samples: ForecastSamples, _ options: ForecastOptions, _ link: ForecastLink?,
        _ work: RequestForecast.Work
    ) -> Forecast {
        let epochs = samples.epochs
        var model = EpochModel(learningFrom: epochs) ?? .typical
        let roundTrip = (link?.roundTrip ?? 0) * 1e6
        model.transfer = EpochModel.Line(
            fixed: roundTrip + Self.typicalCommit,
            slope: options.linkBytesPerSecond > 0 ? 1e9 / options.linkBytesPerSecond : 0)
        var circumstances = EpochForecast.Circumstances()
        circumstances.pauseBudget = Double(configuration.defaults.pauseBudget)
        circumstances.diskBytesPerSecond = samples.diskBytesPerSecond
        circumstances.linkBytesPerSecond = options.linkBytesPerSecond
        let disturbance = EpochForecast.disturbance(of: epochs, model)
        let forecasts = options.lengths.compactMap { length in
            samples.byLength[length].map { watched in
                EpochForecast(
                    length: UInt64(length) * 1_000_000, watched: watched.map { ($0.timings, $0.processorTime) },
                    model: model, disturbance: disturbance, circumstances)
            }
        }
        let requests = forecasts.first.map { RequestForecast($0, samples.traffic, work) }
        let advice = ForecastAdvice(
            forecasts, requests: requests, linkBytesPerSecond: options.linkBytesPerSecond)
        let buffers = UInt64(16 << 20)
        let pagesMax = forecasts.map(\.dirtyPages.p95).max() ?? 0
        let slabs = min(UInt64(pagesMax) * UInt64(pageSize), UInt64(Slab.bytesMax)) * UInt64(Slab.count)
        return Forecast(
            vm: vm, level: .system, seconds: samples.seconds, hasPauses: options.pauses, link: link,
            epochs: forecasts.map { ForecastEpoch($0) }, deviceStateBytes: samples.deviceStateBytes,
            diskBytesPerSecond: samples.diskBytesPerSecond,
            agentMemoryBytes: samples.writtenBytes + slabs + buffers,
            agentMemoryBytesMax: samples.memoryBytes + UInt64(Slab.bytesMax * Slab.count) + buffers,
            standbyMemoryBytes: samples.memoryBytes, model: ModelReport(model),
            requests: requests.map { ForecastRequests($0) }, advice: advice.sentence,
            advisedEpochMilliseconds: advice.length.map { Int($0 / 1e6) })
    }

    /// What the standby takes from the last frame to its acknowledgement, beside the way: measured between two hosts on one
    /// machine, in nanoseconds.
    private static let typicalCommit = 100_000.0
}

/// Hears nothing of a link that is opened to be looked at only.
private final class SilentHandler: LinkHandler {
    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {}
    func linkClosed(_ link: Link, error: LinkError?) {}
}

extension ForecastEpoch {
    init(_ forecast: EpochForecast) {
        func milliseconds(_ nanoseconds: Double) -> Double { nanoseconds / 1e6 }
        self.init(
            epochMilliseconds: Int(forecast.length / 1e6), watched: forecast.epochs,
            dirtyPages: Percentiles(p50: forecast.dirtyPages.p50, p95: forecast.dirtyPages.p95),
            pause: Percentiles(p50: milliseconds(forecast.pause.p50), p95: milliseconds(forecast.pause.p95)),
            bound: forecast.bound, answer: milliseconds(forecast.answerOnOutput),
            busyAnswer: milliseconds(forecast.busyAnswer), fixedAnswer: milliseconds(forecast.fixedAnswerMean),
            fixedAnswerMax: milliseconds(forecast.fixedAnswerMax), slowdown: forecast.slowdown,
            linkBytesPerEpoch: forecast.linkBytesPerEpoch, linkBytesPerSecond: forecast.linkBytesPerSecond,
            agentShare: forecast.agentShare)
    }
}

extension ForecastRequests {
    init(_ requests: RequestForecast) {
        func milliseconds(_ span: RequestForecast.Span) -> ForecastSpan {
            ForecastSpan(least: span.least / 1e6, most: span.most / 1e6)
        }
        var (framesOut, framesIn, uncounted): (Double?, Double?, String?) = (nil, nil, nil)
        switch requests.traffic {
        case .counted(let sent, let received): (framesOut, framesIn) = (sent, received)
        case .uncounted(let reason): uncounted = reason
        }
        self.init(
            framesOutPerSecond: framesOut, framesInPerSecond: framesIn, uncounted: uncounted,
            roundTripsPerSecondMax: requests.traffic.roundTripsMax, clients: requests.work.clients,
            roundTrips: requests.work.roundTrips, answer: milliseconds(requests.answer),
            transaction: milliseconds(requests.transaction),
            lost: requests.lost.map { ForecastSpan(least: $0.least, most: $0.most) })
    }
}
