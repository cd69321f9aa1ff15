import Foundation
import LinuxSystem
import Model
import NIOCore
import NIOPosix
import PKI
import Synchronization
import TestBed
import Transport
import Wire

/// The side that judges: all contenders look at one link, while the peer is well, stopped, cut off or killed.
final class DetectionObserver: LinkHandler, Sendable {
    static let order = "--detection-observer"

    private let contenders = Mutex(Contender.all(now: MonotonicClock.now()))
    private let closedAt = Mutex<UInt64?>(nil)

    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {}
    func linkClosed(_ link: Link, error: LinkError?) { closedAt.withLock { $0 = MonotonicClock.now() } }

    /// - Parameter words: the directory of the certificates, the peers' address, their process ids, and the namespace whose
    ///   link is cut.
    static func run(_ words: [String]) async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let identity = try DetectionPeer.identity(words[0], "alpha")
        let pids = words[2].split(separator: ",").compactMap { pid_t($0) }
        func dial(_ index: Int) async throws -> (DetectionObserver, Link) {
            let observer = DetectionObserver()
            let link = try await LinkDialer.connect(
                host: words[1], port: 7310 + index, identity: identity, expectedPeer: "beta", timeout: .seconds(5),
                group: group, handler: observer)
            return (observer, link)
        }

        let (observer, link) = try await dial(0)
        observer.observe(link)
        var settings: [String: DetectionBench.Setting] = [:]
        // The judges begin at their ceilings and know the peer after about half a minute.
        observer.watch(seconds: 32)
        observer.restart()
        settings["idle"] = observer.setting(
            watched: observer.watch(seconds: 10), try observer.trials(10) { Stop(pids[0]) })

        let load = try (0..<2 * ProcessInfo.processInfo.activeProcessorCount).map { index in
            try Child(["sh", "-c", "while :; do :; done"], name: "load-\(index)", logs: words[0])
        }
        defer { for child in load { child.kill() } }
        observer.restart()
        settings["load"] = observer.setting(
            watched: observer.watch(seconds: 30), try observer.trials(10) { Stop(pids[0]) })
        observer.restart()
        settings["load and stalls"] = observer.setting(
            watched: observer.watchStalling(pids[0], seconds: 40), try observer.trials(8) { Stop(pids[0]) })
        for child in load { child.kill() }

        observer.restart()
        settings["link cut"] = observer.setting(
            watched: observer.watch(seconds: 1), try observer.trials(4) { try Cut(words[3]) })

        observer.restart()
        settings["observer stopped"] = observer.setting(watched: try observer.watchStopped(words[0], times: 5), [])

