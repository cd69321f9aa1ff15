import Foundation
import QEMU
import TestBed

/// How long the guest stands still, for all contenders by the same clock: QEMU's own events STOP and RESUME, with the
/// time that QEMU gave them, as a second monitor hears them.
final class PauseObserver {
    let monitor: QMPConnection

    init(_ guest: GuestVM) throws {
        monitor = try QMPConnection(path: guest.testMonitorPath)
    }

    /// The pauses of that time, in milliseconds.
    func pauses(during seconds: Double) throws -> [Double] {
        _ = try monitor.takeEvents()
        var events: [QMPEvent] = []
        let end = ContinuousClock.now + .seconds(seconds)
        // Seldom, not to disturb; often enough for the socket to hold what comes.
        while ContinuousClock.now < end {
            usleep(250_000)
            events += try monitor.takeEvents()
        }
        return Self.pauses(in: events)
    }

    /// At least `count` pauses, whatever time they take, up to `limit` seconds.
    func pauses(count: Int, limit: Double) throws -> [Double] {
        var pauses: [Double] = []
        let end = ContinuousClock.now + .seconds(limit)
        while pauses.count < count, ContinuousClock.now < end { pauses += try self.pauses(during: 1) }
        return pauses
    }

    /// From each STOP to the next RESUME, in milliseconds.
    static func pauses(in events: [QMPEvent]) -> [Double] {
        var pauses: [Double] = []
        var stopped: Int64?
        for event in events {
            switch event.name {
            case "STOP": stopped = event.timestamp
            case "RESUME":
                if let began = stopped.take() { pauses.append(Double(event.timestamp - began) / 1000) }
            default: break
            }
        }
        return pauses
    }
}
