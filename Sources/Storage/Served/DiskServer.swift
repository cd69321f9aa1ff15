import Foundation
import Glibc
import LinuxSystem

/// The process that serves one disk (`romulusd disk-server PLAN`): it outlives the agent, and ends with the guest.
public final class DiskServer: Sendable {
    private let disk: ServedDisk
    private let server: NBDServer
    private let agent: Monitor<ControlLine?>
    private let listener: OwnedDescriptor
    private let plan: ServedPlan

    /// Opens the image, and both sockets.
    public init(_ plan: ServedPlan) throws {
        self.plan = plan
        let agent = Monitor<ControlLine?>(nil)
        self.agent = agent
        let disk = try ServedDisk(
            path: plan.path, size: plan.size, bound: plan.boundMilliseconds, lost: plan.lost
        ) { report in
            agent.look { $0 }?.send(ServedLine(isAnswer: false, report: report))
        }
        self.disk = disk
        server = disk.server()
        plan.removeSockets()
        try server.listen(at: plan.diskSocket)
        guard chown(plan.diskSocket, plan.guestUser, gid_t.max) == 0 else {
            throw SystemError(operation: "give QEMU's user", errno: errno, subject: plan.diskSocket)
        }
        listener = try LocalSocket.listen(at: plan.controlSocket)
        guard chmod(plan.controlSocket, 0o600) == 0 else {
            throw SystemError(operation: "set the mode of", errno: errno, subject: plan.controlSocket)
        }
    }

    /// Returns when the guest has ended, or the agent said so.
    public func run() throws {
        let guest = try PidDescriptor(plan.guestPID)
        _ = try NamedThread.start("disk-guest") { [self] in
            _ = try? guest.waitForExit(timeout: nil)
            finish()
        }
        while true {
            serve(ControlLine(try LocalSocket.accept(listener)))
        }
    }

    private func finish() -> Never {
        plan.removeSockets()
        exit(0)
    }

    /// One agent at a time.
    private func serve(_ line: ControlLine) {
        agent.change { $0 = line }
        while let (order, socket) = line.nextOrder() {
            var failure: String?
            do {
                try carryOut(order, socket)
            } catch {
                failure = "\(error)"
            }
            line.send(ServedLine(isAnswer: true, failure: failure, report: disk.report))
            if order == .end { finish() }
        }
        // Its requests break off by themselves, with the other socket.
        agent.change { $0 = nil }
    }

    private func carryOut(_ order: ServedOrder, _ socket: Int32?) throws {
        switch order {
        case .pair:
            guard let socket else { throw StorageError.unavailable("no socket came with the order to pair") }
            try disk.pair(over: OwnedDescriptor(owning: socket))
        case .alone: disk.goAlone()
        case .noted(let loss): disk.note(loss)
        case .lock: try disk.lock()
        case .unlock: disk.unlock()
        case .rejoin: try disk.rejoin()
        case .look, .end: break
        }
    }
}