        var closed: [Double] = []
        for index in 1..<pids.count {
            let (other, _) = try await dial(index)
            usleep(200_000)
            let began = MonotonicClock.now()
            kill(pids[index], SIGKILL)
            while other.closedAt.withLock({ $0 }) == nil { usleep(100) }
            closed.append(Double(other.closedAt.withLock { $0 ?? 0 } - began) / 1e6)
        }
        let result = DetectionBench.Result(settings: settings, closed: closed)
        Bench.say(String(decoding: try JSONEncoder().encode(result), as: UTF8.self))
    }

    // MARK: - Looking

    /// As the sessions do it: a heartbeat at each interval, and a look then and when a verdict may be due.
    private func observe(_ link: Link) {
        Thread.detachNewThread { [self] in
            var due = MonotonicClock.now()
            while true {
                let now = MonotonicClock.now()
                if now >= due {
                    due = now + DetectionPeer.heartbeat
                    guard DetectionPeer.beat(link) else { return }
                }
                link.look { [self] sight in
                    contenders.withLock { contenders in
                        for index in contenders.indices {
                            contenders[index].look(at: sight.now, newest: sight.newest, gap: sight.gap)
                        }
                    }
                }
                let next = contenders.withLock { $0.filter { $0.alarmAt == nil }.map(\.due).min() ?? .max }
                MonotonicClock.sleep(until: min(due, max(next, now + DetectionPeer.heartbeat / 8)))
            }
        }
    }

    /// Counts false alarms anew.
    private func restart() { contenders.withLock { for index in $0.indices { $0[index].forgetAlarms() } } }

    @discardableResult private func watch(seconds: Double) -> (Double, [Contender]) {
        usleep(UInt32(seconds * 1e6))
        return (seconds, contenders.withLock { $0 })
    }

    /// The peer stands still for 20 to 240 ms every two seconds, as a host does that swaps, or whose own host is busy.
    private func watchStalling(_ pid: pid_t, seconds: Double) -> (Double, [Contender]) {
        let end = MonotonicClock.now() + UInt64(seconds * 1e9)
        var stall: UInt32 = 130
        while MonotonicClock.now() < end {
            // All lengths, in an order that jumps about and is the same in every run.
            stall = 20 + (stall + 89) % 221
            kill(pid, SIGSTOP)
            usleep(stall * 1000)
            kill(pid, SIGCONT)
            usleep(2_000_000 - stall * 1000)
        }
        return (seconds, contenders.withLock { $0 })
    }

    /// This process is stopped for longer than any silence that is borne, again and again, while the peer goes on: what it
    /// sent lies in the socket.
    private func watchStopped(_ logs: String, times: Int) throws -> (Double, [Contender]) {
        for index in 0..<times {
            let script = "kill -STOP \(getpid()); sleep 1.\(index); kill -CONT \(getpid())"
            _ = try Child(["sh", "-c", script], name: "stop-\(index)", logs: logs)
            usleep(UInt32(1_700_000 + index * 100_000))
        }
        return (Double(times) * 1.9, contenders.withLock { $0 })
    }

    private func setting(
        watched: (seconds: Double, contenders: [Contender]), _ detections: [[Double?]]
    ) -> DetectionBench.Setting {
        DetectionBench.Setting(
            watchedSeconds: watched.seconds,
            contenders: watched.contenders.enumerated().map { index, contender in
                let times = detections.map { $0[index] }
                return DetectionBench.Outcome(
                    name: contender.name, falseAlarms: contender.alarms, detections: times.compactMap(\.self),
                    missed: times.count { $0 == nil }, borne: Double(contender.borne) / 1e6)
            })
    }

    // MARK: - Faults

    private protocol Fault {
        func end() throws
    }

    /// The peer's process is stopped; its kernel goes on.
    private struct Stop: Fault {
        let pid: pid_t
        init(_ pid: pid_t) {
            self.pid = pid
            kill(pid, SIGSTOP)
        }
        func end() { kill(pid, SIGCONT) }
    }

    /// The link between the hosts is down.
    private struct Cut: Fault {
        let namespace: String
        init(_ namespace: String) throws {
            self.namespace = namespace
            try Child.run(["ip", "-n", namespace, "link", "set", "repl0", "down"])
        }
        func end() throws { try Child.run(["ip", "-n", namespace, "link", "set", "repl0", "up"]) }
    }

    /// Milliseconds from each fault to each contender's verdict; nil where there was none within two seconds. What the
    /// contenders learn from a fault is taken from them again, so that each trial begins as the watch ended.
    private func trials(_ count: Int, _ makeFault: () throws -> any Fault) throws -> [[Double?]] {
        try (0..<count).map { index in
            let before = contenders.withLock { $0 }
            // At any moment between two heartbeats.
            usleep(UInt32(100_000 + index * 37_000 % 50_000))
            let began = MonotonicClock.now()
            let fault = try makeFault()
            while MonotonicClock.now() < began + 2_000_000_000,
                contenders.withLock({ $0.contains { $0.alarmAt == nil } })
            {
                usleep(5000)
            }
            let times = contenders.withLock { $0.map { $0.alarmAt.map { Double($0 - began) / 1e6 } } }
            try fault.end()
            // TCP sends again after at most twice the time that was lost.
            let limit = MonotonicClock.now() + 8_000_000_000
            while MonotonicClock.now() < limit, contenders.withLock({ $0.contains { $0.alarmAt != nil } }) {
                usleep(5000)
            }
            usleep(200_000)
            contenders.withLock { $0 = before }
            usleep(100_000)
            return times
        }
    }
}
